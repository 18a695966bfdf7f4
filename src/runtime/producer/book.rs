//! What was handed in and isn't answered yet, in that order: what a new client has to send again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use super::{Delivered, OutRecord};

/// Records that may wait for an answer; as many as fit into librdkafka's own queue.
const MOST: usize = 100_000;
/// How long a record is tried, by however many clients: as long as one of them tries by default.
const LONGEST: Duration = Duration::from_secs(120);

/// What became of a record.
pub(super) type Answer = Result<Delivered, KafkaError>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    last: u64,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    record: Arc<OutRecord>,
    since: Instant,
    /// The client that has it; none, when it waits for the next one.
    by: Option<u64>,
    /// A client had it.
    tried: bool,
    /// More than one had it.
    resent: bool,
    reply: oneshot::Sender<Answer>,
}

/// The record that has waited longest.
#[derive(Debug, Clone)]
pub(super) struct Oldest {
    pub(super) number: u64,
    pub(super) record: Arc<OutRecord>,
    pub(super) waits: Duration,
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// Notes a record that goes to that client, or waits for one. `None` when there are too many.
    pub(super) fn note(
        &mut self,
        record: &Arc<OutRecord>,
        by: Option<u64>,
    ) -> Option<(u64, oneshot::Receiver<Answer>)> {
        if self.open.len() >= MOST {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.last += 1;
        let (record, since, tried) = (Arc::clone(record), Instant::now(), by.is_some());
        self.open.insert(self.last, Open { record, since, by, tried, resent: false, reply });
        Some((self.last, answer))
    }

    /// Forgets a record that was refused at once.
    pub(super) fn strike(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// It lies in the log, whichever client brought it there.
    pub(super) fn delivered(&mut self, number: u64, (partition, offset): (i32, i64)) {
        if let Some(open) = self.open.remove(&number) {
            // Whoever waited may be gone.
            let _ = open.reply.send(Ok(Delivered { partition, offset, resent: open.resent }));
        }
    }

    /// A client failed with it for good. Of no interest when another one has it by now.
    pub(super) fn failed(&mut self, number: u64, by: u64, error: KafkaError) {
        if self.open.get(&number).is_some_and(|open| open.by == Some(by))
            && let Some(open) = self.open.remove(&number)
        {
            let _ = open.reply.send(Err(error));
        }
    }

    /// A client gave it back: the next one has to send it.
    pub(super) fn give_back(&mut self, number: u64, by: u64) {
        if let Some(open) = self.open.get_mut(&number).filter(|open| open.by == Some(by)) {
            open.by = None;
        }
    }

    /// The record that has waited longest, of those that somebody waits for.
    pub(super) fn oldest(&self) -> Option<Oldest> {
        let (&number, open) = self.open.iter().find(|(_, open)| !open.reply.is_closed())?;
        Some(Oldest { number, record: Arc::clone(&open.record), waits: open.since.elapsed() })
    }

    /// Whether that record still waits.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// All records that the client `to` has not, in order, noted as handed to it. What nobody waits for any more is left
    /// out: it was given up, and whoever did that tries again or doesn't mind.
    /// What has waited for as long as a client itself tries is answered as that client would.
    pub(super) fn hand_on(&mut self, to: u64) -> Vec<(u64, Arc<OutRecord>)> {
        self.open.retain(|_, open| open.by == Some(to) || !open.reply.is_closed());
        let late = self.open.extract_if(.., |_, open| open.by != Some(to) && open.since.elapsed() >= LONGEST);
        for (_, open) in late {
            // Whoever waited may be gone.
            let _ = open.reply.send(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
        }
        let others = self.open.iter_mut().filter(|(_, open)| open.by != Some(to));
        others
            .map(|(&number, open)| {
                open.by = Some(to);
                open.resent = std::mem::replace(&mut open.tried, true);
                (number, Arc::clone(&open.record))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: u8) -> Arc<OutRecord> {
        Arc::new(OutRecord::keyed("t", vec![key], vec![]))
    }

    fn keys(handed: &[(u64, Arc<OutRecord>)]) -> Vec<u8> {
        handed.iter().map(|(_, record)| record.key.as_ref().expect("a key")[0]).collect()
    }

    #[test]
    fn a_new_client_gets_what_is_unanswered_in_the_order_in_which_it_was_handed_in() {
        let mut book = Book::default();
        let mut notes: Vec<_> = (0..5).map(|key| book.note(&record(key), Some(0)).expect("room")).collect();
        let waits = book.note(&record(5), None).expect("room");
        book.give_back(notes[3].0, 0);
        book.delivered(notes[0].0, (1, 7));
        assert_eq!(notes[0].1.try_recv(), Ok(Ok(Delivered { partition: 1, offset: 7, resent: false })));
        drop(notes.remove(4));
        assert_eq!(keys(&book.hand_on(1)), [1, 2, 3, 5]);
        // The old client's word about them counts only when it got them there.
        book.failed(notes[1].0, 0, KafkaError::Canceled);
        book.give_back(notes[2].0, 0);
        assert!(book.hand_on(1).is_empty());
        book.delivered(notes[1].0, (1, 8));
        assert_eq!(notes[1].1.try_recv(), Ok(Ok(Delivered { partition: 1, offset: 8, resent: true })));
        let (number, mut waits) = waits;
        book.delivered(number, (1, 9));
        assert_eq!(waits.try_recv(), Ok(Ok(Delivered { partition: 1, offset: 9, resent: false })));
        assert_eq!(keys(&book.hand_on(2)), [2, 3]);
    }

    #[test]
    fn the_oldest_is_one_that_somebody_waits_for_and_the_book_is_bounded() {
        let mut book = Book::default();
        let (_, gone) = book.note(&record(0), Some(0)).expect("room");
        let (number, _waits) = book.note(&record(1), Some(0)).expect("room");
        drop(gone);
        assert_eq!(book.oldest().map(|oldest| oldest.number), Some(number));
        let same = record(2);
        while book.note(&same, Some(0)).is_some() {}
        assert_eq!(book.open.len(), MOST);
    }
}
