//! The survey before a backfill that brings only the newest events: which offset is the newest of each lane.
//!
//! A stretch is read once for that, then read again to be brought. A partition keeps surveys for [`MOST_SURVEYS`] targets
//! at once, others wait for their turn, and each holds no more than [`MOST_LANES`]: a longer stretch is surveyed and
//! brought piece by piece, and a lane that goes on over several pieces gets the newest event of each.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::engine::Engine;
use super::intake;
use super::own_cursors::OwnCursors;
use super::past::{self, Stretch};
use super::report::What;
use crate::clock::Clock;
use crate::runtime::duplicates::{Duplicates, Seen, Verdict};
use crate::runtime::outcome::Failure;
use crate::runtime::stage::{EffectStage, Tasks};

use super::cursors::Told;

/// Surveys that a partition keeps at once.
const MOST_SURVEYS: usize = 4;
/// Lanes of a piece, at most: some four megabytes.
const MOST_LANES: usize = 100_000;

/// A lane's name, in short.
pub(super) type LaneHash = u128;

/// A task that was seen: its lane, its offset and its event, where the stage can tell.
type Found = (LaneHash, i64, Option<Seen>);

/// A chunk that was surveyed.
#[derive(Debug)]
pub(super) struct Surveyed {
    target: Arc<str>,
    found: Vec<Found>,
    /// The offset behind it.
    next: i64,
    /// Something that reading on needs is away.
    away: Option<Failure>,
}

/// See the module. Pure.
#[derive(Debug)]
pub(super) struct Survey {
    target: Arc<str>,
    from: i64,
    /// Behind the last offset that is to be surveyed.
    to: i64,
    /// Everything below is surveyed.
    at: i64,
    newest: HashMap<LaneHash, i64>,
    repeats: Duplicates,
}

impl Survey {
    /// A survey of `from..to` for `target`; `remembers` events are recognised when they were written twice.
    pub(super) fn new(target: &Arc<str>, (from, to): (i64, i64), remembers: usize) -> Self {
        let (newest, repeats) = (HashMap::new(), Duplicates::new(remembers));
        Self { target: Arc::clone(target), from, to, at: from, newest, repeats }
    }

    /// What is to be surveyed next.
    pub(super) fn wants(&self) -> Option<(i64, i64)> {
        (self.at < self.to).then_some((self.at, self.to))
    }

    /// True when it is made, and tells of `offset`.
    pub(super) fn tells_of(&self, offset: i64) -> bool {
        self.at == self.to && (self.from..self.to).contains(&offset)
    }

    /// True when a lane called `lane` has nothing newer than `offset`.
    pub(super) fn is_newest(&self, lane: &str, offset: i64) -> bool {
        self.newest.get(&hash(lane)) == Some(&offset)
    }

    fn take(&mut self, surveyed: &Surveyed) {
        for &(lane, offset, seen) in &surveyed.found {
            let repeats = seen.is_some_and(|seen| self.repeats.see(offset, seen) != Verdict::New);
            if repeats {
                continue;
            }
            if self.newest.len() >= MOST_LANES && !self.newest.contains_key(&lane) {
                (self.at, self.to) = (offset, offset);
                return;
            }
            self.newest.insert(lane, offset);
        }
        self.at = surveyed.next.min(self.to);
    }
}

fn hash(lane: &str) -> LaneHash {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, lane).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Asks which lanes of `target` the records belong to.
async fn survey<S: EffectStage>(stage: &S, clock: &Clock, target: &Arc<str>, stretch: Stretch) -> Surveyed {
    let target = Arc::clone(target);
    let mut surveyed = Surveyed { target, found: Vec::new(), next: stretch.next, away: None };
    for record in stretch.records {
        let mut tasks = Tasks::default();
        match intake::open(stage, clock, &record, &mut tasks).await {
            Ok(intake::What::Tasks(_, opened, seen)) => {
                let of_target =
                    opened.filter_map(|at| tasks.get(at)).filter(|spec| *spec.target == surveyed.target);
                surveyed.found.extend(of_target.map(|spec| (hash(spec.lane), record.offset, seen)));
            }
            Ok(intake::What::Known(_) | intake::What::Skipped(_) | intake::What::Dead(_)) => {}
            Err(why) => {
                (surveyed.next, surveyed.away) = (record.offset, Some(why));
                break;
            }
        }
    }
    surveyed
}

impl OwnCursors {
    /// Forgets surveys that are done with, and begins those that are needed, as many as there may be.
    pub(super) fn plan_surveys(&mut self, remembers: usize) {
        let wanted: BTreeMap<Arc<str>, (i64, i64)> =
            self.table.newest_only().map(|(target, at, to)| (Arc::clone(target), (at, to))).collect();
        self.surveys.retain(|survey| {
            let at = wanted.get(&survey.target).map(|(at, _)| *at);
            at.is_some_and(|at| survey.wants().is_some() || survey.tells_of(at))
        });
        for (target, stretch) in wanted {
            if self.surveys.len() >= MOST_SURVEYS {
                break;
            }
            if self.survey_of(&target).is_none() {
                self.surveys.push(Survey::new(&target, stretch, remembers));
            }
        }
    }

    /// A survey that isn't made yet, and what is to be read for it; they take turns.
    pub(super) fn next_survey(&mut self) -> Option<(Arc<str>, (i64, i64))> {
        let next = self.surveys.iter().position(|survey| survey.wants().is_some())?;
        self.surveys.rotate_left(next + 1);
        let survey = self.surveys.last()?;
        Some((Arc::clone(&survey.target), survey.wants()?))
    }

    fn survey_of(&self, target: &str) -> Option<&Survey> {
        self.surveys.iter().find(|survey| &*survey.target == target)
    }

    /// True unless the reader needs a survey that isn't made to go on for `target`.
    pub(super) fn is_surveyed(&self, target: &str) -> bool {
        self.table
            .newest_only_of(target)
            .is_none_or(|(at, _)| self.survey_of(target).is_some_and(|survey| survey.tells_of(at)))
    }

    /// What the survey says of the tasks of `target` in `lanes` at `offset`: bring them, pass them over, or (`None`) wait
    /// for the next piece.
    pub(super) fn is_newest<'l>(
        &self,
        target: &str,
        offset: i64,
        mut lanes: impl Iterator<Item = &'l str>,
    ) -> Option<bool> {
        if !self.is_surveys_to_tell(target, offset) {
            return Some(true);
        }
        let survey = self.survey_of(target)?;
        survey.tells_of(offset).then(|| lanes.any(|lane| survey.is_newest(lane, offset)))
    }
}

impl<S: EffectStage> Engine<S> {
    /// Reads on for the survey of a partition.
    pub(super) fn survey_on(&mut self, partition: i32) {
        let Some(store) = self.spec.cursors.clone() else { return };
        let Some(reader) = self.reader_of(partition) else { return };
        let Some(own) = self.cursors_of(partition) else { return };
        let Some((target, stretch)) = own.next_survey() else { return };
        own.reading = true;
        let at = Arc::clone(&own.at);
        let (stage, clock) = (Arc::clone(&self.hands.stage), self.env.clock.clone());
        self.spawn(partition, async move {
            let surveyed = match past::read(&reader, &*store, &at, stretch).await {
                Ok(stretch) => Ok(survey(&*stage, &clock, &target, stretch).await),
                Err(why) => Err(why),
            };
            What::Cursors(Box::new(Told::Surveyed(surveyed)))
        });
    }

    pub(super) fn on_surveyed(&mut self, partition: i32, surveyed: Result<Surveyed, Failure>) {
        let Some(own) = self.cursors_of(partition) else { return };
        own.reading = false;
        let surveyed = match surveyed {
            Ok(surveyed) => surveyed,
            Err(why) => return self.wait_to_read(partition, &why),
        };
        if let Some(survey) = own.surveys.iter_mut().find(|survey| survey.target == surveyed.target) {
            survey.take(&surveyed);
        }
        if let Some(why) = surveyed.away {
            self.wait_to_read(partition, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surveyed(found: &[(&str, i64)], next: i64) -> Surveyed {
        let found = found.iter().map(|(lane, offset)| (hash(lane), *offset, None)).collect();
        Surveyed { target: "a".into(), found, next, away: None }
    }

    #[test]
    fn the_newest_of_each_lane_is_told_once_all_is_read() {
        let mut survey = Survey::new(&"a".into(), (10, 20), 0);
        survey.take(&surveyed(&[("x", 10), ("y", 11), ("x", 12)], 13));
        assert!(!survey.tells_of(10), "there may be newer ones");
        assert_eq!(survey.wants(), Some((13, 20)));
        survey.take(&surveyed(&[("x", 15)], 20));
        assert_eq!((survey.wants(), survey.tells_of(19), survey.tells_of(20)), (None, true, false));
        let newest = |lane, offset| survey.is_newest(lane, offset);
        assert_eq!([newest("x", 12), newest("x", 15), newest("y", 11)], [false, true, true]);
    }

    #[test]
    fn an_event_that_was_written_twice_counts_where_it_came_first() {
        let mut survey = Survey::new(&"a".into(), (0, 9), 10);
        let event = |offset, id| (hash("x"), offset, Some(Seen::new(id, b"")));
        let found = vec![event(0, 1), event(1, 2), event(2, 1)];
        survey.take(&Surveyed { found, ..surveyed(&[], 9) });
        assert!(survey.is_newest("x", 1), "the third is the first once more");
    }

    #[test]
    fn more_lanes_than_fit_are_surveyed_piece_by_piece() {
        let mut survey = Survey::new(&"a".into(), (0, 1_000_000), 0);
        let lanes: Vec<_> =
            (0..=MOST_LANES as i64).map(|lane| (hash(&lane.to_string()), lane, None)).collect();
        survey.take(&Surveyed { found: lanes, ..surveyed(&[], 900_000) });
        let piece = MOST_LANES as i64;
        assert_eq!((survey.tells_of(piece - 1), survey.tells_of(piece), survey.wants()), (true, false, None));
        assert!(survey.is_newest("7", 7));
    }
}
