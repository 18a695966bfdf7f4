//! What outlives owners: the logs, what the group keeps, the stored rows, what took effect; and what holds of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::owner::Owner;
use super::{LANES, Of, Settings, TARGETS};
use crate::runtime::cursor::{CursorRow, Cursors, Live};
use crate::runtime::offsets::{CompletedRuns, Tracker, decode};
use crate::runtime::retry::Epoch;

/// A record of the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// The lanes of its tasks, as bits.
    pub(super) lanes: u8,
    /// Whoever reads it from the source takes it for no task's: its id came before with other bytes, say.
    pub(super) is_dead: bool,
}

impl Event {
    pub(super) fn lanes(self) -> impl Iterator<Item = usize> {
        (0..LANES.len()).filter(move |lane| self.lanes & (1 << lane) != 0)
    }
}

/// A parked task, as its record's headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) of: Of,
    pub(super) attempt: u32,
    /// None in what an operator put back.
    pub(super) epoch: Option<Epoch>,
    /// It has the id of a redrive.
    pub(super) is_redriven: bool,
    /// An operator put it back, however often it was parked since.
    pub(super) is_put_back: bool,
    pub(super) is_held: bool,
}

impl Parked {
    /// What a redrive wrote, or what an owner makes of it under its epoch.
    pub(super) fn put_back(of: Of, epoch: Option<Epoch>) -> Self {
        Self { of, attempt: 0, epoch, is_redriven: true, is_put_back: true, is_held: false }
    }
}

/// A record of the retry partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Marker(Epoch),
    Task(Parked),
    /// An operator put the source record at this offset back, which was no task's.
    Record(i64),
}

/// A dead letter: a task's, or of a record that was no task's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    pub(super) lane: Option<usize>,
    pub(super) offset: i64,
}

/// What is appended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Out {
    Retry(Kept),
    Dead(Letter),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) source: Vec<Event>,
    pub(super) retry: Vec<Kept>,
    /// Those that nobody took back.
    pub(super) letters: VecDeque<Letter>,
    /// What the group keeps: both positions with their maps, from one commit.
    pub(super) committed: [CompletedRuns; 2],
    pub(super) rows: BTreeMap<Arc<str>, CursorRow>,
    pub(super) rows_epoch: i64,
    pub(super) owner: Owner,
    owners: u64,
    /// Appends of owners that froze.
    pub(super) late: VecDeque<Out>,
    /// In the order in which they took effect.
    pub(super) effects: Vec<Of>,
    /// Tasks that died, or came to be tasks by a redrive: they run when they are taken back.
    pub(super) redrivable: BTreeSet<Of>,
    /// By source offset, how many dead letters were taken back.
    taken_back: BTreeMap<i64, u32>,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let none = || CompletedRuns { base: 0, generation: 0, runs: Vec::new() };
        let mut world = Self {
            settings,
            source: Vec::new(),
            retry: Vec::new(),
            letters: VecDeque::new(),
            committed: [none(), none()],
            rows: BTreeMap::new(),
            rows_epoch: 0,
            owner: Owner::new(0, [&none(), &none()], (0, 0)),
            owners: 0,
            late: VecDeque::new(),
            effects: Vec::new(),
            redrivable: BTreeSet::new(),
            taken_back: BTreeMap::new(),
        };
        world.take_over(false, false);
        world
    }

    /// Whoever owned the partition is gone; a new owner begins from what is committed and stored.
    pub(super) fn take_over(&mut self, freezes: bool, row_arrives: bool) {
        if row_arrives {
            self.store_rows();
        }
        if freezes {
            self.late.extend(self.owner.sent.iter().map(|append| append.out));
        }
        self.owners += 1;
        let [source, retry] = &self.committed;
        let ends = (self.source.len() as i64, self.retry.len() as i64);
        self.owner = Owner::new(self.owners, [source, retry], ends);
        self.claim();
    }

    /// Rule 5, and the claim to the cursors between the commit and the marker.
    pub(super) fn claim(&mut self) {
        self.commit();
        self.owner.partition.tenure.claimed();
        if self.settings.cursors {
            self.rows_epoch += 1;
            let rows: Vec<CursorRow> = self.rows.values().cloned().collect();
            self.owner.claim_cursors(self.rows_epoch, &rows);
        }
        self.owner.may = self.over().into_iter().map(|of| (of, 0)).collect();
        self.owner.put_marker();
    }

    pub(super) fn commit(&mut self) {
        let Some(positions) = self.owner.partition.positions(0) else { return };
        if let Some(own) = self.owner.partition.cursors.as_deref_mut() {
            own.table.note_committed(positions[1].version);
            own.table.sweep(positions[0].offset);
        }
        let committed = positions.map(|position| decode(&position.metadata).expect("ours"));
        self.committed = committed;
    }

    /// The store takes what the owner wrote, if nobody claimed the cursors since.
    pub(super) fn store_rows(&mut self) -> bool {
        let Some(own) = self.owner.partition.cursors.as_deref() else { return false };
        let Some(write) = self.owner.writing.as_ref().filter(|_| own.epoch == self.rows_epoch) else {
            return false;
        };
        for target in &write.gone {
            self.rows.remove(target);
        }
        for row in &write.rows {
            self.rows.insert(Arc::clone(&row.target), row.clone());
        }
        true
    }

    pub(super) fn rows_arrive(&mut self) {
        if self.store_rows() {
            self.owner.on_stored();
        }
    }

    pub(super) fn rows_fail(&mut self, taken: bool) {
        if self.owner.writing.is_none() || !self.settings.store_fails {
            return;
        }
        if taken {
            self.store_rows();
        }
        self.owner.on_not_stored();
    }

    pub(super) fn produce(&mut self, lanes: u8, is_dead: bool) {
        self.source.push(Event { lanes, is_dead });
    }

    pub(super) fn put(&mut self, out: Out) {
        match out {
            Out::Retry(kept) => self.retry.push(kept),
            Out::Dead(letter) => {
                let event = self.source[letter.offset as usize];
                let lanes = event.lanes().filter(|lane| letter.lane.is_none_or(|of| of == *lane));
                self.redrivable.extend(lanes.map(|lane| (lane, letter.offset)));
                self.letters.push_back(letter);
            }
        }
    }

    pub(super) fn land_late(&mut self) {
        if let Some(out) = self.late.pop_front() {
            self.put(out);
        }
    }

    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// An operator takes the first dead letter back.
    pub(super) fn redrive(&mut self, twice: bool) {
        let Some(Letter { lane, offset }) = self.letters.pop_front() else { return };
        *self.taken_back.entry(offset).or_default() += 1;
        let task = |lane| Kept::Task(Parked::put_back((lane, offset), None));
        let back = lane.map_or(Kept::Record(offset), task);
        self.retry.extend(std::iter::repeat_n(back, if twice { 2 } else { 1 }));
    }

    /// The tasks of a record that was put back at `place` which nobody made yet.
    pub(super) fn still_to_be_made(&self, place: usize) -> impl Iterator<Item = Of> {
        let offset = if let Kept::Record(offset) = self.retry[place] { Some(offset) } else { None };
        let tasks = offset
            .into_iter()
            .flat_map(|offset| self.source[offset as usize].lanes().map(move |lane| (lane, offset)));
        tasks.filter(move |task| {
            let behind = self.valid().filter(|(other, _)| *other > place);
            !behind.into_iter().any(|(_, kept)| matches!(kept, Kept::Task(parked) if parked.of == *task))
        })
    }

    /// What lies in the retry partition, without what frozen owners wrote behind the marker of a later one.
    fn valid(&self) -> impl Iterator<Item = (usize, Kept)> {
        let mut highest: Option<Epoch> = None;
        self.retry.iter().copied().enumerate().filter(move |(_, kept)| match kept {
            Kept::Marker(epoch) => {
                if highest.is_none_or(|highest| epoch.generation > highest.generation) {
                    highest = Some(*epoch);
                }
                true
            }
            Kept::Task(Parked { epoch: Some(epoch), .. }) => {
                highest.is_none_or(|highest| epoch.generation > highest.generation || *epoch == highest)
            }
            Kept::Task(_) | Kept::Record(_) => true,
        })
    }

    /// Tasks that are durably over: an owner that begins now must not let them take effect.
    fn over(&self) -> BTreeSet<Of> {
        let [source, retry] = [0, 1].map(|side| {
            let CompletedRuns { base, runs, .. } = &self.committed[side];
            Tracker::resume(*base, runs)
        });
        let rows: Vec<CursorRow> = self.rows.values().cloned().collect();
        let complete_to = source.runs().next_back().map_or(source.committable(), |(_, end)| end);
        let cursors = Cursors::restore(&rows, complete_to);
        let mut open: BTreeSet<Of> = BTreeSet::new();
        for (place, kept) in self.valid().filter(|(place, _)| !retry.is_complete(*place as i64)) {
            match kept {
                Kept::Marker(_) => {}
                Kept::Task(parked) if cursors.is_retired(TARGETS[LANES[parked.of.0].1], place as i64) => {}
                Kept::Task(parked) => open.extend([parked.of]),
                Kept::Record(_) => open.extend(self.still_to_be_made(place)),
            }
        }
        let all =
            self.source.iter().zip(0..).flat_map(|(event, at)| event.lanes().map(move |lane| (lane, at)));
        let is_over = |&(lane, offset): &Of| {
            let target = TARGETS[LANES[lane].1];
            self.source[offset as usize].is_dead
                || cursors.live(target, offset) == Live::Finished
                || !cursors.owes(target, offset) && source.is_complete(offset)
        };
        all.filter(|of| !open.contains(of) && is_over(of)).collect()
    }

    pub(super) fn take_effect(&mut self, of: Of) {
        self.effects.push(of);
        let left = self.owner.may.get(&of).copied().unwrap_or(1).checked_sub(1);
        // Owners that crash may dead-letter a record several times. What it comes to is known only once it was opened: a letter that
        // is taken back while the tasks of another are open may come to them again.
        let is_taken_back_again = self.taken_back.get(&of.1).is_some_and(|letters| *letters > 1);
        let left = left.or((self.source[of.1 as usize].is_dead && is_taken_back_again).then_some(0));
        assert!(left.is_some(), "{of:?} again without a crash: {}", self.told());
        self.owner.may.extend(left.map(|left| (of, left)));
    }

    /// Lets the owner do all that there is to do, or all but tell the group of it.
    pub(super) fn drain(&mut self, commits: bool) {
        for _ in 0..10 * (self.source.len() + self.retry.len() + 10) {
            self.land();
            self.acknowledge();
            self.read_retry();
            self.read_source();
            (0..TARGETS.len()).for_each(|target| self.resume(target));
            self.read_again(4);
            self.attach();
            self.send_rows();
            self.rows_arrive();
            self.start();
            self.end(super::Ending::Effect);
            self.redrive(false);
            self.owner.hurry_held();
            if commits {
                self.commit();
            }
            self.owner.partition.note_ended();
            if self.is_idle(commits) {
                return;
            }
        }
        panic!("stuck: {}, {:?}", self.told(), self.owner);
    }

    fn is_idle(&self, commits: bool) -> bool {
        let Owner { partition, sent, landed, running, .. } = &self.owner;
        partition.source.committable() == self.source.len() as i64
            && partition.retry.committable() == self.retry.len() as i64
            && partition.source.delivered() == self.source.len() as i64
            && partition.retry.delivered() == self.retry.len() as i64
            && sent.is_empty()
            && landed.is_empty()
            && running.is_empty()
            && self.letters.is_empty()
            && (!commits || self.rows.is_empty() && self.owner.has_no_cursors())
    }

    /// What it came to, for whoever reads of a failure.
    fn told(&self) -> String {
        let Self { source, retry, committed, rows, effects, .. } = self;
        format!(
            "source {source:?}, retry {retry:?}, committed {committed:?}, rows {rows:?}, effects {effects:?}"
        )
    }

    /// Invariants 1 and 2: everything took effect; nothing overtook, and nothing ran again behind what came later.
    pub(super) fn check(&self) {
        for (lane, (name, _)) in LANES.iter().enumerate() {
            let offsets = (0..self.source.len() as i64)
                .filter(|&offset| self.source[offset as usize].lanes().any(|of| of == lane));
            let tasks: Vec<Of> = offsets.map(|offset| (lane, offset)).collect();
            for task in &tasks {
                assert!(self.effects.contains(task), "lost in lane {name}: {task:?}: {}", self.told());
            }
            // What died runs late, unless it holds its lane.
            let is_in_order = |of: &&Of| {
                let is_dead = self.source[of.1 as usize].is_dead;
                !is_dead && (self.settings.holds || !self.redrivable.contains(of))
            };
            let ordered: Vec<&Of> = tasks.iter().filter(is_in_order).collect();
            let first = |of: &&Of| self.effects.iter().position(|effect| effect == *of);
            let last = |of: &&Of| self.effects.iter().rposition(|effect| effect == *of);
            let firsts: Vec<_> = ordered.iter().map(first).collect();
            // A record is complete with all its tasks: until then a crash repeats those that are done.
            let alone = ordered.iter().filter(|of| self.source[of.1 as usize].lanes().count() == 1);
            let alone = alone.filter(|of| !self.settings.store_fails && !self.redrivable.contains(of));
            let lasts: Vec<_> = alone.map(last).collect();
            assert!(firsts.is_sorted() && lasts.is_sorted(), "lane {name}: {ordered:?}: {}", self.told());
        }
    }
}
