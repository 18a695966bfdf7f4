//! Places in a retry partition that are complete, by target, until the group has taken a position that says so. Pure.
//!
//! What a target has finished is told in two writes: its cursor's row, and the positions of the group. Invariant 2 (order)
//! asks that neither gets ahead of the other within a lane, or a crash in between would repeat a task behind what came after
//! it. So a row names the places that the group may not know of, and is stored first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::Cursors;

/// What the retry side's position says of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// That it is complete, once the retry partition was read back: a row named it.
    WhenReadBack,
    /// Nothing.
    Nothing,
    /// That it is complete, from this version on.
    From(u64),
}

/// Places of a partition that are named, at most: what completes between two commits is far less.
const MOST: usize = 50_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retired {
    places: BTreeMap<Arc<str>, BTreeMap<i64, Said>>,
    count: usize,
    /// The version that the group took last, while nothing was said of a place since.
    looked_at: Option<u64>,
}

impl Retired {
    /// What rows named: `runs` of places of `target`.
    pub(super) fn restore(&mut self, target: &Arc<str>, runs: &[(i64, i64)]) {
        for place in runs.iter().flat_map(|&(first, behind)| first..behind).take(MOST) {
            self.insert(target, place, Said::WhenReadBack);
        }
    }

    /// A place of `target` is complete, or will be once its row is stored. False when there are too many.
    pub(super) fn add(&mut self, target: &Arc<str>, place: i64) -> bool {
        let has_room = self.count < MOST || self.contains(target, place);
        if has_room {
            self.insert(target, place, Said::Nothing);
        }
        has_room
    }

    fn insert(&mut self, target: &Arc<str>, place: i64, said: Said) {
        let former = self.places.entry(Arc::clone(target)).or_default().insert(place, said);
        self.count += usize::from(former.is_none());
    }

    /// Positions of this version and later ones say that a place is complete.
    pub(super) fn say(&mut self, target: &str, place: i64, version: u64) {
        if let Some(said) = self.places.get_mut(target).and_then(|places| places.get_mut(&place)) {
            *said = Said::From(version);
            self.looked_at = None;
        }
    }

    /// The retry partition was read back: the same of all that rows named.
    pub(super) fn read_back(&mut self, version: u64) {
        self.looked_at = None;
        let named = self.places.values_mut().flat_map(BTreeMap::values_mut);
        named.filter(|said| **said == Said::WhenReadBack).for_each(|said| *said = Said::From(version));
    }

    /// The group has taken a position of this version. Gives the targets of which nothing is to be named any more.
    pub(super) fn committed(&mut self, version: u64) -> Vec<Arc<str>> {
        if self.looked_at.replace(version) == Some(version) {
            return Vec::new();
        }
        let count = &mut self.count;
        let known = self.places.extract_if(.., |_, places| {
            *count -= places.len();
            places.retain(|_, said| !matches!(said, Said::From(from) if *from <= version));
            *count += places.len();
            places.is_empty()
        });
        known.map(|(target, _)| target).collect()
    }

    /// True when the place is complete.
    pub(super) fn contains(&self, target: &str, place: i64) -> bool {
        self.places.get(target).is_some_and(|places| places.contains_key(&place))
    }

    /// True when the group knows of all places of `target`.
    pub(super) fn is_known(&self, target: &str) -> bool {
        !self.places.contains_key(target)
    }

    /// The places of `target`, as runs: first, behind the last.
    pub(super) fn runs(&self, target: &str) -> Vec<(i64, i64)> {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for &place in self.places.get(target).into_iter().flat_map(BTreeMap::keys) {
            match runs.last_mut().filter(|(_, behind)| *behind == place) {
                Some((_, behind)) => *behind += 1,
                None => runs.push((place, place + 1)),
            }
        }
        runs
    }
}

impl Cursors {
    /// A place of `target` in the retry partition is complete, or will be once its cursor is stored: see [`Cursors::unknown`].
    /// False when there are too many to be named.
    pub(crate) fn retire(&mut self, target: &Arc<str>, place: i64) -> bool {
        self.cursor_mut(target);
        self.retired.add(target, place)
    }

    /// The retry side's position says so from this version on.
    pub(crate) fn note_retired(&mut self, target: &str, place: i64, version: u64) {
        self.retired.say(target, place, version);
    }

    /// The retry partition was read back: its position says it of all that rows named, from this version on.
    pub(crate) fn note_read_back(&mut self, version: u64) {
        self.retired.read_back(version);
    }

    /// The group has taken the retry side's position of this version.
    pub(crate) fn note_committed(&mut self, version: u64) {
        // A row that names places for long may name what another log has there.
        for target in self.retired.committed(version) {
            self.cursor_mut(&target);
        }
    }

    /// True when a place of `target` is complete, whatever the position says that the group has.
    pub(crate) fn is_retired(&self, target: &str, place: i64) -> bool {
        self.retired.contains(target, place)
    }

    /// What the store must know before the group may hear of anything that `target` has finished by now: a change by number.
    /// `None` when it knows.
    pub(crate) fn unknown(&self, target: &str) -> Option<u64> {
        match self.cursors.get(target) {
            Some(cursor) => cursor.unknown(),
            None => self.gone.contains(target).then_some(self.noted),
        }
    }

    /// True when the store knows of that change.
    pub(crate) fn is_known(&self, target: &str, change: u64) -> bool {
        match self.cursors.get(target) {
            Some(cursor) => cursor.is_known(change),
            None => !self.gone.contains(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_until_a_position_is_committed_that_says_it_is_complete() {
        let (mut retired, a, b): (_, Arc<str>, Arc<str>) = (Retired::default(), "a".into(), "b".into());
        assert!([4, 5, 7].into_iter().all(|place| retired.add(&a, place)) && retired.add(&b, 6));
        assert_eq!(retired.runs("a"), [(4, 6), (7, 8)]);
        assert!(retired.contains("a", 5) && !retired.contains("a", 6));
        retired.say("a", 4, 3);
        retired.say("a", 5, 4);
        retired.committed(3);
        assert_eq!(retired.runs("a"), [(5, 6), (7, 8)], "of 7 no position says it yet");
        retired.say("a", 7, 5);
        assert_eq!(retired.committed(5), [a]);
        assert!(retired.is_known("a") && !retired.is_known("b"));
    }

    #[test]
    fn what_rows_named_is_said_once_it_was_read_back_and_what_is_our_own_is_not() {
        let (mut retired, a): (_, Arc<str>) = (Retired::default(), "a".into());
        retired.restore(&a, &[(4, 6)]);
        assert!(retired.add(&a, 9));
        assert!(retired.committed(7).is_empty());
        assert_eq!(retired.runs("a"), [(4, 6), (9, 10)]);
        retired.read_back(8);
        assert!(retired.committed(7).is_empty() && retired.contains("a", 4));
        assert!(retired.committed(8).is_empty());
        assert_eq!(retired.runs("a"), [(9, 10)]);
    }

    #[test]
    fn no_more_are_named_than_there_is_room_for() {
        let (mut retired, a): (_, Arc<str>) = (Retired::default(), "a".into());
        let most = i64::try_from(MOST).unwrap();
        assert!((0..most).all(|place| retired.add(&a, place)));
        assert!(!retired.add(&a, most) && !retired.contains("a", most));
        retired.say("a", 0, 1);
        retired.committed(1);
        assert!(retired.add(&a, most));
    }
}
