//! Which events a partition brought lately, so that one that is written twice takes effect once. Pure.
//!
//! A relay that dies between an acknowledgement and noting it, or a producer that is no idempotent one, writes an event
//! again. The memory holds the last so many events of one partition by id, with a hash of their bytes; it is
//! refilled on assignment by reading as many offsets back. A record that is read again (same offset) is no repeat.

use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashTable};

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

/// An event that was seen, and the offset of the record that brought it.
#[derive(Debug, Clone, Copy)]
struct Event {
    id: u128,
    bytes: u64,
    offset: i64,
}

impl Event {
    /// What the record at `offset` is that brings it again.
    fn verdict(&self, offset: i64, seen: Seen) -> Verdict {
        match (self.offset == offset, self.bytes == seen.bytes) {
            (true, _) => Verdict::New,
            (false, true) => Verdict::Duplicate(self.offset),
            (false, false) => Verdict::Conflict(self.offset),
        }
    }
}

/// The events of one partition. Bounded by the number of events.
///
/// A ring of events and a table of places in it: to find that an event is new, which most are, takes a look at the table alone,
/// and the table is small.
#[derive(Debug)]
pub(crate) struct Duplicates {
    most: usize,
    /// As many as are remembered, at most; then a new one takes the place of the oldest.
    ring: Vec<Event>,
    /// Where the oldest is, once the ring is full.
    oldest: usize,
    /// Places in the ring, by id.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Duplicates {
    /// A memory of the last `most` events.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.min(u32::MAX as usize),
            ring: Vec::new(),
            oldest: 0,
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Looks the event of the record at `offset` up, and remembers it if it is new.
    pub(crate) fn see(&mut self, offset: i64, seen: Seen) -> Verdict {
        let hash = self.hasher.hash_one(seen.id);
        if let Some(known) = self.find(hash, seen.id) {
            return known.verdict(offset, seen);
        }
        if self.most > 0 {
            let place = self.put(Event { id: seen.id, bytes: seen.bytes, offset });
            let (ring, hasher) = (&self.ring, &self.hasher);
            self.places.insert_unique(hash, place, |other| hasher.hash_one(ring[*other as usize].id));
        }
        Verdict::New
    }

    /// Looks the event of the record at `offset` up; remembers nothing.
    pub(crate) fn look(&self, offset: i64, seen: Seen) -> Verdict {
        let known = self.find(self.hasher.hash_one(seen.id), seen.id);
        known.map_or(Verdict::New, |known| known.verdict(offset, seen))
    }

    fn find(&self, hash: u64, id: u128) -> Option<&Event> {
        let place = self.places.find(hash, |place| self.ring[*place as usize].id == id)?;
        self.ring.get(*place as usize)
    }

    /// Puts an event into the ring, in place of the oldest when it is full; gives its place.
    fn put(&mut self, event: Event) -> u32 {
        let place = if self.ring.len() < self.most { self.ring.len() } else { self.oldest };
        // It was made from as many as are remembered, which a `u32` counts.
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let Some(oldest) = self.ring.get_mut(place) else {
            self.ring.push(event);
            return number;
        };
        let gone = std::mem::replace(oldest, event);
        self.oldest = (place + 1) % self.most;
        let hash = self.hasher.hash_one(gone.id);
        if let Ok(entry) = self.places.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        number
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
        assert_eq!((memory.places.len(), memory.ring.len()), (2, 2));
    }

    #[test]
    fn what_is_only_looked_up_is_not_remembered() {
        let mut memory = Duplicates::new(10);
        let event = Seen::new(7, b"paid");
        assert_eq!((memory.look(3, event), memory.see(5, event)), (Verdict::New, Verdict::New));
        assert_eq!((memory.look(5, event), memory.look(3, event)), (Verdict::New, Verdict::Duplicate(5)));
        assert_eq!(memory.look(6, Seen::new(7, b"shipped")), Verdict::Conflict(5));
    }

    #[test]
    fn a_memory_of_none_remembers_none() {
        let mut memory = Duplicates::new(0);
        assert_eq!(memory.see(1, Seen::new(1, b"")), Verdict::New);
        assert_eq!(memory.see(2, Seen::new(1, b"")), Verdict::New);
    }
}
