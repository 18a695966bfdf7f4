//! Whether one target has the live stream of a partition to itself and moves on. Pure.
//!
//! Then there is nobody whom it could hold up, and a cursor would only read everything a second time: its events stay in
//! Kafka until there is room for them. As soon as others have events too, or it is slow, it is treated like any other.

use std::sync::Arc;

/// How long it is watched before it is called slow.
const WATCHED_MS: i64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lone {
    target: Option<Arc<str>>,
    /// Its live tasks since there was one of another target.
    in_a_row: usize,
    /// In how long it has not made good what it was given.
    is_slow: bool,
    watch: Option<Watch>,
}

/// What it had to do when it was looked at.
#[derive(Debug, Clone, Copy)]
struct Watch {
    since_ms: i64,
    waiting: usize,
    /// Live tasks that it got since.
    got: usize,
}

impl Lone {
    /// The live stream brought a task of `target`.
    pub(super) fn note(&mut self, target: &Arc<str>) {
        if self.target.as_ref() == Some(target) {
            self.in_a_row = self.in_a_row.saturating_add(1);
            if let Some(watch) = &mut self.watch {
                watch.got += 1;
            }
        } else {
            *self = Self { target: Some(Arc::clone(target)), in_a_row: 1, ..Self::default() };
        }
    }

    /// Once in a while: `waiting` tells how many tasks of a target wait. One that has work and does less than `share` tasks a
    /// second is slow.
    pub(super) fn look(&mut self, waiting: impl Fn(&str) -> usize, share: usize, now_ms: i64) {
        let Some(target) = &self.target else { return };
        let now = Watch { since_ms: now_ms, waiting: waiting(target), got: 0 };
        let Some(before) = self.watch else {
            self.watch = Some(now);
            return;
        };
        if now_ms - before.since_ms >= WATCHED_MS {
            let ended = (before.waiting + before.got).saturating_sub(now.waiting);
            self.is_slow = now.waiting >= Self::ahead(share) && ended < share;
            self.watch = Some(now);
        }
    }

    /// The target, if it has the stream to itself and moves on; `share` is what a target may have waiting beside others.
    pub(super) fn target(&self, share: usize) -> Option<&Arc<str>> {
        self.target.as_ref().filter(|_| !self.is_slow && self.in_a_row >= Self::ahead(share))
    }

    /// How many of its tasks may wait: well within its share.
    pub(super) fn ahead(share: usize) -> usize {
        (share / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 100;

    fn alone(target: &Arc<str>) -> Lone {
        let mut lone = Lone::default();
        for _ in 0..50 {
            lone.note(target);
        }
        lone
    }

    #[test]
    fn a_target_is_alone_until_another_one_has_an_event() {
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let mut lone = Lone::default();
        for _ in 0..49 {
            lone.note(&a);
        }
        assert_eq!(lone.target(SHARE), None);
        lone.note(&a);
        assert_eq!(lone.target(SHARE), Some(&a));
        lone.note(&b);
        assert_eq!(lone.target(SHARE), None);
        lone.note(&a);
        assert_eq!(lone.target(SHARE), None);
    }

    #[test]
    fn one_that_moves_on_stays_and_one_that_does_not_is_slow_until_it_has_done_its_work() {
        let a = Arc::from("a");
        let mut lone = alone(&a);
        lone.look(|_| 50, SHARE, 0);
        (0..100).for_each(|_| lone.note(&a));
        lone.look(|_| 50, SHARE, 999);
        lone.look(|_| 50, SHARE, 1_000);
        assert_eq!(lone.target(SHARE), Some(&a), "it did 100 in a second");
        (0..99).for_each(|_| lone.note(&a));
        lone.look(|_| 50, SHARE, 2_000);
        assert_eq!(lone.target(SHARE), None, "and only 99 in the next");
        lone.look(|_| 49, SHARE, 3_000);
        assert_eq!(lone.target(SHARE), Some(&a), "what little it gets it does");
    }
}
