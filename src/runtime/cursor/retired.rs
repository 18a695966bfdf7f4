//! Places in a retry partition that are complete, by target, until the group has taken a position that says so. Pure.
//!
//! What a target has finished is told in two writes: its cursor's row, and the positions of the group. Invariant 2 (order)
//! asks that neither gets ahead of the other within a lane, or a crash in between would repeat a task behind what came after
//! it. So a row names the places that the group may not know of, and is stored first.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// See the module. What it holds is what completes between two commits.
#[derive(Debug, Default)]
pub(super) struct Retired {
    places: BTreeMap<Arc<str>, BTreeMap<i64, Said>>,
}

impl Retired {
    /// What rows named: `runs` of places of `target`.
    pub(super) fn restore(&mut self, target: &Arc<str>, runs: &[(i64, i64)]) {
        let places =
            runs.iter().flat_map(|&(first, behind)| first..behind).map(|place| (place, Said::WhenReadBack));
        if !runs.is_empty() {
            self.places.entry(Arc::clone(target)).or_default().extend(places);
        }
    }

    /// A place of `target` is complete, or will be once its row is stored.
    pub(super) fn add(&mut self, target: &Arc<str>, place: i64) {
        self.places.entry(Arc::clone(target)).or_default().insert(place, Said::Nothing);
    }

    /// Positions of this version and later ones say that a place is complete.
    pub(super) fn say(&mut self, target: &str, place: i64, version: u64) {
        if let Some(said) = self.places.get_mut(target).and_then(|places| places.get_mut(&place)) {
            *said = Said::From(version);
        }
    }

    /// The retry partition was read back: the same of all that rows named.
    pub(super) fn read_back(&mut self, version: u64) {
        let named = self.places.values_mut().flat_map(BTreeMap::values_mut);
        named.filter(|said| **said == Said::WhenReadBack).for_each(|said| *said = Said::From(version));
    }

    /// The group has taken a position of this version.
    pub(super) fn committed(&mut self, version: u64) {
        self.places.retain(|_, places| {
            places.retain(|_, said| !matches!(said, Said::From(from) if *from <= version));
            !places.is_empty()
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_until_a_position_is_committed_that_says_it_is_complete() {
        let (mut retired, a, b): (_, Arc<str>, Arc<str>) = (Retired::default(), "a".into(), "b".into());
        [4, 5, 7].into_iter().for_each(|place| retired.add(&a, place));
        retired.add(&b, 6);
        assert_eq!(retired.runs("a"), [(4, 6), (7, 8)]);
        assert!(retired.contains("a", 5) && !retired.contains("a", 6));
        retired.say("a", 4, 3);
        retired.say("a", 5, 4);
        retired.committed(3);
        assert_eq!(retired.runs("a"), [(5, 6), (7, 8)], "of 7 no position says it yet");
        retired.say("a", 7, 5);
        retired.committed(5);
        assert!(retired.is_known("a") && !retired.is_known("b"));
    }

    #[test]
    fn what_rows_named_is_said_once_it_was_read_back_and_what_is_our_own_is_not() {
        let (mut retired, a): (_, Arc<str>) = (Retired::default(), "a".into());
        retired.restore(&a, &[(4, 6)]);
        retired.add(&a, 9);
        retired.committed(7);
        assert_eq!(retired.runs("a"), [(4, 6), (9, 10)]);
        retired.read_back(8);
        retired.committed(7);
        assert!(retired.contains("a", 4));
        retired.committed(8);
        assert_eq!(retired.runs("a"), [(9, 10)]);
    }
}
