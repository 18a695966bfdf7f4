//! What is known of an assigned partition of an effect stage.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::backlog::{Backlog, Chunk};
use super::dying::Dying;
use super::own_cursors::OwnCursors;
use super::unfolding::Unfolding;
use super::waiting::Duty;
use crate::runtime::backoff::Backoff;
use crate::runtime::consumer::{Assigned, Gauge, Position, Side, Span};
use crate::runtime::cursor::CursorWrite;
use crate::runtime::duplicates::Duplicates;
use crate::runtime::lanes::{TaskNo, Vacated};
use crate::runtime::offsets::{MOST_CHARACTERS, Tracker};
use crate::runtime::progress::PartitionState;
use crate::runtime::retry::{Epoch, Tenure};

/// Maps as text, each written again only when something changed.
#[derive(Debug)]
struct Maps {
    /// False when the maps are switched off: then only the generations are written.
    with_runs: bool,
    source: (Option<(u64, u64)>, Arc<str>),
    retry: (Option<(u64, u64)>, Arc<str>),
}

impl Default for Maps {
    fn default() -> Self {
        Self { with_runs: true, source: (None, "".into()), retry: (None, "".into()) }
    }
}

impl Maps {
    fn of(&mut self, [source, retry]: [(&Tracker, u64); 2]) -> [Arc<str>; 2] {
        let maps = [(&mut self.source, source, self.with_runs), (&mut self.retry, retry, true)];
        for (known, (tracker, generation), with_runs) in maps {
            let version = Some((tracker.version(), generation));
            if known.0 != version {
                let tracked = if with_runs { tracker } else { &Tracker::new(tracker.committable()) };
                *known = (version, tracked.map(generation).into());
            }
        }
        [Arc::clone(&self.source.1), Arc::clone(&self.retry.1)]
    }
}

/// Complete records of which the tracker is told together, at most.
const MOST_ENDED: usize = 1_024;

/// A source record whose tasks are not all complete.
#[derive(Debug)]
pub(super) struct OpenRecord {
    /// Tasks that are not.
    pub(super) tasks: usize,
    /// What it counts for in memory.
    pub(super) bytes: usize,
}

/// What a record of the retry partition that names a task of it is to the partition's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A task that waits.
    Valid,
    /// Its writer had lost the partition.
    Void,
    /// It is over, or a cursor took the task back, and the group doesn't know yet.
    Over,
}

/// One assignment of one partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) generation: u64,
    pub(super) gauge: Arc<Gauge>,
    pub(super) source: Tracker,
    /// The next source offset that may be admitted.
    next_admitted: i64,
    /// No parked task comes from a source record at or behind this: the end of the source when the partition was
    /// assigned, or more when a former owner came further before its marker.
    source_end: i64,
    pub(super) retry: Tracker,
    /// Where the retry partition ended when this one was assigned.
    pub(super) retry_end: i64,
    /// Parked tasks that are to be copied to its end next, with their places.
    pub(super) to_carry: VecDeque<(i64, TaskNo)>,
    /// Parked tasks whose copies are on their way to the end of it.
    pub(super) carried: BTreeSet<TaskNo>,
    /// What lies from here on isn't copied: the end of the retry partition since a place waits for a cursor to be stored.
    pub(super) carry_below: Option<i64>,
    /// Tasks on their way to the dead-letter topic.
    pub(super) dying: Dying,
    /// Redriven records that are still to be opened.
    pub(super) unfolding: Unfolding,
    pub(super) tenure: Tenure,
    pub(super) duplicates: Duplicates,
    /// Complete records from here on are read for their events alone.
    pub(super) recall_from: Option<i64>,
    maps: Maps,
    /// Delivered and not yet opened.
    pub(super) queue: Backlog,
    /// True while a round of intake runs.
    pub(super) intake: bool,
    /// Something that the intake needs is away: not before this time.
    pub(super) intake_at_ms: i64,
    pub(super) backoff: Backoff,
    pub(super) open: HashMap<i64, OpenRecord>,
    /// Complete records that the tracker wasn't told of yet, and what they count for.
    ended: Vec<i64>,
    ended_bytes: usize,
    /// How many attempts and appends run.
    pub(super) jobs: usize,
    /// Whole records on their way to the dead-letter topic.
    pub(super) records_moving: u64,
    /// Going away, or stopped: nothing more is started.
    pub(super) closed: bool,
    pub(super) state: PartitionState,
    /// Targets with a position of their own; `None` when the stage keeps no cursors.
    pub(super) cursors: Option<Box<OwnCursors>>,
}

impl Partition {
    /// An assignment to `incarnation` as it begins; `with_map` says whether the source's map is read and written (the retry
    /// topic's is part of the protocol), `remembers` how many events are.
    pub(super) fn new(assigned: &Assigned, incarnation: u64, with_map: bool, remembers: usize) -> Self {
        let resume = |span: &Span, with_map| match span.map.as_ref().filter(|_| with_map) {
            Some(map) => Tracker::resume(span.position, &map.runs),
            None => Tracker::new(span.position),
        };
        let number = |span: &Span| span.map.as_ref().map_or(0, |map| map.generation);
        let (claimed, marked) = (number(&assigned.source), assigned.retry.as_ref().map_or(0, number));
        Self {
            generation: assigned.generation,
            gauge: Arc::clone(&assigned.gauge),
            source: resume(&assigned.source, with_map),
            next_admitted: assigned.source.position,
            source_end: assigned.source.high,
            retry: assigned.retry.as_ref().map_or_else(|| Tracker::new(0), |span| resume(span, true)),
            retry_end: assigned.retry.as_ref().map_or(0, |span| span.high),
            to_carry: VecDeque::new(),
            carried: BTreeSet::new(),
            carry_below: None,
            dying: Dying::default(),
            unfolding: Unfolding::default(),
            tenure: Tenure::new(incarnation, claimed, marked),
            duplicates: Duplicates::new(remembers),
            recall_from: (remembers > 0)
                .then(|| (assigned.source.position - remembers as i64).max(assigned.source.low)),
            maps: Maps { with_runs: with_map, ..Maps::default() },
            queue: Backlog::default(),
            intake: false,
            intake_at_ms: 0,
            backoff: Backoff::default(),
            open: HashMap::new(),
            ended: Vec::new(),
            ended_bytes: 0,
            jobs: 0,
            records_moving: 0,
            closed: false,
            state: PartitionState::Starting,
            cursors: None,
        }
    }

    /// Notes that the source record at `offset` was admitted: its tasks are known to the lanes.
    pub(super) fn admit(&mut self, offset: i64) {
        self.next_admitted = self.next_admitted.max(offset + 1);
    }

    /// The live stream took in every record below.
    pub(super) fn next_admitted(&self) -> i64 {
        self.next_admitted
    }

    /// Below this no source record is to come that a former owner may have parked work of. Behind the end that
    /// the source had at the assignment there is none at all.
    pub(super) fn admitted(&self) -> i64 {
        if self.next_admitted >= self.source_end { i64::MAX } else { self.next_admitted }
    }

    /// True when a record that needs no work is read for its event: it repeats none, but others may repeat it.
    pub(super) fn recalls(&self, offset: i64) -> bool {
        self.recall_from.is_some_and(|from| offset >= from) && self.source.is_complete(offset)
    }

    /// Which of the first `most` records of a chunk are complete, ascending.
    pub(super) fn known(&self, records: &Chunk, most: usize) -> Vec<i64> {
        if records.offsets().next().is_none_or(|first| self.source.is_behind_all_runs(first)) {
            return Vec::new();
        }
        records.offsets().take(most).filter(|&offset| self.source.is_complete(offset)).collect()
    }

    /// What a record of the retry partition is that was read just now at `place` and names the task of `target` at the source
    /// offset `offset`. One that a redrive itself wrote has no `epoch`, as none is due; what an owner parks of it later has one, and
    /// is still what an operator put back: no cursor took that.
    pub(super) fn standing(
        &self,
        epoch: Option<Epoch>,
        is_put_back: bool,
        target: &str,
        (offset, place): (i64, i64),
    ) -> Standing {
        let is_over = |own: &OwnCursors| {
            own.table.is_retired(target, place)
                || !own.is_open && !is_put_back && own.table.owes(target, offset)
        };
        if epoch.is_some_and(|epoch| self.tenure.is_void(epoch)) {
            Standing::Void
        } else if self.cursors.as_deref().is_some_and(is_over) {
            Standing::Over
        } else {
            Standing::Valid
        }
    }

    /// Notes that a valid parked record comes from the source record at `offset`.
    pub(super) fn note_parked(&mut self, offset: i64) {
        self.source_end = self.source_end.max(offset.saturating_add(1));
    }

    /// Source and retry position with their maps, from one moment: they are committed in one request. None when a
    /// later owner's marker was read, and while
    /// the retry map is too large: cut, it would let a task of the retry topic run again behind later ones of its
    /// lane, and neither side may be committed without the other.
    pub(super) fn positions(&mut self, partition: i32) -> Option<[Position; 2]> {
        self.note_ended();
        let claimed = self.tenure.own().generation;
        let marked = self.tenure.marked_below(self.retry.committable());
        if self.tenure.is_superseded() || self.retry.map_characters(marked) > MOST_CHARACTERS {
            return None;
        }
        let [source, retry] = self.maps.of([(&self.source, claimed), (&self.retry, marked)]);
        let generation = self.generation;
        let at =
            |side, offset, metadata| Position { side, partition, generation, offset, version: 0, metadata };
        Some([
            at(Side::Source, self.source.committable(), source),
            Position { version: self.retry.version(), ..at(Side::Retry, self.retry.committable(), retry) },
        ])
    }

    /// Characters of the maps that were handed in last: source, retry.
    pub(super) fn map_characters(&self) -> [usize; 2] {
        [self.maps.source.1.len(), self.maps.retry.1.len()]
    }

    /// Notes that nothing of the source is on its way: what was dropped on sight came by as well.
    pub(super) fn admit_delivered(&mut self) {
        if self.queue.is_empty() && !self.intake {
            self.next_admitted = self.next_admitted.max(self.source.delivered());
        }
    }

    /// Notes that a task of `target` at `offset` left its places in the retry partition, and its source record if it was
    /// owed to that. Invariant 2 (order): while the store doesn't know what its cursor has finished, the group doesn't hear of
    /// what ended later. Without cursors there is no `target`.
    pub(super) fn vacate(
        &mut self,
        (no, target, offset): (TaskNo, Option<&Arc<str>>, i64),
        vacated: Vacated,
        took_effect: bool,
    ) {
        for place in vacated.places {
            self.place_complete(target, place);
        }
        if !vacated.source {
            return;
        }
        let of_cursor = self.cursors.as_deref_mut().is_some_and(|own| own.end(no, took_effect));
        if !of_cursor && self.tells(target, Duty::Source(offset)) {
            self.task_complete(offset);
        }
    }

    /// Notes that a place of `target` in the retry partition is complete.
    pub(super) fn place_complete(&mut self, target: Option<&Arc<str>>, place: i64) {
        if self.tells(target, Duty::Place(place)) {
            self.note_place(target, place);
        }
    }

    /// The partition's cursors are claimed, perhaps once more: places that are over wait for these then.
    pub(super) fn claimed_cursors(&mut self, own: OwnCursors) {
        let former = self.cursors.replace(Box::new(own));
        for (target, place) in former.into_iter().flat_map(|former| former.places_over()) {
            self.place_complete(Some(&target), place);
        }
    }

    /// A place that is read just now is over.
    pub(super) fn place_was_complete(&mut self, target: &Arc<str>, place: i64) {
        match self.cursors.as_deref() {
            Some(own) if !own.table.is_retired(target, place) => self.place_complete(Some(target), place),
            // Our own append: the group hears of it once the cursor is stored.
            Some(own) if own.is_open => {}
            Some(_) | None => self.retry.complete(place),
        }
    }

    /// What the store is to be told of the cursors, and how many tasks they have taken over by now: some may say again what is
    /// stored, and what waited for them is told before what comes later.
    pub(super) fn send_rows(&mut self) -> (CursorWrite, u64) {
        let write = self.cursors.as_deref_mut().map(|own| own.table.send()).unwrap_or_default();
        (write, self.settle_stored())
    }

    /// The store holds `write`. Gives how many tasks the cursors have taken over with it.
    pub(super) fn stored(&mut self, write: CursorWrite) -> u64 {
        if let Some(own) = self.cursors.as_deref_mut() {
            own.is_store_there = true;
            own.table.stored(write);
        }
        self.settle_stored()
    }

    /// The store failed, or takes too long: nothing that is over waits for it.
    pub(super) fn store_is_away(&mut self) -> u64 {
        if let Some(own) = self.cursors.as_deref_mut() {
            own.is_store_there = false;
        }
        self.settle_stored()
    }

    /// What waits no longer is complete where it came from. Gives how many tasks cursors took over.
    fn settle_stored(&mut self) -> u64 {
        let stored = self.cursors.as_deref_mut().map(OwnCursors::take_stored).unwrap_or_default();
        for of in &stored {
            match of.duty {
                Duty::Source(offset) => self.task_complete(offset),
                Duty::Place(place) => self.note_place(Some(&of.target), place),
            }
        }
        stored.iter().filter(|of| of.is_handed()).count() as u64
    }

    fn tells(&mut self, target: Option<&Arc<str>>, duty: Duty) -> bool {
        match (self.cursors.as_deref_mut(), target) {
            (Some(own), Some(target)) => own.tells(target, duty),
            (_, _) => true,
        }
    }

    fn note_place(&mut self, target: Option<&Arc<str>>, place: i64) {
        self.retry.complete(place);
        if let (Some(own), Some(target)) = (self.cursors.as_deref_mut(), target) {
            own.table.note_retired(target, place, self.retry.version());
        }
    }

    /// Notes that one task of a source record is complete; the last one completes the record.
    pub(super) fn task_complete(&mut self, offset: i64) {
        let Entry::Occupied(mut record) = self.open.entry(offset) else { return };
        record.get_mut().tasks -= 1;
        if record.get().tasks == 0 {
            let OpenRecord { bytes, .. } = record.remove();
            self.record_complete(offset, bytes);
        }
    }

    /// Notes that a source record is complete and leaves memory. Told to the tracker with others, as work that was woken
    /// together ends together; cursors look at the tracker in between, so that with them it is told at once.
    pub(super) fn record_complete(&mut self, offset: i64, bytes: usize) {
        self.ended.push(offset);
        self.ended_bytes += bytes;
        if self.cursors.is_some() || self.ended.len() >= MOST_ENDED {
            self.note_ended();
        }
    }

    /// Tells the tracker of all records that are complete.
    pub(super) fn note_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        self.gauge.release(self.ended.len(), std::mem::take(&mut self.ended_bytes));
        if !self.ended.is_sorted() {
            self.ended.sort_unstable();
        }
        for run in self.ended.chunk_by(|before, next| before + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.source.complete_run(*first, last + 1);
            }
        }
        self.ended.clear();
    }

    /// Starts nothing more; what runs may end.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_in_any_order_is_complete_in_the_next_positions() {
        let span = Span { position: 10, low: 0, high: 20, map: None };
        let assigned = Assigned {
            partition: 3,
            generation: 1,
            source: span.clone(),
            retry: Some(span),
            gauge: Arc::new(Gauge::default()),
        };
        let mut owned = Partition::new(&assigned, 1, true, 0);
        owned.gauge.take(6, 600);
        assert!(owned.source.deliver_run(10, 16));
        for offset in [15, 11, 10, 13] {
            owned.record_complete(offset, 100);
        }
        let [source, _retry] = owned.positions(3).expect("nobody else owns it");
        assert_eq!((source.offset, source.generation, owned.gauge.held()), (12, 1, (2, 200)));
        assert_eq!(owned.source.runs().collect::<Vec<_>>(), [(13, 14), (15, 16)]);
    }
}
