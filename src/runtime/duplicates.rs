//! Which events a partition brought lately, so that one that is written twice takes effect once. Pure.
//!
//! A relay that dies between an acknowledgement and noting it, or a producer that is no idempotent one, writes an event
//! again. The memory holds the last so many events of one partition by id, with a hash of their bytes; it is
//! refilled on assignment by reading as many offsets back. A record that is read again (same offset) is no repeat.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};

/// An event as it is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its id; the tenant is part of it.
    pub(crate) id: u128,
    /// A hash of its bytes.
    pub(crate) bytes: u64,
}

impl Seen {
    /// The event `id` with these bytes.
    pub(crate) fn new(id: u128, payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(payload);
        Self { id, bytes: hasher.finish() }
    }
}

/// What a record is to the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its event wasn't here lately, or this very record brought it.
    New,
    /// The record at that offset brought the same event.
    Duplicate(i64),
    /// The record at that offset brought other bytes under the same id.
    Conflict(i64),
}

/// The events of one partition. Bounded by the number of events.
#[derive(Debug)]
pub(crate) struct Duplicates {
    most: usize,
    /// Oldest first.
    order: VecDeque<u128>,
    known: HashMap<u128, (i64, u64)>,
}

impl Duplicates {
    /// A memory of the last `most` events.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, order: VecDeque::new(), known: HashMap::new() }
    }

    /// Looks the event of the record at `offset` up, and remembers it if it is new.
    pub(crate) fn see(&mut self, offset: i64, seen: Seen) -> Verdict {
        if let Some(&(first, bytes)) = self.known.get(&seen.id) {
            return match (first == offset, bytes == seen.bytes) {
                (true, _) => Verdict::New,
                (false, true) => Verdict::Duplicate(first),
                (false, false) => Verdict::Conflict(first),
            };
        }
        if self.most > 0 {
            if self.order.len() == self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(seen.id);
            self.known.insert(seen.id, (offset, seen.bytes));
        }
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_comes_again_is_a_repeat_and_a_record_that_is_read_again_is_not() {
        let mut memory = Duplicates::new(10);
        let event = Seen::new(7, b"paid");
        assert_eq!(memory.see(3, event), Verdict::New);
        assert_eq!(memory.see(5, event), Verdict::Duplicate(3));
        assert_eq!(memory.see(3, event), Verdict::New);
        assert_eq!(memory.see(6, Seen::new(7, b"shipped")), Verdict::Conflict(3));
    }

    #[test]
    fn only_the_last_events_are_remembered() {
        let mut memory = Duplicates::new(2);
        for id in 0_u8..3 {
            assert_eq!(memory.see(id.into(), Seen::new(id.into(), b"")), Verdict::New);
        }
        assert_eq!(memory.see(9, Seen::new(2, b"")), Verdict::Duplicate(2));
        assert_eq!(memory.see(10, Seen::new(0, b"")), Verdict::New, "forgotten");
        assert_eq!(memory.known.len(), memory.order.len());
    }

    #[test]
    fn a_memory_of_none_remembers_none() {
        let mut memory = Duplicates::new(0);
        assert_eq!(memory.see(1, Seen::new(1, b"")), Verdict::New);
        assert_eq!(memory.see(2, Seen::new(1, b"")), Verdict::New);
    }
}
