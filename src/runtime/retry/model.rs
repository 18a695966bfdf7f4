//! The retry protocol as a pure state machine: owners that crash, freeze and take over, appends that land late, commits
//! from one snapshot. Whatever happens, every record takes effect and no lane's order breaks.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Epoch, Marked, Tenure};
use crate::runtime::lanes::{Admitted, History, Identity, Indexed, Lanes, Place, Room, TaskNo, Vacated};
use crate::runtime::offsets::{CompletedRuns, Tracker, decode};

const CONCURRENCY: usize = 3;
const SHARE: usize = 3;
const LANES: u8 = 3;

/// A record of the retry partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parked {
    Marker(Epoch),
    Task { offset: i64, attempt: u32, epoch: Epoch },
}

/// An append that was sent: it lands later, perhaps when its sender is long superseded.
#[derive(Debug, Clone, Copy)]
struct Append {
    parked: Parked,
    task: Option<TaskNo>,
}

/// What the group keeps: both positions with their maps, from one commit.
#[derive(Debug, Clone)]
struct Committed {
    source: CompletedRuns,
    retry: CompletedRuns,
}

#[derive(Debug, Default)]
struct World {
    /// Lane of each source record.
    source: Vec<u8>,
    retry: Vec<Parked>,
    committed: Option<Committed>,
    owner: Option<Owner>,
    /// Appends of owners that froze.
    late: VecDeque<Parked>,
    owners: u64,
    /// Source offsets in the order in which they took effect.
    effects: Vec<i64>,
}

#[derive(Debug)]
struct Owner {
    tenure: Tenure,
    lanes: Lanes,
    source: Tracker,
    retry: Tracker,
    source_end: i64,
    held: bool,
    running: VecDeque<TaskNo>,
    sent: VecDeque<Append>,
    landed: VecDeque<(TaskNo, i64)>,
}

impl World {
    /// Whoever owned the partition is gone; a new owner begins from what is committed.
    fn take_over(&mut self, freezes: bool) {
        if let Some(former) = self.owner.take().filter(|_| freezes) {
            self.late.extend(former.sent.iter().map(|append| append.parked));
        }
        self.owners += 1;
        let none = || CompletedRuns { base: 0, generation: 0, runs: Vec::new() };
        let Committed { source, retry } =
            self.committed.clone().unwrap_or_else(|| Committed { source: none(), retry: none() });
        self.owner = Some(Owner {
            tenure: Tenure::new(self.owners, source.generation, retry.generation),
            lanes: Lanes::default(),
            source: Tracker::resume(source.base, &source.runs),
            retry: Tracker::resume(retry.base, &retry.runs),
            source_end: self.source.len() as i64,
            held: false,
            running: VecDeque::new(),
            sent: VecDeque::new(),
            landed: VecDeque::new(),
        });
        self.claim();
    }

    fn commit(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        let claimed = owner.tenure.own().generation;
        let marked = owner.tenure.marked_below(owner.retry.committable());
        let source = decode(&owner.source.map(claimed)).expect("ours");
        let retry = decode(&owner.retry.map(marked)).expect("ours");
        self.committed = Some(Committed { source, retry });
    }

    fn claim(&mut self) {
        self.commit();
        if let Some(owner) = &mut self.owner {
            owner.tenure.claimed();
            owner.sent.push_back(Append { parked: Parked::Marker(owner.tenure.own()), task: None });
        }
    }

    fn land(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        let Some(append) = owner.sent.pop_front() else { return };
        if let Some(task) = append.task {
            owner.landed.push_back((task, self.retry.len() as i64));
        }
        self.retry.push(append.parked);
    }

    fn land_late(&mut self) {
        self.retry.extend(self.late.pop_front());
    }

    fn acknowledge(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        let Some((task, offset)) = owner.landed.pop_front() else { return };
        let source = owner.lanes.offset(task).expect("still open");
        let vacated = owner.lanes.parked(task, Place { offset, due_ms: 0 }, 0);
        owner.vacate(source, vacated);
    }

    fn read_source(&mut self) {
        let Some(owner) = self.owner.as_mut().filter(|owner| owner.held) else { return };
        let offset = owner.source.delivered();
        let Some(&lane) = self.source.get(offset as usize) else { return };
        if owner.source.deliver(offset) {
            match owner.lanes.fresh(identity(lane, offset), SHARE, 0) {
                Admitted::Queued(_) => {}
                Admitted::Park(task) => owner.send(task, offset),
                Admitted::AlreadyParked => owner.source.complete(offset),
            }
        }
        let admitted = owner.admitted();
        owner.lanes.admitted(0, admitted, 0);
    }

    fn read_retry(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        let at = owner.retry.delivered();
        let Some(&parked) = self.retry.get(at as usize) else { return };
        let is_open = owner.retry.deliver(at);
        match parked {
            Parked::Marker(epoch) => {
                owner.retry.complete(at);
                match owner.tenure.on_marker(at, epoch) {
                    Marked::Passed => {}
                    Marked::Ours => {
                        owner.held = true;
                        let admitted = owner.admitted();
                        owner.lanes.open(0, admitted, 0);
                    }
                    Marked::Again => self.claim(),
                    Marked::Superseded => panic!("the true owner is never superseded"),
                }
            }
            Parked::Task { .. } if !is_open => {}
            Parked::Task { epoch, .. } if owner.tenure.is_void(epoch) => owner.retry.complete(at),
            Parked::Task { offset, attempt, .. } => {
                owner.source_end = owner.source_end.max(offset + 1);
                let history = History { attempt, ..History::default() };
                let place = Place { offset: at, due_ms: 0 };
                let lane = self.source[offset as usize];
                match owner.lanes.index(identity(lane, offset), place, history, 0) {
                    Indexed::New(_) | Indexed::Known => {}
                    Indexed::Replaced { older, .. } => owner.retry.complete(older),
                    Indexed::Older => owner.retry.complete(at),
                }
            }
        }
    }

    fn start(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        owner.running.extend(owner.lanes.next(CONCURRENCY, &|_| Room::AtOnce(CONCURRENCY), 0));
    }

    /// The task that runs longest ends, with an effect or by being parked.
    fn end(&mut self, fails: bool) {
        let Some(owner) = &mut self.owner else { return };
        let Some(task) = owner.running.pop_front() else { return };
        let offset = owner.lanes.offset(task).expect("still open");
        if fails {
            let behind = owner.lanes.park(task, 0);
            for task in std::iter::once(task).chain(behind) {
                let offset = owner.lanes.offset(task).expect("still open");
                owner.send(task, offset);
            }
        } else {
            self.effects.push(offset);
            let vacated = owner.lanes.complete(task, 0);
            owner.vacate(offset, vacated);
        }
    }

    /// Rule 6: the lowest waiting record is copied to the end.
    fn carry_forward(&mut self) {
        let Some(owner) = self.owner.as_mut().filter(|owner| owner.held) else { return };
        let Some((_, task)) = owner.lanes.lowest_places(0, 1).pop() else { return };
        if owner.lanes.carry(task).is_some() {
            let offset = owner.lanes.offset(task).expect("still open");
            owner.send(task, offset);
        }
    }

    fn step(&mut self, what: u8, lane: u8) {
        match what {
            0 | 1 => self.source.push(lane % LANES),
            2..=4 => self.read_source(),
            5..=7 => self.read_retry(),
            8 | 9 => self.start(),
            10..=12 => self.end(lane.is_multiple_of(3)),
            13 | 14 => self.land(),
            15 => self.land_late(),
            16 | 17 => self.acknowledge(),
            18 => self.commit(),
            19 => self.carry_forward(),
            _ => self.take_over(!lane.is_multiple_of(3)),
        }
    }

    /// Lets the owner do all that there is to do, or all but tell the group of it.
    fn drain(&mut self, commits: bool) {
        for _ in 0..10 * (self.source.len() + self.retry.len() + 10) {
            self.land();
            self.acknowledge();
            self.read_retry();
            self.read_source();
            self.start();
            self.end(false);
        }
        if commits {
            self.commit();
        }
        let owner = self.owner.as_ref().expect("somebody owns it");
        assert_eq!(owner.source.committable(), self.source.len() as i64, "stuck: {self:?}");
        assert_eq!(owner.retry.committable(), self.retry.len() as i64, "stuck: {self:?}");
    }

    /// Invariants 1 and 2: everything took effect; nothing overtook, and nothing ran again behind what came later.
    fn check(&self) {
        let mut lanes: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for (offset, lane) in self.source.iter().enumerate() {
            lanes.entry(*lane).or_default().push(offset as i64);
        }
        for (lane, offsets) in lanes {
            let first = |offset: &i64| self.effects.iter().position(|effect| effect == offset);
            let last = |offset: &i64| self.effects.iter().rposition(|effect| effect == offset);
            let firsts: Vec<_> = offsets.iter().map(first).collect();
            let lasts: Vec<_> = offsets.iter().map(last).collect();
            assert!(
                firsts.iter().all(Option::is_some),
                "lost in lane {lane}: {offsets:?}, {:?}",
                self.effects
            );
            assert!(firsts.is_sorted() && lasts.is_sorted(), "lane {lane}: {offsets:?}, {:?}", self.effects);
        }
    }
}

impl Owner {
    fn admitted(&self) -> i64 {
        let next = self.source.delivered();
        if next >= self.source_end { i64::MAX } else { next }
    }

    fn send(&mut self, task: TaskNo, offset: i64) {
        let attempt = self.lanes.history(task).unwrap_or_default().attempt;
        let parked = Parked::Task { offset, attempt, epoch: self.tenure.own() };
        self.sent.push_back(Append { parked, task: Some(task) });
    }

    fn vacate(&mut self, offset: i64, vacated: Vacated) {
        vacated.places.into_iter().for_each(|place| self.retry.complete(place));
        if vacated.source {
            self.source.complete(offset);
        }
    }
}

fn identity(lane: u8, offset: i64) -> Identity<'static> {
    let lane = ["first", "second", "third"][usize::from(lane)];
    Identity { partition: 0, lane, target: "t".into(), offset, priority: 100 }
}

/// Parks one task of an owner that freezes before the append lands; the second one finishes everything, the append
/// lands, and the second one crashes before it commits that.
#[test]
fn a_task_that_a_frozen_owner_parked_is_not_run_again_by_the_third() {
    let mut world = World::default();
    world.take_over(false);
    world.drain(true);
    world.source.extend([0, 0]);
    world.read_source();
    world.start();
    world.end(true);
    world.take_over(true);
    let late = std::mem::take(&mut world.late);
    world.drain(true);
    assert_eq!(world.effects, [0, 1]);
    world.late = late;
    world.land_late();
    world.take_over(false);
    world.drain(true);
    assert_eq!(world.effects, [0, 1], "the frozen owner's append is void");
}

/// Whatever the steps are: at the end nothing is lost, and no lane's order is broken.
fn holds_after(steps: &[(u8, u8)], commits: bool) {
    let mut world = World::default();
    world.take_over(false);
    for &(what, lane) in steps {
        world.step(what, lane);
    }
    world.drain(commits);
    // What frozen owners sent lands now, and the owner dies before it has told of anything since its last commit.
    while !world.late.is_empty() {
        world.land_late();
    }
    world.take_over(true);
    world.drain(true);
    // Nothing is left to do for the next one.
    let effects = world.effects.len();
    world.take_over(false);
    world.drain(true);
    assert_eq!(world.effects.len(), effects);
    world.check();
}

/// An owner freezes with two appends on their way. One lands before the second owner's marker and waits; the other behind
/// that marker, of which the second one has committed that it is complete, and no more: then it crashes.
#[test]
fn a_marker_that_is_complete_above_the_position_counts_for_the_third() {
    let parks_two =
        [(13, 0), (0, 0), (5, 0), (2, 0), (0, 0), (8, 0), (2, 0), (0, 1), (10, 0), (0, 0), (2, 0)];
    let first_runs_again = [(13, 0), (8, 0), (13, 0), (16, 0), (8, 0), (18, 0), (10, 1), (2, 0), (10, 0)];
    let freezes = [(20, 1), (15, 0), (13, 0)];
    let second = [(5, 0), (5, 0), (5, 0), (5, 0), (8, 0), (10, 1), (2, 0), (8, 0), (15, 0), (10, 1), (18, 0)];
    holds_after(&[&parks_two[..], &first_runs_again, &freezes, &second, &[(0, 0)]].concat(), false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_lost_and_no_lane_breaks_whoever_crashes_or_freezes(
        steps in prop::collection::vec((0_u8..21, any::<u8>()), 1..250),
        commits: bool,
    ) {
        holds_after(&steps, commits);
    }
}
