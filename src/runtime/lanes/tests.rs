//! The lanes against a model that remembers everything, under arbitrary interleavings.

mod owing;
mod parked;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::ready::OWED_PER_SLOT;
use super::*;

const MANY: usize = 1_000;

fn identity<'n>(lane: &'n str, target: &'n str, offset: i64, priority: u16) -> Identity<'n> {
    Identity { partition: 0, lane, target: target.into(), offset, priority }
}

fn open_lanes() -> Lanes {
    let mut lanes = Lanes::default();
    lanes.open(0, i64::MAX, 0);
    lanes
}

fn queued(admitted: Admitted) -> TaskNo {
    match admitted {
        Admitted::Queued(no) => no,
        Admitted::Park(_) | Admitted::AlreadyParked => panic!("not queued: {admitted:?}"),
    }
}

fn to_park(admitted: Admitted) -> TaskNo {
    match admitted {
        Admitted::Park(no) => no,
        Admitted::Queued(_) | Admitted::AlreadyParked => panic!("not to be parked: {admitted:?}"),
    }
}

fn start(lanes: &mut Lanes, now_ms: i64) -> Option<TaskNo> {
    lanes.next(MANY, &|_| Room::AtOnce(MANY), now_ms)
}

#[test]
fn behind_a_parked_task_fresh_ones_are_parked_and_then_run_in_source_order() {
    let mut lanes = open_lanes();
    let first = queued(lanes.fresh(identity("a", "t", 1, 100), MANY, 0));
    let second = queued(lanes.fresh(identity("a", "t", 2, 100), MANY, 0));
    assert_eq!(start(&mut lanes, 0), Some(first));
    assert_eq!(start(&mut lanes, 0), None, "one at a time");
    assert_eq!(lanes.park(first, 0), vec![second]);
    let third = to_park(lanes.fresh(identity("a", "t", 3, 100), MANY, 0));
    // Acknowledged in any order.
    assert!(lanes.parked(third, Place { offset: 10, due_ms: 0 }, 0).source);
    assert!(lanes.parked(first, Place { offset: 11, due_ms: 50 }, 0).source);
    assert_eq!(start(&mut lanes, 0), None, "the first is not due");
    assert_eq!(lanes.next_due_ms(), Some(50));
    lanes.wake(50);
    assert_eq!(start(&mut lanes, 50), Some(first));
    assert_eq!(lanes.complete(first, 50), Vacated { places: vec![11], source: false });
    assert_eq!(start(&mut lanes, 50), None, "the second is still on its way");
    lanes.parked(second, Place { offset: 12, due_ms: i64::MAX }, 50);
    lanes.wake(60);
    let next = start(&mut lanes, 60);
    assert_eq!(next, None, "its own due time holds when it was not head while it was parked");
    lanes.wake(i64::MAX);
    assert_eq!(start(&mut lanes, i64::MAX), Some(second));
    lanes.complete(second, 70);
    assert_eq!(start(&mut lanes, 70), Some(third), "due at once when the one before it ended");
}

#[test]
fn a_redelivered_record_whose_task_is_parked_needs_nothing_and_a_lower_one_runs_first() {
    let mut lanes = Lanes::default();
    let place = Place { offset: 4, due_ms: 0 };
    let Indexed::New(parked) = lanes.index(identity("a", "t", 7, 100), place, History::default(), 0) else {
        panic!("it is new")
    };
    assert_eq!(start(&mut lanes, 0), None, "nothing starts before the partition was read back");
    lanes.open(0, i64::MAX, 0);
    let lower = queued(lanes.fresh(identity("a", "t", 5, 100), MANY, 0));
    assert_eq!(lanes.fresh(identity("a", "t", 7, 100), MANY, 0), Admitted::AlreadyParked);
    assert_eq!(start(&mut lanes, 0), Some(lower));
    lanes.complete(lower, 0);
    assert_eq!(start(&mut lanes, 0), Some(parked));
}

/// A record below it comes again, or from a backfill: it runs, and the held one still waits for a decision.
#[test]
fn a_held_task_stays_held_when_one_before_it_ends() {
    let mut lanes = Lanes::default();
    let place = Place { offset: 4, due_ms: i64::MAX };
    let Indexed::New(_held) = lanes.index(identity("a", "t", 7, 100), place, History::default(), 0) else {
        panic!("it is new")
    };
    lanes.open(0, i64::MAX, 0);
    let lower = queued(lanes.fresh(identity("a", "t", 5, 100), MANY, 0));
    assert_eq!(start(&mut lanes, 0), Some(lower));
    lanes.complete(lower, 0);
    lanes.wake(1_000);
    assert_eq!(start(&mut lanes, 1_000), None);
}

/// Invariant 2 (order): a former owner parked 7 while 5 was still in its memory, and committed neither.
#[test]
fn parked_work_waits_until_its_source_record_came_by_again() {
    let mut lanes = Lanes::default();
    let place = Place { offset: 4, due_ms: 0 };
    let Indexed::New(parked) = lanes.index(identity("a", "t", 7, 100), place, History::default(), 0) else {
        panic!("it is new")
    };
    let Indexed::New(older) = lanes.index(identity("b", "t", 3, 100), place, History::default(), 0) else {
        panic!("it is new")
    };
    lanes.open(0, 5, 0);
    assert_eq!(start(&mut lanes, 0), Some(older), "below the committed position nothing comes again");
    assert_eq!(start(&mut lanes, 0), None, "7 waits: something of its lane may come before it");
    let lower = queued(lanes.fresh(identity("a", "t", 5, 100), MANY, 0));
    lanes.admitted(0, 6, 0);
    assert_eq!(start(&mut lanes, 0), Some(lower));
    lanes.complete(lower, 0);
    assert_eq!(start(&mut lanes, 0), None, "7 has not come by yet");
    assert_eq!(lanes.fresh(identity("a", "t", 7, 100), MANY, 0), Admitted::AlreadyParked);
    lanes.admitted(0, 8, 0);
    assert_eq!(start(&mut lanes, 0), Some(parked));
}

#[test]
fn of_several_copies_the_latest_counts() {
    let mut lanes = Lanes::default();
    let at = |offset| Place { offset, due_ms: 0 };
    let attempt = |attempt| History { attempt, first_failed_at_ms: Some(1), ..History::default() };
    let Indexed::New(task) = lanes.index(identity("a", "t", 7, 100), at(4), attempt(1), 0) else {
        panic!("it is new")
    };
    let again = lanes.index(identity("a", "t", 7, 100), at(9), attempt(2), 0);
    assert_eq!(again, Indexed::Replaced { task, older: 4 });
    assert_eq!(lanes.index(identity("a", "t", 7, 100), at(9), attempt(2), 0), Indexed::Known);
    assert_eq!(lanes.index(identity("a", "t", 7, 100), at(6), attempt(1), 0), Indexed::Older);
    assert_eq!(lanes.history(task), Some(attempt(2)));
}

#[test]
fn a_target_that_hangs_takes_neither_all_slots_nor_all_waiting_room() {
    let mut lanes = open_lanes();
    let limit = |target: &str| Room::AtOnce(if target == "slow" { 2 } else { MANY });
    for offset in 0..10 {
        let admitted = lanes.fresh(identity(&format!("s{offset}"), "slow", offset, 100), 5, 0);
        assert_eq!(matches!(admitted, Admitted::Park(_)), offset >= 5, "{offset}: {admitted:?}");
    }
    let healthy = queued(lanes.fresh(identity("h", "healthy", 11, 100), 5, 0));
    let started: Vec<TaskNo> = std::iter::from_fn(|| lanes.next(10, &limit, 0)).collect();
    assert_eq!(started.len(), 3);
    assert!(started.contains(&healthy));
}

/// Invariant 3 (isolation): what rests takes no slot, and is looked at again when its time has come.
#[test]
fn a_target_that_is_to_be_left_alone_rests_until_its_time_and_others_go_on() {
    let mut lanes = open_lanes();
    let room = |target: &str| if target == "away" { Room::NotBefore(50) } else { Room::AtOnce(MANY) };
    let away = queued(lanes.fresh(identity("a", "away", 1, 100), MANY, 0));
    let other = queued(lanes.fresh(identity("b", "there", 2, 100), MANY, 0));
    assert_eq!(lanes.next(10, &room, 0), Some(other));
    assert_eq!(lanes.next(10, &room, 0), None);
    assert!(lanes.clear(0, "c", "away", 10, &room).is_none(), "not even what never waited");
    assert_eq!((lanes.next_due_ms(), lanes.free_slots(10)), (Some(50), 9));
    // Something new of it changes nothing.
    let second = queued(lanes.fresh(identity("c", "away", 3, 100), MANY, 10));
    assert_eq!(lanes.next(10, &room, 10), None);
    lanes.wake(49);
    assert_eq!(start(&mut lanes, 49), None, "nobody asks before");
    lanes.wake(50);
    assert_eq!(start(&mut lanes, 50), Some(away));
    assert_eq!(start(&mut lanes, 50), Some(second));
    assert_eq!(lanes.next_due_ms(), None);
}

#[test]
fn a_target_that_needn_t_rest_any_longer_goes_on_before_its_time() {
    let mut lanes = open_lanes();
    let room = |_: &str| Room::NotBefore(1_000_000);
    let moved = queued(lanes.fresh(identity("a", "moved", 1, 100), MANY, 0));
    queued(lanes.fresh(identity("b", "down", 2, 100), MANY, 0));
    assert_eq!(lanes.next(10, &room, 0), None);
    lanes.wake_early(&|target| target == "moved");
    assert_eq!((start(&mut lanes, 1), start(&mut lanes, 1)), (Some(moved), None));
    assert_eq!(lanes.next_due_ms(), Some(1_000_000), "the other rests on");
}

#[test]
fn the_urgent_go_first_but_the_lowest_priority_is_not_starved() {
    let mut lanes = open_lanes();
    for offset in 0..2_000 {
        let priority = if offset % 2 == 0 { 10 } else { 200 };
        queued(lanes.fresh(identity(&format!("l{offset}"), "t", offset, priority), MANY * 10, 0));
    }
    let mut low = 0;
    for _ in 0..1_000 {
        let no = lanes.next(1, &|_| Room::AtOnce(MANY), 0).expect("work waits");
        low += usize::from(lanes.known(no).expect("open").priority == 200);
        lanes.complete(no, 0);
    }
    assert!((50..=150).contains(&low), "{low} of 1000 starts");
}

#[test]
fn however_many_priorities_wait_the_lowest_gets_its_share() {
    let mut lanes = open_lanes();
    for offset in 0..16_000 {
        let priority = 10 * u16::try_from(offset % 8).expect("small");
        queued(lanes.fresh(identity(&format!("l{offset}"), "t", offset, priority), usize::MAX, 0));
    }
    let mut starts = BTreeMap::new();
    for _ in 0..1_600 {
        let no = lanes.next(1, &|_| Room::AtOnce(MANY), 0).expect("work waits");
        *starts.entry(lanes.known(no).expect("open").priority).or_insert(0) += 1;
        lanes.complete(no, 0);
    }
    assert!(starts[&70] >= 80, "5 % of 1,600 starts: {starts:?}");
    assert!(starts[&0] >= 1_280, "80 % are the most urgent: {starts:?}");
    assert!(starts.values().all(|starts| *starts > 0), "none is starved: {starts:?}");
}

#[test]
fn parked_work_is_served_in_the_order_in_which_it_was_parked() {
    let mut lanes = Lanes::default();
    for (lane, offset, place) in [("c", 9, 5), ("a", 1, 7), ("b", 4, 6), ("a", 2, 8)] {
        lanes.index(
            identity(lane, "t", offset, 100),
            Place { offset: place, due_ms: 0 },
            History::default(),
            0,
        );
    }
    lanes.open(0, i64::MAX, 0);
    let mut places = Vec::new();
    while let Some(no) = lanes.next(10, &|_| Room::AtOnce(10), 0) {
        places.extend(lanes.place(no).map(|place| place.offset));
        lanes.complete(no, 0);
    }
    assert_eq!(places, [5, 6, 7, 8]);
}

/// What the model knows of the world outside: the two partitions.
#[derive(Default)]
struct World {
    now_ms: i64,
    next_source: i64,
    next_place: i64,
    running: Vec<TaskNo>,
    owing: Vec<TaskNo>,
    moving: Vec<TaskNo>,
    owed_source: BTreeSet<i64>,
    open_places: BTreeSet<i64>,
    lane_of: HashMap<i64, String>,
    done: BTreeMap<String, Vec<i64>>,
}

impl World {
    fn vacate(&mut self, offset: i64, vacated: Vacated) {
        if vacated.source {
            assert!(self.owed_source.remove(&offset), "source {offset} completed twice");
        }
        for place in vacated.places {
            assert!(self.open_places.remove(&place), "place {place} completed twice");
        }
    }

    fn deliver(&mut self, lanes: &mut Lanes, lane: u8, target: u8, share: usize) {
        let offset = self.next_source;
        self.next_source += 1;
        let lane = format!("lane {lane}");
        let admitted =
            lanes.fresh(identity(&lane, &format!("target {target}"), offset, 100), share, self.now_ms);
        self.owed_source.insert(offset);
        self.lane_of.insert(offset, lane);
        match admitted {
            Admitted::Queued(_) => {}
            Admitted::Park(no) => self.moving.push(no),
            Admitted::AlreadyParked => panic!("never seen before"),
        }
    }

    /// A record whose lane is clear starts at once, as the engine does it.
    fn deliver_and_start(&mut self, lanes: &mut Lanes, lane: u8, target: u8, slots: usize) {
        let (name, target) = (format!("lane {lane}"), format!("target {target}"));
        if let Some(clear) = lanes.clear(0, &name, &target, slots, &|_| Room::AtOnce(2)) {
            let offset = self.next_source;
            self.next_source += 1;
            let no = lanes.begin(identity(&name, &target, offset, 100), clear);
            assert_eq!(lanes.history(no), Some(History { attempt: 1, ..History::default() }));
            self.owed_source.insert(offset);
            self.lane_of.insert(offset, name);
            self.started(lanes, no, slots);
        }
    }

    fn start(&mut self, lanes: &mut Lanes, slots: usize) -> bool {
        let Some(no) = lanes.next(slots, &|_| Room::AtOnce(2), self.now_ms) else { return false };
        self.started(lanes, no, slots);
        true
    }

    fn started(&mut self, lanes: &Lanes, no: TaskNo, slots: usize) {
        let lane = |no| &self.lane_of[&lanes.offset(no).expect("open")];
        assert!(lanes.known(no).expect("open").lane.is_none_or(|name| name == &**lane(no)));
        for &other in self.running.iter().chain(&self.owing) {
            assert_ne!(lane(other), lane(no), "two of a lane at once");
        }
        self.running.push(no);
        assert!(self.running.len() <= slots && self.owing.len() < slots * OWED_PER_SLOT);
    }

    fn answer(&mut self, lanes: &mut Lanes, which: usize) {
        if !self.running.is_empty() {
            let no = self.running.swap_remove(which % self.running.len());
            lanes.answered(no);
            self.owing.push(no);
        }
    }

    fn finish(&mut self, lanes: &mut Lanes, which: usize, how: u8) {
        // What runs ends, or what was answered is on record.
        let all = self.running.len() + self.owing.len();
        let no = match which.checked_rem(all) {
            None => return,
            Some(at) if at < self.running.len() => self.running.swap_remove(at),
            Some(at) => self.owing.swap_remove(at - self.running.len()),
        };
        let offset = lanes.offset(no).expect("open");
        // As the record of a parked one tells it.
        assert!(!lanes.learn(no, "another lane") && lanes.learn(no, &self.lane_of[&offset]));
        assert!(lanes.known(no).and_then(|known| known.lane).is_some(), "it can be put aside");
        match how {
            0 => lanes.rest(no, self.now_ms + 3, Attempt::Failed, self.now_ms),
            1 => {
                let behind = lanes.park(no, self.now_ms);
                self.moving.push(no);
                self.moving.extend(behind);
            }
            _ => {
                let vacated = lanes.complete(no, self.now_ms);
                self.vacate(offset, vacated);
                self.done.entry(self.lane_of[&offset].clone()).or_default().push(offset);
            }
        }
    }

    fn acknowledge(&mut self, lanes: &mut Lanes, which: usize, delay: i64) {
        if self.moving.is_empty() {
            return;
        }
        let no = self.moving.swap_remove(which % self.moving.len());
        let offset = lanes.offset(no).expect("open");
        let place = Place { offset: self.next_place, due_ms: self.now_ms + delay };
        self.next_place += 1;
        self.open_places.insert(place.offset);
        let vacated = lanes.parked(no, place, self.now_ms);
        self.vacate(offset, vacated);
    }

    fn pass(&mut self, lanes: &mut Lanes, by_ms: i64) {
        self.now_ms += by_ms;
        lanes.wake(self.now_ms);
    }
}

proptest! {
    /// Invariants 1, 2, 3 and 7: whatever happens in whatever order, tasks of a lane take effect once and in
    /// source order, one at a time, and every offset is given back exactly once.
    #[test]
    fn lanes_keep_order_and_lose_nothing(
        steps in prop::collection::vec((0u8..16, any::<u8>(), 0u8..5, 0u8..3), 1..300),
        share in 1usize..8,
        slots in 1usize..6,
    ) {
        let mut lanes = open_lanes();
        let mut world = World::default();
        for (step, which, lane, target) in steps {
            match step {
                0..=3 => world.deliver(&mut lanes, lane, target, share),
                4..=6 => { world.start(&mut lanes, slots); }
                7..=8 => world.finish(&mut lanes, which.into(), which % 4),
                9..=10 => world.acknowledge(&mut lanes, which.into(), i64::from(which % 7)),
                14..=15 => world.answer(&mut lanes, which.into()),
                12..=13 => world.deliver_and_start(&mut lanes, lane, target, slots),
                _ => world.pass(&mut lanes, i64::from(which % 5)),
            }
            let census = lanes.census(0);
            prop_assert_eq!(
                census.parked + census.in_memory,
                world.owed_source.len() as u64 + world.open_places.len() as u64
            );
        }
        // From now on everything succeeds: nothing may be stuck.
        for _ in 0..10_000 {
            while !world.moving.is_empty() {
                world.acknowledge(&mut lanes, 0, 0);
            }
            while world.start(&mut lanes, slots) {}
            world.finish(&mut lanes, 0, 2);
            world.pass(&mut lanes, 1);
            if world.owed_source.is_empty() && world.open_places.is_empty() {
                break;
            }
        }
        let done: usize = world.done.values().map(Vec::len).sum();
        prop_assert_eq!(done as i64, world.next_source, "stuck: {:?}", lanes);
        for offsets in world.done.values() {
            prop_assert!(offsets.is_sorted(), "{:?}", offsets);
        }
        prop_assert_eq!(lanes.count(), Count::default());
        prop_assert_eq!(lanes.census(0), Census::default());
        prop_assert!(lanes.ready.is_empty(), "{:?}", lanes.ready);
        prop_assert_eq!(lanes.bytes(), 0);
        prop_assert!(lanes.lanes.is_asleep() && lanes.targets.is_idle() && lanes.read_back.is_empty(), "{:?}", lanes);
    }
}
