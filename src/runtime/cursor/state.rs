//! One target's cursor on one partition, and what it says of every offset. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backfill::{Backfill, BackfillProgress, BackfillState, Running};
use super::finished::Finished;
use super::row::{CursorRow, CursorState};
use crate::runtime::offsets;

/// What is known of a target's tasks when it is taken from the live stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detached {
    /// The live stream admitted every record below.
    pub(crate) admitted: i64,
    /// Source offsets of the target's tasks that are in memory, not finished.
    pub(crate) open: BTreeSet<i64>,
    /// Those of them that are given back: the reader brings them again.
    pub(crate) waiting: BTreeSet<i64>,
    /// Runs of source records that are complete, as (first, behind the last).
    pub(crate) complete: Vec<(i64, i64)>,
}

/// Changes of a cursor, by number.
#[derive(Debug, Clone, Copy, Default)]
struct Changes {
    /// The last one.
    last: u64,
    /// The last that took something back that was finished.
    taken_back: u64,
    /// The last before the row that was sent last.
    sent: u64,
    /// The last that the store knows of.
    known: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// Which of the target's offsets are finished: done, skipped, or acknowledged in another topic.
    finished: Finished,
    /// The reader handed out every task of the target below; nothing at or above it may start.
    dispatched: i64,
    /// The live stream owns the offsets from here on.
    until: Option<i64>,
    /// Why it isn't read.
    held: Option<Arc<str>>,
    /// The `next` that a cancelled backfill restores.
    resume: Option<i64>,
    /// That backfill.
    running: Option<Running>,
    /// Backfills that ended since this was last asked for.
    ended: Vec<BackfillProgress>,
    /// The row that the store is known to hold.
    stored: Option<CursorRow>,
    /// A row was sent since and nobody knows yet whether the store holds it: its `until`, the lowest of several.
    unsure: Option<Option<i64>>,
    changes: Changes,
}

impl Cursor {
    /// Takes a target from the live stream.
    pub(super) fn detach(from: &Detached, held: Option<Arc<str>>) -> Self {
        let start = from.open.first().copied().unwrap_or(from.admitted);
        let mut cursor = Self { until: Some(start), dispatched: from.admitted, ..Self::starting_at(start) };
        cursor.detach_again(from, held);
        cursor
    }

    /// The same for a target that has a cursor already, whose live part begins at `until`.
    pub(super) fn detach_again(&mut self, from: &Detached, held: Option<Arc<str>>) {
        if let Some(live) = self.until.take() {
            let mut behind = live;
            for &offset in from.open.range(live..) {
                self.finished.add(behind, offset);
                behind = offset + 1;
            }
            self.finished.add(behind, from.admitted);
            // What the source completed before this owner came to it was the target's own work, too.
            for &(first, behind) in &from.complete {
                self.finished.add(first.max(live), behind);
            }
            // Without a reader behind it, everything below what is given back is in the lanes.
            if self.dispatched >= live {
                self.dispatched = self.dispatched.max(from.admitted);
            }
        }
        if let Some(&lowest) = from.waiting.first() {
            self.dispatched = self.dispatched.min(lowest);
        }
        self.held = held;
    }

    /// A target that is served from `start` on: what lies below counts as finished.
    pub(super) fn starting_at(start: i64) -> Self {
        Self {
            finished: Finished::below(start),
            dispatched: start,
            until: Some(start),
            held: None,
            resume: None,
            running: None,
            ended: Vec::new(),
            stored: None,
            unsure: None,
            changes: Changes::default(),
        }
    }

    /// A cursor as the store holds it.
    pub(super) fn restore(row: &CursorRow) -> Self {
        let mut finished = Finished::below(row.next);
        // A map that can't be read leaves its offsets to be repeated: it is no loss.
        let map = offsets::decode(&row.done).filter(|map| map.base == row.next);
        for (first, behind) in map.map(|map| map.runs).unwrap_or_default() {
            finished.add(first, behind);
        }
        let held = if let CursorState::Held(why) = &row.state { Some(Arc::clone(why)) } else { None };
        Self {
            dispatched: row.next,
            until: row.until,
            held,
            resume: row.resume,
            running: row.backfill.clone(),
            ended: Vec::new(),
            stored: Some(row.clone()),
            unsure: None,
            changes: Changes::default(),
            finished,
        }
    }

    /// The cursor as it is to be stored, with the places that are complete in the retry partition.
    pub(super) fn row(&self, target: &Arc<str>, places: Vec<(i64, i64)>) -> CursorRow {
        let next = self.next();
        let state = match (&self.held, self.until) {
            (Some(why), _) => CursorState::Held(Arc::clone(why)),
            (None, None) => CursorState::Detached,
            (None, Some(_)) => CursorState::Attached,
        };
        CursorRow {
            target: Arc::clone(target),
            next,
            done: offsets::encode(next, 0, self.finished.runs()),
            until: self.until,
            state,
            resume: self.resume,
            backfill: self.running.clone(),
            places,
        }
    }

    /// Everything below is finished.
    pub(super) fn next(&self) -> i64 {
        self.finished.next()
    }

    /// True when the target's tasks at `offset` are finished.
    pub(super) fn is_finished(&self, offset: i64) -> bool {
        self.finished.contains(offset)
    }

    /// True when `offset` is the cursor's, not the live stream's.
    pub(super) fn covers(&self, offset: i64) -> bool {
        self.until.is_none_or(|until| offset < until)
    }

    /// True when the store is known to hold that `offset` is the cursor's: then its record may complete. A row that says of
    /// something taken back that it is finished doesn't count.
    pub(super) fn covers_durably(&self, offset: i64) -> bool {
        let below = |until: Option<i64>| until.is_none_or(|until| offset < until);
        self.covers(offset)
            && self.stored.as_ref().is_some_and(|row| below(row.until))
            && self.unsure.is_none_or(below)
            && self.changes.taken_back <= self.changes.known
    }

    /// Where the reader goes on.
    pub(super) fn dispatched(&self) -> i64 {
        self.dispatched
    }

    /// Up to where the reader may go while the live stream has admitted everything below `admitted`.
    pub(super) fn readable_to(&self, admitted: i64) -> i64 {
        if self.held.is_some() { self.dispatched } else { self.until.unwrap_or(admitted) }
    }

    /// Why it isn't read, if it isn't.
    pub(super) fn held(&self) -> Option<&Arc<str>> {
        self.held.as_ref()
    }

    /// From where on the live stream has the target.
    pub(super) fn live_from(&self) -> Option<i64> {
        self.until
    }

    /// True while it covers everything to come.
    pub(super) fn is_detached(&self) -> bool {
        self.until.is_none()
    }

    /// Tasks of the target at or above this offset may not start; `None` lets all start.
    pub(super) fn gate(&self) -> Option<i64> {
        match self.until {
            _ if self.held.is_some() => Some(i64::MIN),
            None => Some(self.dispatched),
            Some(until) if self.dispatched < until => Some(self.dispatched),
            Some(until) if self.is_stored_until(until) => None,
            Some(until) => Some(until),
        }
    }

    /// The reader hands the target's tasks at `offset` out; false when they are finished already.
    pub(super) fn dispatch(&mut self, offset: i64) -> bool {
        self.reach(offset);
        self.dispatched = self.dispatched.max(offset + 1);
        !self.is_finished(offset)
    }

    /// The reader saw everything below `position`: what it didn't hand out isn't the target's.
    pub(super) fn reach(&mut self, position: i64) {
        if position > self.dispatched {
            self.add(self.dispatched, position);
            self.dispatched = position;
        }
    }

    /// The target's tasks at `offset` ended, or are acknowledged in another topic.
    pub(super) fn finish(&mut self, offset: i64) {
        self.add(offset, offset + 1);
    }

    /// What was acknowledged in the retry topic at `offset` is the cursor's again.
    pub(super) fn take_back(&mut self, offset: i64) {
        if self.is_finished(offset) {
            self.changes.taken_back = self.changes.last;
        }
        self.finished.remove(offset);
        self.dispatched = self.dispatched.min(offset);
    }

    /// Gives the live stream everything from `admitted` on, if the reader is there, or lacks no more than `near`
    /// offsets: until it has dispatched these too, live tasks wait behind the gate.
    pub(super) fn attach(&mut self, admitted: i64, near: i64) -> bool {
        let may = self.may_attach(admitted, near);
        if may {
            self.until = Some(admitted);
        }
        may
    }

    /// Whether it would.
    pub(super) fn may_attach(&self, admitted: i64, near: i64) -> bool {
        let is_near = self.dispatched <= admitted && self.dispatched + near >= admitted;
        let brings_again = self.running.as_ref().is_some_and(|running| self.dispatched < running.to);
        self.until.is_none()
            && self.held.is_none()
            && !brings_again
            && is_near
            && self.finished.end() <= admitted
    }

    /// Lets the reader begin.
    pub(super) fn resume(&mut self) {
        self.held = None;
    }

    /// Delivers a stretch again; for a detached cursor. What it would come to anyway, and what was finished above
    /// `next`, isn't delivered again.
    pub(super) fn backfill(&mut self, asked: &Backfill) {
        if let Some(other) = self.running.as_ref().map(|running| Arc::clone(&running.id)) {
            self.cancel_backfill(&other);
        }
        let next = self.next();
        let to = asked.to.map_or(next, |to| to.min(next));
        if asked.from >= to {
            self.ended.push(BackfillProgress::without(asked, BackfillState::Done));
            return;
        }
        self.resume = Some(next);
        self.finished.go_back_to(asked.from);
        self.finished.add(to, next);
        self.dispatched = self.dispatched.min(asked.from);
        self.running = Some(Running::begin(asked, to));
    }

    /// Delivers no more again: what lay below the `next` of before counts as finished. `None` when no backfill of this
    /// name runs.
    pub(super) fn cancel_backfill(&mut self, id: &str) -> Option<i64> {
        self.running.as_ref().filter(|running| &*running.id == id)?;
        self.end_backfill(BackfillState::Cancelled);
        let resume = self.resume.take()?;
        self.finished.add(i64::MIN, resume);
        self.dispatched = self.dispatched.max(resume);
        Some(resume)
    }

    /// The backfill that runs.
    pub(super) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// What the reader has not brought of a backfill that brings only the newest events: from, to.
    pub(super) fn newest_only(&self) -> Option<(i64, i64)> {
        let running = self.running().filter(|running| running.newest_only && self.held.is_none())?;
        (self.dispatched < running.to).then_some((self.dispatched, running.to))
    }

    /// True when a backfill alone opened `offset` again: whatever happened to it before isn't undone.
    pub(super) fn is_only_again(&self, offset: i64) -> bool {
        self.resume.is_some_and(|resume| offset < resume)
    }

    /// How far the backfill is that runs.
    pub(super) fn progress(&self) -> Option<BackfillProgress> {
        self.running.as_ref().map(|running| running.progress(self.next(), BackfillState::Running))
    }

    /// The backfills that ended, once.
    pub(super) fn take_ended(&mut self) -> Vec<BackfillProgress> {
        std::mem::take(&mut self.ended)
    }

    /// Ends the backfill that runs.
    pub(super) fn end_backfill(&mut self, state: BackfillState) {
        if let Some(running) = self.running.take() {
            self.ended.push(running.progress(self.next(), state));
        }
    }

    /// An event of the target ended; `took_effect` says how.
    pub(super) fn note_ended(&mut self, offset: i64, took_effect: bool) {
        if let Some(running) = self.running.as_mut().filter(|running| running.covers(offset)) {
            *(if took_effect { &mut running.delivered } else { &mut running.set_aside }) += 1;
        }
    }

    /// Records below `low` have left the log: what of them is missing, as (from, to).
    pub(super) fn lose_below(&mut self, low: i64) -> Option<(i64, i64)> {
        let low = self.until.map_or(low, |until| low.min(until));
        if self.dispatched >= low {
            return None;
        }
        let from = self.finished.first_open(self.dispatched);
        self.add(self.dispatched, low);
        self.dispatched = low;
        (from < low).then_some((from, low))
    }

    /// True when nothing is left to be remembered: all that it covered is finished, and the source doesn't come by
    /// it again.
    pub(super) fn is_over(&self, committed: i64) -> bool {
        self.gate().is_none() && self.until.is_some_and(|until| self.next() >= until && committed >= until)
    }

    /// Notes that it is about to be changed, as the change of this number.
    pub(super) fn touch(&mut self, number: u64) {
        self.changes.last = number;
    }

    /// The number of its last change, if the store doesn't know of it.
    pub(super) fn unknown(&self) -> Option<u64> {
        (self.changes.known < self.changes.last).then_some(self.changes.last)
    }

    /// True when the store knows of the change of this number.
    pub(super) fn is_known(&self, number: u64) -> bool {
        self.changes.known >= number
    }

    /// Looks whether the store must be told: what it is to hold, if so. Among thousands of cursors few were touched.
    pub(super) fn changed(
        &mut self,
        target: &Arc<str>,
        places: impl FnOnce() -> Vec<(i64, i64)>,
    ) -> Option<CursorRow> {
        self.unknown()?;
        let row = self.row(target, places());
        if self.unsure.is_none() && self.stored.as_ref() == Some(&row) {
            self.changes.known = self.changes.last;
            return None;
        }
        Some(row)
    }

    /// Whether the store must be told at once: others wait for it.
    pub(super) fn is_urgent(&self) -> bool {
        match &self.stored {
            None => true,
            Some(_) if !self.ended.is_empty() => true,
            Some(_) if self.unsure.is_some() => true,
            Some(row) => {
                row.until != self.until
                    || matches!(row.state, CursorState::Held(_)) != self.held.is_some()
                    || row.resume != self.resume
            }
        }
    }

    /// The store is being told `row`: until it answers, it may hold this or what it held before.
    pub(super) fn note_sent(&mut self, row: &CursorRow) {
        self.unsure = Some(match self.unsure {
            None => row.until,
            Some(other) => other.into_iter().chain(row.until).min(),
        });
        self.changes.sent = self.changes.last;
    }

    /// The store holds `row` of this cursor.
    pub(super) fn note_stored(&mut self, row: CursorRow) {
        self.stored = Some(row);
        self.unsure = None;
        self.changes.known = self.changes.sent;
    }

    /// A backfill that got to where it began is over.
    fn add(&mut self, first: i64, behind: i64) {
        self.finished.add(first, behind);
        let next = self.next();
        self.resume = self.resume.filter(|&resume| next < resume);
        if self.running.as_ref().is_some_and(|running| next >= running.to) {
            self.end_backfill(BackfillState::Done);
        }
    }

    fn is_stored_until(&self, until: i64) -> bool {
        self.unsure.is_none() && self.stored.as_ref().is_some_and(|row| row.until == Some(until))
    }
}
