//! How many slots endpoints may hold together that failed last, until they answer again or are known to be away.
//!
//! A failure may be a time-out, so that each costs a slot for as long as that. Before its breaker has opened and a probe was made
//! in vain, an endpoint fails several times; many such endpoints would take every slot of the stage each time. Half of the
//! slots is always left to those of whom nothing bad is known.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How long an endpoint waits that finds all of these slots taken. Nobody tells it when one is free.
const PAUSE_MS: i64 = 100;

/// The requests under way to endpoints that failed last, and how many there may be.
#[derive(Debug)]
pub(super) struct Doubts {
    running: AtomicUsize,
    most: usize,
}

impl Doubts {
    /// Of a stage that has so many slots.
    pub(super) fn of(slots: usize) -> Self {
        Self { running: AtomicUsize::new(0), most: (slots / 2).max(1) }
    }

    /// A request to such an endpoint is under way until what this gives is dropped.
    pub(super) fn running(&self) -> Doubted<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Doubted(self)
    }

    /// When the next one may start, if not now.
    pub(super) fn not_before(&self, now_ms: i64) -> Option<i64> {
        (self.running.load(Ordering::Relaxed) >= self.most).then_some(now_ms + PAUSE_MS)
    }
}

/// A request to an endpoint that failed last, from its beginning to its end, however it ends.
#[derive(Debug)]
pub(super) struct Doubted<'a>(&'a Doubts);

impl Drop for Doubted<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slots_and_at_least_one_are_for_those_who_failed() {
        let doubts = Doubts::of(5);
        let first = doubts.running();
        assert_eq!(doubts.not_before(7), None);
        let second = doubts.running();
        assert_eq!(doubts.not_before(7), Some(7 + PAUSE_MS));
        drop(first);
        assert_eq!(doubts.not_before(7), None);
        drop(second);
        assert_eq!(Doubts::of(1).not_before(7), None);
    }
}
