//! What has to hold after a run, from what the outside saw. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::outside::{Answer, Attempt, is_poison};

/// What ended this long before a fault may not have been committed yet: the engine hands positions on each 200 ms and
/// commits each 100 ms ([`crate::member_process::COMMIT_INTERVAL`]); the rest is for a machine that is busy.
pub(crate) const UNCOMMITTED_MS: u64 = 1_000;

/// When a fault excuses repeats: of one member, or of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) of: Option<u32>,
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
}

impl Window {
    fn covers(&self, attempt: &Attempt) -> bool {
        self.of.is_none_or(|member| member == attempt.member)
            && attempt.at_ms + UNCOMMITTED_MS >= self.from_ms
            && attempt.from_ms <= self.until_ms
    }
}

/// The counts that have to be nought, and those that say how much there was.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) records: usize,
    pub(crate) attempts: usize,
    /// Attempts beyond the first, as the engine counts them.
    pub(crate) retries: usize,
    /// Sent, and never ended; or to be dead-lettered, and not in the dead-letter topic.
    pub(crate) lost: usize,
    /// Ended before an earlier one of the lane, or while another of the lane ran in the same member.
    pub(crate) order_breaks: usize,
    /// Ended more than once.
    pub(crate) repeated: usize,
    /// Of these, those for which no fault is an excuse: the one before was finished and had time to be committed.
    pub(crate) repeated_without_excuse: usize,
    /// Dead-lettered though it should have been done.
    pub(crate) wrongly_dead: usize,
}

/// Counts, and in words what is wrong.
pub(crate) fn check(
    seed: u64,
    sent: &BTreeMap<u32, u32>,
    attempts: &[Attempt],
    dead_letters: &[(u32, u32)],
    windows: &[Window],
) -> (Counts, Vec<String>) {
    let mut wrong = Vec::new();
    let mut counts = Counts {
        records: sent.values().map(|count| *count as usize).sum(),
        attempts: attempts.len(),
        retries: attempts.iter().filter(|attempt| attempt.attempt > 1).count(),
        ..Counts::default()
    };
    let dead: BTreeSet<(u32, u32)> = dead_letters.iter().copied().collect();
    let mut ended: BTreeMap<u32, BTreeMap<u32, Attempt>> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| matches!(attempt.answer, Answer::Done | Answer::Dead)) {
        let lane = ended.entry(attempt.lane).or_default();
        match lane.insert(attempt.number, *attempt) {
            Some(before) => {
                counts.repeated += 1;
                if !windows.iter().any(|window| window.covers(&before) || window.covers(attempt)) {
                    counts.repeated_without_excuse += 1;
                    wrong.push(format!("repeated without excuse: {before:?}, then {attempt:?}"));
                }
            }
            None if lane.range(..attempt.number).count() as u64 != u64::from(attempt.number) => {
                counts.order_breaks += 1;
                wrong.push(format!("before an earlier one of its lane: {attempt:?}"));
            }
            None => {}
        }
    }
    for overlap in overlaps(attempts) {
        counts.order_breaks += 1;
        wrong.push(overlap);
    }
    for (&lane, &count) in sent {
        for number in 0..count {
            let has_ended = ended.get(&lane).is_some_and(|lane| lane.contains_key(&number));
            let is_dead = dead.contains(&(lane, number));
            let poison = is_poison(seed, lane, number);
            if !has_ended || poison && !is_dead {
                counts.lost += 1;
                wrong.push(format!("lost: {lane} {number} (ended {has_ended}, dead-lettered {is_dead})"));
            }
            if is_dead && !poison {
                counts.wrongly_dead += 1;
                wrong.push(format!("dead-lettered for no reason: {lane} {number}"));
            }
        }
    }
    (counts, wrong)
}

/// Two different tasks of a lane at once in one member.
fn overlaps(attempts: &[Attempt]) -> Vec<String> {
    let mut last: BTreeMap<(u32, u32), &Attempt> = BTreeMap::new();
    let mut by_start: Vec<&Attempt> = attempts.iter().collect();
    by_start.sort_by_key(|attempt| (attempt.from_ms, attempt.at_ms));
    let mut found = Vec::new();
    for attempt in by_start {
        let before = last.insert((attempt.member, attempt.lane), attempt);
        // Both are known to the millisecond: one that begins in the one in which another ends isn't an overlap.
        if let Some(before) =
            before.filter(|before| before.number != attempt.number && attempt.from_ms < before.at_ms)
        {
            found.push(format!("two of a lane at once: {before:?} and {attempt:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(member: u32, number: u32, at_ms: u64) -> Attempt {
        let answer = Answer::Done;
        Attempt { from_ms: at_ms, at_ms, member, lane: 1, number, attempt: 1, answer }
    }

    fn of(attempts: &[Attempt], windows: &[Window]) -> Counts {
        let (first_poison, _) = ((0..).map(|seed| (seed, is_poison(seed, 1, 0) || is_poison(seed, 1, 1))))
            .find(|(_, poison)| !poison)
            .expect("most are not");
        check(first_poison, &BTreeMap::from([(1, 2)]), attempts, &[], windows).0
    }

    #[test]
    fn what_is_missing_early_or_repeated_is_found() {
        let fine = of(&[done(1, 0, 10), done(1, 1, 20)], &[]);
        assert_eq!((fine.lost, fine.order_breaks, fine.repeated), (0, 0, 0));
        assert_eq!(of(&[done(1, 0, 10)], &[]).lost, 1);
        assert_eq!(of(&[done(1, 1, 10), done(1, 0, 20)], &[]).order_breaks, 1);
        let again = [done(1, 0, 10), done(1, 1, 20), done(2, 1, 5_000)];
        assert_eq!(of(&again, &[]).repeated_without_excuse, 1);
        let killed = |at| Window { of: Some(1), from_ms: at, until_ms: at };
        assert_eq!(of(&again, &[killed(500)]).repeated_without_excuse, 0);
        assert_eq!(of(&again, &[killed(3_000)]).repeated_without_excuse, 1, "it had time to be committed");
        assert_eq!(
            of(&again, &[Window { of: Some(7), from_ms: 0, until_ms: 9_000 }]).repeated_without_excuse,
            1
        );
    }

    #[test]
    fn two_of_a_lane_at_once_are_found() {
        let long = Attempt { from_ms: 10, ..done(1, 0, 50) };
        assert_eq!(of(&[done(1, 1, 30), long], &[]).order_breaks, 2, "early, and at once");
        assert_eq!(of(&[long, Attempt { from_ms: 50, ..done(1, 1, 60) }], &[]).order_breaks, 0);
    }
}
