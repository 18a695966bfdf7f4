//! Whether one target has the live stream of a partition to itself and moves on. Pure.
//!
//! Then a cursor would only read everything a second time: its events stay in Kafka until there is room for them. Who comes
//! behind them isn't known yet, and waits for as long as the machine takes to serve them; so it has to be fast, and
//! another target that had an event counts for a while.

use std::sync::Arc;

/// How long it is watched before it is called slow.
const WATCHED_MS: i64 = 1_000;
/// How long another target's event counts.
const OTHERS_COUNT_MS: i64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lone {
    target: Option<Arc<str>>,
    /// Its live tasks since there was one of another target.
    in_a_row: usize,
    /// When that was.
    other_ms: Option<i64>,
    /// It had work waiting, and got too little of it done.
    is_slow: bool,
    watch: Option<Watch>,
    /// What it got done in a second, when it was watched last; and whether it has work waiting.
    rate: usize,
    is_busy: bool,
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
    pub(super) fn note(&mut self, target: &Arc<str>, now_ms: i64) {
        if self.target.as_ref() == Some(target) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            let other_ms = self.target.is_some().then_some(now_ms);
            *self = Self { target: Some(Arc::clone(target)), in_a_row: 1, other_ms, ..Self::default() };
        }
    }

    /// The task that was noted is to be run, and isn't a cursor's.
    pub(super) fn took(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.got += 1;
        }
    }

    /// Once in a while: `waiting` tells how many tasks of a target wait. Gives the target when it was watched long enough to be
    /// judged anew.
    pub(super) fn look(
        &mut self,
        waiting: impl Fn(&str) -> usize,
        share: usize,
        now_ms: i64,
    ) -> Option<Arc<str>> {
        let target = self.target.as_ref()?;
        let now = Watch { since_ms: now_ms, waiting: waiting(target), got: 0 };
        let before = *self.watch.get_or_insert(now);
        let elapsed_ms = now_ms - before.since_ms;
        // The clock may be set back.
        if (0..WATCHED_MS).contains(&elapsed_ms) {
            return None;
        }
        let ended = (before.waiting + before.got).saturating_sub(now.waiting);
        self.rate = usize::try_from(elapsed_ms).map_or(0, |elapsed| ended * 1_000 / elapsed);
        self.is_busy = now.waiting >= Self::ahead(share);
        self.watch = Some(now);
        Some(Arc::clone(target))
    }

    /// What `target` got done here in a second.
    pub(super) fn rate_of(&self, target: &Arc<str>) -> usize {
        if self.target.as_ref() == Some(target) { self.rate } else { 0 }
    }

    /// It gets so much done in a second on all partitions: one that has work and does less than `enough` is slow.
    pub(super) fn judge(&mut self, rate: usize, enough: usize) {
        self.is_slow = self.is_busy && rate < enough;
    }

    /// The target, if it has the stream to itself and moves on; `share` is what a target may have waiting beside others.
    pub(super) fn target(&self, share: usize, now_ms: i64) -> Option<&Arc<str>> {
        let is_alone = self.in_a_row >= Self::ahead(share)
            && self.other_ms.is_none_or(|other_ms| now_ms - other_ms >= OTHERS_COUNT_MS);
        self.target.as_ref().filter(|_| is_alone && !self.is_slow)
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

    fn note(lone: &mut Lone, target: &Arc<str>, times: usize, now_ms: i64) {
        for _ in 0..times {
            lone.note(target, now_ms);
            lone.took();
        }
    }

    /// Looks, and judges by what it does on this partition and, in a second, on `elsewhere`.
    fn look(lone: &mut Lone, waiting: usize, elsewhere: usize, now_ms: i64) {
        if let Some(target) = lone.look(|_| waiting, SHARE, now_ms) {
            lone.judge(lone.rate_of(&target) + elsewhere, 2 * SHARE);
        }
    }

    #[test]
    fn a_target_is_alone_until_another_one_has_an_event_and_again_long_after() {
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let mut lone = Lone::default();
        note(&mut lone, &a, 49, 0);
        assert_eq!(lone.target(SHARE, 0), None);
        note(&mut lone, &a, 1, 0);
        assert_eq!(lone.target(SHARE, 0), Some(&a));
        note(&mut lone, &b, 1, 1);
        assert_eq!(lone.target(SHARE, 1), None);
        note(&mut lone, &a, 500, 2);
        assert_eq!(lone.target(SHARE, 60_001), None);
        assert_eq!(lone.target(SHARE, 60_002), Some(&a));
    }

    #[test]
    fn one_that_moves_on_stays_and_one_that_does_not_is_slow_until_it_has_done_its_work() {
        let a = Arc::from("a");
        let mut lone = Lone::default();
        note(&mut lone, &a, 50, 0);
        look(&mut lone, 50, 0, 0);
        note(&mut lone, &a, 400, 0);
        look(&mut lone, 50, 0, 999);
        look(&mut lone, 50, 0, 2_000);
        assert_eq!(lone.target(SHARE, 2_000), Some(&a), "it did 200 a second");
        note(&mut lone, &a, 199, 2_000);
        look(&mut lone, 50, 1, 3_000);
        assert_eq!(lone.target(SHARE, 3_000), Some(&a), "with what it did elsewhere");
        note(&mut lone, &a, 199, 3_000);
        look(&mut lone, 50, 0, 4_000);
        assert_eq!(lone.target(SHARE, 4_000), None);
        look(&mut lone, 49, 0, 5_000);
        assert_eq!(lone.target(SHARE, 5_000), Some(&a), "what little it gets it does");
        look(&mut lone, 60, 0, 4_999);
        assert_eq!(lone.target(SHARE, 4_999), None, "a clock that goes back hides nothing");
    }

    #[test]
    fn what_a_cursor_serves_is_not_taken_for_work_that_is_done() {
        let a = Arc::from("a");
        let mut lone = Lone::default();
        note(&mut lone, &a, 50, 0);
        look(&mut lone, 50, 0, 0);
        (0..1_000).for_each(|_| lone.note(&a, 1));
        look(&mut lone, 50, 0, 1_000);
        assert_eq!(lone.target(SHARE, 1_000), None);
    }
}
