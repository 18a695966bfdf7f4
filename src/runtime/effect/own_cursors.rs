//! The cursors of an assigned partition, and which work is theirs. Decisions are in `runtime::cursor`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::backfill::Paces;
use super::load::{Limits, Load, Loads};
use super::log_reader::LogReader;
use super::lone::Lone;
use super::survey::Survey;
use super::waiting::Waiting;
use crate::runtime::backoff::Backoff;
use crate::runtime::cursor::Cursors;
use crate::runtime::duplicates::{Duplicates, Seen, Verdict};
use crate::runtime::lanes::TaskNo;
use crate::runtime::record::SourcePartition;

/// Whether the store is being told of the cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storing {
    /// It isn't.
    No,
    /// It is, since this time, in epoch milliseconds.
    Since(i64),
    /// Somebody else claimed them: it never is again.
    NoMore,
}

/// The tasks of one target at one offset.
#[derive(Debug, Default)]
struct AtOffset {
    tasks: usize,
    /// Others at this offset were given back: it is finished only after it was read again.
    to_be_read: bool,
    /// One of them took effect.
    took_effect: bool,
    bytes: usize,
}

impl AtOffset {
    fn load(&self) -> Load {
        Load { tasks: self.tasks, bytes: self.bytes }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct OwnCursors {
    pub(super) at: Arc<SourcePartition>,
    pub(super) table: Cursors,
    pub(super) epoch: i64,
    /// The retry partition was read back: what comes from it now is new.
    pub(super) is_open: bool,
    pub(super) waiting: Vec<Waiting>,
    /// The store took what it was given last, and in time: what is over waits for it.
    pub(super) is_store_there: bool,
    pub(super) reader: Option<LogReader>,
    /// Which targets can't be reached, and what of all targets is in memory: of those no more each than what failed before
    /// and one that it is probed with. They are detached, and given back to the live stream only when they were reached.
    pub(super) loads: Loads,
    /// The target that has the live stream to itself.
    pub(super) lone: Lone,
    /// Targets that wait until half of their room is free.
    pub(super) full: BTreeSet<Arc<str>>,
    /// Targets that went away while they had tasks: they are looked after together.
    pub(super) to_look_after: BTreeSet<Arc<str>>,
    pub(super) storing: Storing,
    pub(super) reading: bool,
    pub(super) asking: bool,
    /// Not before these times, in epoch milliseconds.
    pub(super) store_at_ms: i64,
    pub(super) read_at_ms: i64,
    pub(super) ask_at_ms: i64,
    /// When it was last looked at whether something is to be stored.
    pub(super) looked_at_ms: i64,
    pub(super) store_backoff: Backoff,
    pub(super) read_backoff: Backoff,
    pub(super) paces: Paces,
    pub(super) surveys: Vec<Survey>,
    /// Whose turn to read it is: a survey's, or that of what is to be brought.
    pub(super) surveys_next: bool,
    seen: Duplicates,
    tasks: HashMap<TaskNo, (Arc<str>, i64)>,
    open: HashMap<Arc<str>, BTreeMap<i64, AtOffset>>,
}

impl OwnCursors {
    /// The cursors claimed under `epoch`; `remembers` events are recognised when they were written twice.
    pub(super) fn new(at: SourcePartition, epoch: i64, table: Cursors, remembers: usize) -> Self {
        Self {
            at: Arc::new(at),
            table,
            epoch,
            is_open: false,
            waiting: Vec::new(),
            is_store_there: true,
            loads: Loads::default(),
            reader: None,
            lone: Lone::default(),
            full: BTreeSet::new(),
            to_look_after: BTreeSet::new(),
            storing: Storing::No,
            reading: false,
            asking: false,
            store_at_ms: 0,
            read_at_ms: 0,
            ask_at_ms: 0,
            looked_at_ms: 0,
            store_backoff: Backoff::default(),
            read_backoff: Backoff::default(),
            paces: Paces::default(),
            surveys: Vec::new(),
            surveys_next: false,
            seen: Duplicates::new(remembers),
            tasks: HashMap::new(),
            open: HashMap::new(),
        }
    }

    /// Whether more of `target` may be brought now. What is away has one event at hand; of others more are brought once half
    /// of their room is free.
    pub(super) fn has_room(&self, target: &Arc<str>, limits: &Limits, is_due: impl Fn(&str) -> bool) -> bool {
        let room = if self.loads.is_away(target) { 1 } else { limits.room };
        self.loads.allow(target, limits, is_due) && self.fits(target, room)
    }

    /// Whether fewer than `room` of `target` are in memory; when it was full, half of that. What lies behind its gate
    /// doesn't count: it waits for the reader.
    fn fits(&self, target: &Arc<str>, room: usize) -> bool {
        let most = if self.full.contains(target) { room / 2 } else { room.saturating_sub(1) };
        let Some(open) = self.open.get(target) else { return true };
        let Some(excess) = open.len().checked_sub(most).filter(|excess| *excess > 0) else { return true };
        let gate = self.table.dispatched(target).unwrap_or(i64::MAX);
        open.range(gate..).take(excess).count() == excess
    }

    /// Notes whether `target` can be reached.
    pub(super) fn note_away(&mut self, target: &Arc<str>, is_away: bool) {
        let open = self.open.get(target).into_iter().flat_map(BTreeMap::values);
        let load = open.fold(Load::default(), |load, at| load.plus(at.load()));
        self.loads.note_away(target, is_away, load);
    }

    /// Tasks that are in memory of targets that can't be reached.
    pub(super) fn tasks_of_away(&self) -> Vec<TaskNo> {
        let of_away = self.tasks.iter().filter(|(_, (target, _))| self.loads.is_away(target));
        of_away.map(|(no, _)| *no).collect()
    }

    /// Targets without a cursor aren't away.
    pub(super) fn tidy_away(&mut self) {
        let known = self.loads.all_away().filter(|target| !self.table.is_detached(target));
        for target in known.cloned().collect::<Vec<_>>() {
            self.note_away(&target, false);
        }
    }

    /// How many targets are being caught up.
    pub(super) fn being_caught_up(&self) -> usize {
        self.table.count().0.saturating_sub(self.loads.all_away().len())
    }

    /// The targets that may be given back to the live stream, which admitted everything below `admitted`.
    pub(super) fn to_be_attached(&self, admitted: i64, near: i64, room: usize) -> BTreeSet<Arc<str>> {
        let near = self.table.attachable(admitted, near);
        near.filter(|target| !self.loads.is_away(target) && self.fits(target, room)).cloned().collect()
    }

    /// The targets to which more may be brought now.
    pub(super) fn to_be_read(
        &self,
        admitted: i64,
        limits: &Limits,
        now_ms: i64,
        is_due: impl Fn(&str) -> bool,
    ) -> BTreeSet<Arc<str>> {
        let behind = self.table.behind(admitted);
        let readable = behind.filter(|(target, at)| {
            self.has_room(target, limits, &is_due)
                && self.keeps_pace(target, *at, now_ms)
                && self.is_surveyed(target)
        });
        readable.map(|(target, _)| Arc::clone(target)).collect()
    }

    /// Whether the event of `target` at `offset` may be brought now.
    pub(super) fn keeps_pace(&self, target: &str, offset: i64, now_ms: i64) -> bool {
        let running = self.table.backfilling(target).filter(|running| running.covers(offset));
        running.is_none() || self.paces.is_due(target, now_ms)
    }

    /// The event of `target` at `offset` was brought.
    pub(super) fn was_brought(&mut self, target: &Arc<str>, offset: i64, now_ms: i64) {
        let running = self.table.backfilling(target).filter(|running| running.covers(offset));
        if let Some(every) = running.and_then(|running| running.every) {
            self.paces.brought(target, every, now_ms);
        }
    }

    /// True when an earlier record brought the same event: it takes effect there. One that was read for cursors, or one that
    /// came to the live stream, which admitted everything below `admitted`, before its target was detached.
    pub(super) fn is_repeat(
        &mut self,
        offset: i64,
        seen: Option<Seen>,
        (live, admitted): (&Duplicates, i64),
    ) -> bool {
        let Some(seen) = seen else { return false };
        let is_behind = |verdict| match verdict {
            Verdict::Duplicate(first) | Verdict::Conflict(first) => first < offset,
            Verdict::New => false,
        };
        let among_read = is_behind(self.seen.see(offset, seen));
        among_read
            || match live.look(offset, seen) {
                // It is dead-lettered if this owner's live stream met it. A former one's may have let it pass.
                Verdict::Conflict(_) if offset < self.table.complete_to() || offset >= admitted => false,
                verdict @ (Verdict::New | Verdict::Duplicate(_) | Verdict::Conflict(_)) => is_behind(verdict),
            }
    }

    /// True when a survey tells whether the event of `target` at `offset` is brought: it has a memory of its own for repeats,
    /// and what it left out for the sake of this one must not be left out for nothing.
    pub(super) fn is_surveys_to_tell(&self, target: &str, offset: i64) -> bool {
        self.table.backfilling(target).is_some_and(|running| running.newest_only && running.covers(offset))
    }

    /// True when a task is owed to a cursor.
    pub(super) fn has(&self, no: TaskNo) -> bool {
        self.tasks.contains_key(&no)
    }

    /// A task is owed to its target's cursor from now on.
    pub(super) fn adopt(&mut self, no: TaskNo, target: &Arc<str>, offset: i64, bytes: usize) {
        if self.tasks.insert(no, (Arc::clone(target), offset)).is_none() {
            let open = self.open.entry(Arc::clone(target)).or_default();
            open.entry(offset).or_default().tasks += 1;
            self.loads.add(target, Load { tasks: 1, bytes: 0 });
            self.weigh(no, bytes);
        }
    }

    /// The record of a task that is owed to a cursor is in memory.
    pub(super) fn weigh(&mut self, no: TaskNo, bytes: usize) {
        let Some((target, offset)) = self.tasks.get(&no) else { return };
        if let Some(at) = at_offset(&mut self.open, target, *offset).filter(|at| at.bytes == 0) {
            at.bytes = bytes;
            self.loads.add(target, Load { tasks: 0, bytes });
        }
    }

    /// A task was taken out of its lane unfinished: the reader brings it again. False when it was no cursor's.
    pub(super) fn give_back(&mut self, no: TaskNo) -> bool {
        let Some((target, offset)) = self.tasks.remove(&no) else { return false };
        self.expect(&target, offset);
        self.drop_one(&target, offset);
        true
    }

    /// Tasks of `target` at `offset` come again by the reader; others at that offset may be open still.
    pub(super) fn expect(&mut self, target: &Arc<str>, offset: i64) {
        if let Some(at) = at_offset(&mut self.open, target, offset) {
            at.to_be_read = true;
        }
    }

    /// The reader brought the tasks of `target` at `offset`, and those that weren't open were adopted. Without any
    /// there is nothing left to do.
    pub(super) fn was_read(&mut self, target: &Arc<str>, offset: i64) {
        match at_offset(&mut self.open, target, offset) {
            Some(at) => {
                at.to_be_read = false;
                self.settle(target, offset);
            }
            None => self.table.finish(target, offset),
        }
    }

    /// A task ended, or is acknowledged in another topic. False when it was no cursor's.
    pub(super) fn end(&mut self, no: TaskNo, took_effect: bool) -> bool {
        let Some((target, offset)) = self.tasks.remove(&no) else { return false };
        if let Some(at) = at_offset(&mut self.open, &target, offset) {
            at.took_effect |= took_effect;
        }
        self.drop_one(&target, offset);
        true
    }

    fn drop_one(&mut self, target: &Arc<str>, offset: i64) {
        if let Some(at) = at_offset(&mut self.open, target, offset) {
            at.tasks -= 1;
            self.loads.take(target, Load { tasks: 1, bytes: 0 });
            self.settle(target, offset);
        }
    }

    fn settle(&mut self, target: &Arc<str>, offset: i64) {
        let Some(open) = self.open.get_mut(target) else { return };
        let Some(at) = open.get(&offset).filter(|at| at.tasks == 0) else { return };
        let (is_finished, took_effect) = (!at.to_be_read, at.took_effect);
        self.loads.take(target, at.load());
        open.remove(&offset);
        if open.is_empty() {
            self.open.remove(target);
        }
        if is_finished {
            self.table.note_ended(target, offset, took_effect);
            self.table.finish(target, offset);
        }
    }
}

fn at_offset<'o>(
    open: &'o mut HashMap<Arc<str>, BTreeMap<i64, AtOffset>>,
    target: &Arc<str>,
    offset: i64,
) -> Option<&'o mut AtOffset> {
    open.get_mut(target)?.get_mut(&offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cursors of an owner who took the partition up when everything below 10 was complete.
    fn own() -> OwnCursors {
        let (cluster_id, topic, topic_id) = ("c".into(), "t".into(), "t".into());
        let at = SourcePartition { cluster_id, topic, topic_id, partition: 0 };
        OwnCursors::new(at, 1, Cursors::restore(&[], 10), 100)
    }

    #[test]
    fn an_event_that_the_live_stream_had_before_is_a_repeat_and_one_that_it_had_later_is_not() {
        let (mut own, mut live) = (own(), Duplicates::new(100));
        let (first, second) = (Seen::new(1, b"paid"), Seen::new(2, b"shipped"));
        live.see(13, first);
        live.see(16, second);
        assert!(own.is_repeat(17, Some(first), (&live, 20)));
        assert!(
            !own.is_repeat(15, Some(second), (&live, 20)),
            "the live stream has forgotten that it had this one too"
        );
        assert!(own.is_repeat(16, Some(second), (&live, 20)), "it was brought at 15");
        assert!(!own.is_repeat(18, None, (&live, 20)));
    }

    #[test]
    fn other_bytes_under_a_known_id_are_dead_letters_of_the_live_stream_where_this_owner_met_them() {
        let (mut own, mut live) = (own(), Duplicates::new(100));
        live.see(5, Seen::new(1, b"paid"));
        assert!(own.is_repeat(11, Some(Seen::new(1, b"shipped")), (&live, 20)));
        assert!(!own.is_repeat(9, Some(Seen::new(1, b"returned")), (&live, 20)), "a former owner judged it");
        live.see(6, Seen::new(3, b"paid"));
        assert!(!own.is_repeat(20, Some(Seen::new(3, b"lost")), (&live, 20)), "it is still to be judged");
        assert!(
            own.is_repeat(8, Some(Seen::new(1, b"paid")), (&live, 20)),
            "the same bytes are a repeat to anybody"
        );
    }
}
