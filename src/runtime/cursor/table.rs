//! All cursors of one partition: what becomes of a live task, who is read next, what is to be stored. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backfill::{Backfill, BackfillProgress, BackfillState, Running};
use super::retired::Retired;
use super::row::{CursorRow, Gap};
use super::state::{Cursor, Detached};
use super::store::CursorWrite;

/// Chunks that one place of the log is read for before another's turn comes.
const STREAK: u32 = 16;

/// What becomes of a task that the live stream opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// It is the live stream's: it goes to its lane.
    Own,
    /// It was finished before: complete.
    Finished,
    /// A stored cursor covers it: complete.
    Handed,
    /// A cursor covers it that isn't stored yet: complete once it is.
    Covered,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    pub(super) cursors: BTreeMap<Arc<str>, Cursor>,
    /// The number of the last change of a cursor.
    pub(super) noted: u64,
    pub(super) retired: Retired,
    /// Targets whose rows are to be deleted.
    pub(super) gone: BTreeSet<Arc<str>>,
    gaps: Vec<Gap>,
    /// Backfills that ended.
    ended: Vec<BackfillProgress>,
    granted: Vec<i64>,
    /// Below this the source may have completed what cursors cover, and won't bring it again.
    complete_to: i64,
    /// Whose place is read, and how many chunks of it were.
    turn: Option<(Arc<str>, u32)>,
}

impl Cursors {
    /// A cursor, to be changed.
    pub(super) fn cursor_mut(&mut self, target: &str) -> Option<&mut Cursor> {
        let cursor = self.cursors.get_mut(target)?;
        self.noted += 1;
        cursor.touch(self.noted);
        Some(cursor)
    }

    /// The cursors as they were claimed. No source record at or above `complete_to` is complete.
    pub(crate) fn restore(rows: &[CursorRow], complete_to: i64) -> Self {
        let cursors = rows.iter().map(|row| (Arc::clone(&row.target), Cursor::restore(row))).collect();
        let mut retired = Retired::default();
        rows.iter().for_each(|row| retired.restore(&row.target, &row.places));
        Self { cursors, retired, complete_to, ..Self::default() }
    }

    /// The targets that have a cursor.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.cursors.keys()
    }

    /// What the source has at or above was not complete when the cursors were claimed.
    pub(crate) fn complete_to(&self) -> i64 {
        self.complete_to
    }

    /// How many cursors are caught up, and how many are held.
    pub(crate) fn count(&self) -> (usize, usize) {
        let held = self.cursors.values().filter(|cursor| cursor.held().is_some()).count();
        let behind = self.cursors.values().filter(|cursor| cursor.held().is_none() && cursor.is_detached());
        (behind.count(), held)
    }

    /// Source offsets between the cursors and `end`, over all targets that are detached.
    pub(crate) fn lag(&self, end: i64) -> u64 {
        let detached = self.cursors.values().filter(|cursor| cursor.is_detached());
        detached.map(|cursor| u64::try_from(end - cursor.next()).unwrap_or(0)).sum()
    }

    /// From where on `target` is the live stream's, which would be `start` without a cursor; `None` when it is detached.
    pub(crate) fn live_from(&self, target: &str, start: i64) -> Option<i64> {
        self.cursors.get(target).map_or(Some(start), Cursor::live_from)
    }

    /// What becomes of a live task of `target` at `offset`.
    pub(crate) fn live(&self, target: &str, offset: i64) -> Live {
        match self.cursors.get(target) {
            None => Live::Own,
            Some(cursor) if cursor.is_finished(offset) => Live::Finished,
            Some(cursor) if cursor.covers_durably(offset) => Live::Handed,
            Some(cursor) if cursor.covers(offset) => Live::Covered,
            Some(_) => Live::Own,
        }
    }

    /// True when the target's cursor has its tasks at `offset` still to do, and not only once more.
    pub(crate) fn owes(&self, target: &str, offset: i64) -> bool {
        self.cursors.get(target).is_some_and(|cursor| {
            cursor.covers(offset) && !cursor.is_finished(offset) && !cursor.is_only_again(offset)
        })
    }

    /// True when a backfill alone has the target's tasks at `offset` to do: what was parked of them before stays parked.
    pub(crate) fn is_only_again(&self, target: &str, offset: i64) -> bool {
        self.cursors.get(target).is_some_and(|cursor| cursor.is_only_again(offset))
    }

    /// True when the store is known to hold that `offset` is the cursor's, or there is no cursor any more.
    pub(crate) fn is_stored_over(&self, target: &str, offset: i64) -> bool {
        self.cursors.get(target).is_none_or(|cursor| cursor.covers_durably(offset))
    }

    /// True when the target's cursor covers everything to come.
    pub(crate) fn is_detached(&self, target: &str) -> bool {
        self.cursors.get(target).is_some_and(Cursor::is_detached)
    }

    /// Why the target's cursor isn't read, if it isn't.
    pub(crate) fn held(&self, target: &str) -> Option<&Arc<str>> {
        self.cursors.get(target).and_then(Cursor::held)
    }

    /// Takes `target` from the live stream. `held` says why it isn't read for now.
    pub(crate) fn detach(&mut self, target: &Arc<str>, from: &Detached, held: Option<Arc<str>>) {
        match self.cursor_mut(target) {
            Some(cursor) => cursor.detach_again(from, held),
            None => {
                // Its row is written over.
                self.gone.remove(target);
                self.cursors.insert(Arc::clone(target), Cursor::detach(from, held));
                self.cursor_mut(target);
            }
        }
    }

    /// Takes a parked task of a detached target back from the retry topic.
    pub(crate) fn take_back(&mut self, target: &str, offset: i64) {
        if let Some(cursor) = self.cursor_mut(target) {
            cursor.take_back(offset);
        }
    }

    /// Lets the reader begin with a target that was held.
    pub(crate) fn resume(&mut self, target: &str) {
        if let Some(cursor) = self.cursor_mut(target) {
            cursor.resume();
        }
    }

    /// The target was deleted.
    pub(crate) fn remove(&mut self, target: &str) {
        if let Some((target, mut cursor)) = self.cursors.remove_entry(target) {
            cursor.end_backfill(BackfillState::Cancelled);
            self.ended.extend(cursor.take_ended());
            self.gone.insert(target);
        }
    }

    /// Delivers a stretch to a detached target again; to one that is gone it isn't.
    pub(crate) fn backfill(&mut self, target: &str, asked: &Backfill) {
        match self.cursor_mut(target) {
            Some(cursor) => cursor.backfill(asked),
            None => self.ended.push(BackfillProgress::without(asked, BackfillState::Cancelled)),
        }
    }

    /// Stops that. Answers below which offset the target's waiting tasks are void.
    pub(crate) fn cancel_backfill(&mut self, target: &str, id: &str) -> Option<i64> {
        self.cursor_mut(target)?.cancel_backfill(id)
    }

    /// The backfill of `target` that runs.
    pub(crate) fn backfilling(&self, target: &str) -> Option<&Running> {
        self.cursors.get(target)?.running()
    }

    /// Targets that get only the newest events of a stretch, and what of it the reader has not brought: from, to.
    pub(crate) fn newest_only(&self) -> impl Iterator<Item = (&Arc<str>, i64, i64)> {
        self.cursors.iter().filter_map(|(target, cursor)| {
            let (at, to) = cursor.newest_only()?;
            Some((target, at, to))
        })
    }

    /// The same of one target.
    pub(crate) fn newest_only_of(&self, target: &str) -> Option<(i64, i64)> {
        self.cursors.get(target)?.newest_only()
    }

    /// All tasks of `target` at `offset` ended, or are in another topic; one of them took effect, or none.
    pub(crate) fn note_ended(&mut self, target: &str, offset: i64, took_effect: bool) {
        if let Some(cursor) = self.cursor_mut(target) {
            cursor.note_ended(offset, took_effect);
        }
    }

    /// Notes that a wish is carried out with the next write.
    pub(crate) fn grant(&mut self, wish: i64) {
        self.granted.push(wish);
    }

    /// True until the store knows of every wish that was carried out.
    pub(crate) fn has_granted(&self) -> bool {
        !self.granted.is_empty()
    }

    /// The tasks of `target` at `offset` ended, or are acknowledged in another topic.
    pub(crate) fn finish(&mut self, target: &str, offset: i64) {
        if let Some(cursor) = self.cursor_mut(target) {
            cursor.finish(offset);
        }
    }

    /// Where the reader goes on for `target`.
    pub(crate) fn dispatched(&self, target: &str) -> Option<i64> {
        self.cursors.get(target).map(Cursor::dispatched)
    }

    /// Tasks of `target` at or above this offset may not start.
    pub(crate) fn gate(&self, target: &str) -> Option<i64> {
        self.cursors.get(target).and_then(Cursor::gate)
    }

    /// The targets of which the reader has something to bring while the live stream admitted everything below `admitted`,
    /// and where it goes on for each.
    pub(crate) fn behind(&self, admitted: i64) -> impl Iterator<Item = (&Arc<str>, i64)> {
        let places = self.cursors.iter().map(|(target, cursor)| (target, cursor.dispatched(), cursor));
        let behind = places.filter(move |(_, at, cursor)| *at < cursor.readable_to(admitted));
        behind.map(|(target, at, _)| (target, at))
    }

    /// Where to read next, for one of `targets`; one place is read for a while, then it is another's turn.
    pub(crate) fn read_from(&mut self, targets: &BTreeSet<Arc<str>>) -> Option<i64> {
        let (last, streak) = match &self.turn {
            Some((last, streak)) => (Some(last), *streak),
            None => (None, 0),
        };
        let same = last.and_then(|last| targets.get(last));
        let after = |last: &Arc<str>| {
            let range = (std::ops::Bound::Excluded(Arc::clone(last)), std::ops::Bound::Unbounded);
            targets.range(range).next()
        };
        let target = match same.filter(|_| streak < STREAK) {
            Some(same) => same,
            None => last.and_then(after).or_else(|| targets.first())?,
        };
        let (from, target) = (self.cursors.get(target)?.dispatched(), Arc::clone(target));
        let streak = if last == Some(&target) && streak < STREAK { streak + 1 } else { 1 };
        self.turn = Some((target, streak));
        Some(from)
    }

    /// Up to where reading from `from` makes sense: the furthest that anyone who reads there may go.
    pub(crate) fn read_to(&self, from: i64, admitted: i64) -> i64 {
        let there = self.cursors.values().filter(|cursor| cursor.dispatched() >= from);
        there.map(|cursor| cursor.readable_to(admitted)).max().unwrap_or(from)
    }

    /// The targets that a chunk read from `from` up to `to` concerns.
    pub(crate) fn readers(&self, from: i64, to: i64, admitted: i64) -> BTreeSet<Arc<str>> {
        let reads = self.cursors.iter().filter(|(_, cursor)| {
            let at = cursor.dispatched();
            from <= at && at < to && at < cursor.readable_to(admitted)
        });
        reads.map(|(target, _)| Arc::clone(target)).collect()
    }

    /// True when the reader's chunk, which began at `from`, goes on for `target` at `offset`.
    pub(crate) fn wants(&self, target: &str, from: i64, offset: i64, admitted: i64) -> bool {
        self.cursors.get(target).is_some_and(|cursor| {
            from <= cursor.dispatched()
                && cursor.dispatched() <= offset
                && offset < cursor.readable_to(admitted)
        })
    }

    /// Hands the tasks of `target` at `offset` out; false when they are finished already.
    pub(crate) fn dispatch(&mut self, target: &str, offset: i64) -> bool {
        self.cursor_mut(target).is_some_and(|cursor| cursor.dispatch(offset))
    }

    /// The reader saw everything from `from` up to `to` on behalf of `target`.
    pub(crate) fn reach(&mut self, target: &str, from: i64, to: i64, admitted: i64) {
        if let Some(cursor) = self.cursor_mut(target)
            && from <= cursor.dispatched()
        {
            let to = to.min(cursor.readable_to(admitted));
            cursor.reach(to);
        }
    }

    /// The targets that caught up, but for `near` offsets.
    pub(crate) fn attachable(&self, admitted: i64, near: i64) -> impl Iterator<Item = &Arc<str>> {
        let is_known = admitted >= self.complete_to;
        let near =
            self.cursors.iter().filter(move |(_, cursor)| is_known && cursor.may_attach(admitted, near));
        near.map(|(target, _)| target)
    }

    /// Gives those of `targets` that caught up, but for `near` offsets, back to the live stream; names them.
    pub(crate) fn attach(&mut self, admitted: i64, near: i64, targets: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let is_known = admitted >= self.complete_to;
        let of = targets.iter().filter(|_| is_known);
        let attached =
            of.filter(|&target| self.cursor_mut(target).is_some_and(|cursor| cursor.attach(admitted, near)));
        attached.cloned().collect()
    }

    /// The records `from..to` are lost: what cursors that are there have not read of them is a gap, which is recorded.
    /// Gives the new ones.
    pub(crate) fn lose(&mut self, from: i64, to: i64) -> Vec<Gap> {
        let mut gaps = Vec::new();
        self.noted += 1;
        for (target, cursor) in &mut self.cursors {
            if cursor.dispatched() < from {
                continue;
            }
            cursor.touch(self.noted);
            if let Some((from, to)) = cursor.lose_below(to) {
                gaps.push(Gap { target: Arc::clone(target), from, to });
            }
        }
        self.gaps.extend(gaps.iter().cloned());
        gaps
    }

    /// Forgets cursors with nothing left to say, now that the source's committed position is `committed`.
    pub(crate) fn sweep(&mut self, committed: i64) {
        let over: Vec<Arc<str>> = self
            .cursors
            .iter()
            .filter(|(target, cursor)| cursor.is_over(committed) && self.retired.is_known(target))
            .map(|(target, _)| Arc::clone(target))
            .collect();
        for target in over {
            self.remove(&target);
        }
    }

    /// What the store has to be told; it is being told from now on. One write at a time: answer with
    /// [`Cursors::stored`], or tell again.
    pub(crate) fn send(&mut self) -> CursorWrite {
        self.ended.extend(self.cursors.values_mut().flat_map(Cursor::take_ended));
        let (mut rows, mut backfills) = (Vec::new(), self.ended.clone());
        for (target, cursor) in &mut self.cursors {
            if let Some(row) = cursor.changed(target, || self.retired.runs(target)) {
                cursor.note_sent(&row);
                backfills.extend(cursor.progress());
                rows.push(row);
            }
        }
        CursorWrite {
            rows,
            backfills,
            gone: self.gone.iter().cloned().collect(),
            gaps: self.gaps.clone(),
            granted: self.granted.clone(),
        }
    }

    /// True when the store must be told at once: completions or starts wait for it.
    pub(crate) fn is_urgent(&self) -> bool {
        let ended = !self.ended.is_empty();
        ended
            || !self.gone.is_empty()
            || !self.granted.is_empty()
            || self.cursors.values().any(Cursor::is_urgent)
    }

    /// The store holds what `write` says.
    pub(crate) fn stored(&mut self, write: CursorWrite) {
        for row in write.rows {
            if let Some(cursor) = self.cursors.get_mut(&row.target) {
                cursor.note_stored(row);
            }
        }
        self.gone.retain(|target| !write.gone.contains(target));
        self.gaps.drain(..write.gaps.len());
        self.ended.retain(|ended| !write.backfills.contains(ended));
        self.granted.retain(|wish| !write.granted.contains(wish));
    }
}

#[cfg(test)]
impl Cursors {
    /// True when no target has a cursor and nothing is to be stored.
    pub(super) fn is_empty(&self) -> bool {
        self.cursors.is_empty()
            && self.gone.is_empty()
            && self.gaps.is_empty()
            && self.ended.is_empty()
            && self.granted.is_empty()
    }
}

#[cfg(test)]
mod tests;
