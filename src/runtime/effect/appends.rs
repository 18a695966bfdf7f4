//! Records on their way to the retry or dead-letter topic: for which of them Kafka's acknowledgement is overdue.
//!
//! A lane, or with a marker a whole partition, waits for each of them; while Kafka doesn't take them, that has to be seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An acknowledgement that takes longer is overdue.
const OVERDUE: Duration = Duration::from_secs(2);

/// The appends of one member that are under way.
#[derive(Debug, Default)]
pub(super) struct Appends(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    /// By when they began.
    open: BTreeMap<u64, Append>,
}

#[derive(Debug)]
struct Append {
    partition: i32,
    topic: Arc<str>,
    since: Instant,
}

/// One of them; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    appends: Arc<Appends>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.appends.lock().open.remove(&self.number);
    }
}

impl Appends {
    /// Notes that an append of a partition begins.
    pub(super) fn begin(self: &Arc<Self>, partition: i32, topic: &Arc<str>) -> UnderWay {
        let mut open = self.lock();
        open.last += 1;
        let number = open.last;
        open.open.insert(number, Append { partition, topic: Arc::clone(topic), since: Instant::now() });
        UnderWay { appends: Arc::clone(self), number }
    }

    /// How many are overdue now, and for each partition the topic of the first one.
    pub(super) fn overdue(&self) -> (usize, BTreeMap<i32, Arc<str>>) {
        self.overdue_at(Instant::now())
    }

    fn overdue_at(&self, now: Instant) -> (usize, BTreeMap<i32, Arc<str>>) {
        let (mut count, mut topics) = (0, BTreeMap::new());
        let open = self.lock();
        for append in open.open.values().take_while(|append| now.duration_since(append.since) >= OVERDUE) {
            count += 1;
            topics.entry(append.partition).or_insert_with(|| Arc::clone(&append.topic));
        }
        (count, topics)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_is_told_by_partition_until_it_ends() {
        let appends = Arc::new(Appends::default());
        let first = appends.begin(3, &"retry".into());
        let _second = appends.begin(3, &"dlq".into());
        assert_eq!(appends.overdue().0, 0);
        let later = Instant::now() + OVERDUE;
        assert_eq!(appends.overdue_at(later), (2, BTreeMap::from([(3, "retry".into())])));
        drop(first);
        assert_eq!(appends.overdue_at(later), (1, BTreeMap::from([(3, "dlq".into())])));
    }
}
