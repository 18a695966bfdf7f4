//! Where lanes are found: by name, or by number. Pure.
//!
//! A lane is told from others by two hashes of its partition and name, 96 bits together, under keys that each process
//! draws anew; 64 of them are a keyed pseudo-random function (SipHash-1-3). Names themselves are kept only for lanes that
//! have a task in memory: with a million parked lanes they would take more than everything else. Among a million lanes two
//! are taken for one with a chance of 10⁻¹⁷; then one would wait behind the other in source order, and nothing be lost.
//! As long as a lane's name is there, the name tells: the 64 bits are reckoned when it goes, which most lanes don't live to
//! see.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::TaskNo;
use super::slab::Slab;
use super::task::LaneNo;

/// Emptied lists of tasks that are kept for the next lanes, at most, and how long one may have become.
const SPARE_LISTS: usize = 1_024;
const SPARE_LENGTH: usize = 16;
/// How many bytes of a name's memory are kept for the next one's, at most.
const SPARE_NAME: usize = 128;
/// Stands for nothing where a number is expected.
const NOTHING: u32 = u32::MAX;
/// Set in the number of a list.
const MANY: u32 = 1 << 31;
/// Set beside the number of what is known while a task is in memory: the lane stands in a ready queue.
const QUEUED: u32 = 1 << 31;
/// Stands for no such number.
const ASLEEP: u32 = !QUEUED;
/// Stands for a keyed hash that nobody needed yet.
const UNCHECKED: [u32; 2] = [0, 0];

/// A lane. Small, as there is one for every waiting order; its tasks know its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    /// The keyed hash of partition and name, in two halves for the sake of the alignment.
    check: [u32; 2],
    /// The quick one.
    hash: u32,
    /// The slot of its only task, the number of the list of them, or nothing.
    tasks: u32,
    /// The number of what is known only while one of its tasks is in memory, and [`QUEUED`].
    awake: u32,
}

impl Lane {
    /// True while it stands in a ready queue.
    pub(super) fn is_queued(&self) -> bool {
        self.awake & QUEUED != 0
    }

    pub(super) fn set_queued(&mut self, queued: bool) {
        self.awake = self.awake & !QUEUED | if queued { QUEUED } else { 0 };
    }

    /// The number of what is known while a task is in memory; there is nothing at [`ASLEEP`].
    fn awake(&self) -> usize {
        (self.awake & !QUEUED) as usize
    }

    fn set_awake(&mut self, number: u32) {
        self.awake = self.awake & QUEUED | number;
    }
}

/// What is known of a lane while one of its tasks is in memory.
#[derive(Debug, Default)]
struct Awake {
    partition: i32,
    /// Its name, if it is called; kept for its memory otherwise.
    name: String,
    is_called: bool,
    /// The task that runs, rests, or is moving after an attempt.
    active: Option<TaskNo>,
    /// Tasks that are not simply parked.
    in_memory: u32,
}

/// Lanes by partition and name.
#[derive(Debug, Default)]
pub(super) struct Table {
    lanes: Slab<LaneNo, Lane>,
    /// Slots of lanes, by the quick hash.
    names: HashTable<u32>,
    quick: DefaultHashBuilder,
    keyed: RandomState,
    awake: Vec<Awake>,
    free_awake: Vec<u32>,
    /// Tasks of lanes that have several, by slot and in source order.
    lists: Vec<VecDeque<u32>>,
    free_lists: Vec<u32>,
}

impl Table {
    /// Bytes of one lane, with its entry by name at the table's lowest load.
    pub(super) const BYTES: usize = Slab::<LaneNo, Lane>::BYTES + 2 * (size_of::<u32>() + 1);

    pub(super) fn get(&self, no: LaneNo) -> Option<&Lane> {
        self.lanes.get(no)
    }

    pub(super) fn get_mut(&mut self, no: LaneNo) -> Option<&mut Lane> {
        self.lanes.get_mut(no)
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LaneNo, &Lane)> {
        self.lanes.iter()
    }

    /// The lane in `slot`.
    pub(super) fn no_at(&self, slot: u32) -> Option<LaneNo> {
        self.lanes.key_at(slot)
    }

    /// The lane called so, if it has open tasks.
    pub(super) fn find(&self, partition: i32, name: &str) -> Option<LaneNo> {
        if self.names.is_empty() {
            return None;
        }
        self.find_hashed(self.hash(partition, name), partition, name)
    }

    fn hash(&self, partition: i32, name: &str) -> u32 {
        self.quick.hash_one((partition, name)) as u32
    }

    fn find_hashed(&self, hash: u32, partition: i32, name: &str) -> Option<LaneNo> {
        let mut check = None;
        let is_it = |slot: &u32| {
            self.lanes.at(*slot).filter(|lane| lane.hash == hash).is_some_and(|lane| {
                let awake = self.awake.get(lane.awake());
                match awake.filter(|awake| awake.is_called) {
                    Some(awake) => (awake.partition, &*awake.name) == (partition, name),
                    None => lane.check == *check.get_or_insert_with(|| self.check(partition, name)),
                }
            })
        };
        self.names.find(spread(hash), is_it).and_then(|slot| self.lanes.key_at(*slot))
    }

    fn check(&self, partition: i32, name: &str) -> [u32; 2] {
        let hash = self.keyed.hash_one((partition, name)).max(1);
        [hash as u32, (hash >> 32) as u32]
    }

    /// True, with the quick hash where it was reckoned, when no lane is called so: then [`Table::make`] may make it.
    pub(super) fn lacks(&self, partition: i32, name: &str) -> Option<Lacking> {
        if self.names.is_empty() {
            return Some(Lacking(None));
        }
        let hash = self.hash(partition, name);
        self.find_hashed(hash, partition, name).is_none().then_some(Lacking(Some(hash)))
    }

    /// The lane called so; it is made if there is none.
    pub(super) fn find_or_make(&mut self, partition: i32, name: &str) -> LaneNo {
        let hash = self.hash(partition, name);
        match self.find_hashed(hash, partition, name) {
            Some(no) => no,
            None => self.make(partition, name, Lacking(Some(hash))),
        }
    }

    /// Makes the lane called so, which isn't there.
    pub(super) fn make(&mut self, partition: i32, name: &str, Lacking(hash): Lacking) -> LaneNo {
        let hash = hash.unwrap_or_else(|| self.hash(partition, name));
        let lane = Lane { check: UNCHECKED, hash, tasks: NOTHING, awake: ASLEEP };
        let (no, lanes) = (self.lanes.insert(lane), &self.lanes);
        let hash_of = |slot: &u32| lanes.at(*slot).map_or(0, |lane| spread(lane.hash));
        self.names.insert_unique(spread(hash), no.slot(), hash_of);
        no
    }

    /// Makes room for so many lanes more.
    pub(super) fn reserve(&mut self, lanes: usize) {
        self.lanes.reserve(lanes);
        let known = &self.lanes;
        self.names.reserve(lanes, |slot| known.at(*slot).map_or(0, |lane| spread(lane.hash)));
    }

    /// Forgets a lane.
    pub(super) fn remove(&mut self, no: LaneNo) {
        let Some(lane) = self.lanes.remove(no) else { return };
        let slot = no.slot();
        if let Ok(known) = self.names.find_entry(spread(lane.hash), |known| *known == slot) {
            known.remove();
        }
        if lane.tasks != NOTHING && lane.tasks & MANY != 0 {
            self.give_list_back(lane.tasks);
        }
        self.fall_asleep(lane.awake());
    }

    /// How many tasks a lane has.
    pub(super) fn count(&self, lane: &Lane) -> usize {
        match lane.tasks {
            NOTHING => 0,
            many if many & MANY != 0 => self.list(many).map_or(0, VecDeque::len),
            _only => 1,
        }
    }

    /// The slot of a lane's task at a place of its order.
    #[inline]
    pub(super) fn task_at(&self, lane: &Lane, at: usize) -> Option<u32> {
        match lane.tasks {
            NOTHING => None,
            many if many & MANY != 0 => self.list(many)?.get(at).copied(),
            only => (at == 0).then_some(only),
        }
    }

    /// The slots of a lane's tasks, in source order.
    pub(super) fn tasks<'t>(&'t self, lane: &'t Lane) -> impl DoubleEndedIterator<Item = u32> + 't {
        (0..self.count(lane)).filter_map(|at| self.task_at(lane, at))
    }

    /// Puts a task into a lane's order.
    pub(super) fn enlist(&mut self, no: LaneNo, at: usize, task: u32) {
        let Some(lane) = self.lanes.get_mut(no) else { return };
        match lane.tasks {
            NOTHING => lane.tasks = task,
            many if many & MANY != 0 => {
                if let Some(list) = self.lists.get_mut((many & !MANY) as usize) {
                    list.insert(at, task);
                }
            }
            only => {
                let number = self.free_lists.pop().unwrap_or_else(|| {
                    self.lists.push(VecDeque::new());
                    u32::try_from(self.lists.len() - 1).unwrap_or(NOTHING)
                });
                lane.tasks = number | MANY;
                let list = &mut self.lists[number as usize];
                list.push_back(only);
                list.insert(at, task);
            }
        }
    }

    /// Takes a task out of a lane's order.
    pub(super) fn strike(&mut self, no: LaneNo, task: u32) {
        let Some(lane) = self.lanes.get_mut(no) else { return };
        match lane.tasks {
            NOTHING => {}
            many if many & MANY != 0 => {
                let Some(list) = self.lists.get_mut((many & !MANY) as usize) else { return };
                if list.front() == Some(&task) {
                    list.pop_front();
                } else if let Some(at) = list.iter().position(|other| *other == task) {
                    list.remove(at);
                }
                if let (1, Some(&only)) = (list.len(), list.front()) {
                    lane.tasks = only;
                    self.give_list_back(many);
                }
            }
            only if only == task => lane.tasks = NOTHING,
            _other => {}
        }
    }

    fn list(&self, many: u32) -> Option<&VecDeque<u32>> {
        self.lists.get((many & !MANY) as usize)
    }

    fn give_list_back(&mut self, many: u32) {
        let number = many & !MANY;
        if let Some(list) = self.lists.get_mut(number as usize) {
            if self.free_lists.len() < SPARE_LISTS && list.capacity() <= SPARE_LENGTH {
                list.clear();
            } else {
                *list = VecDeque::new();
            }
            self.free_lists.push(number);
        }
    }

    /// The name of a lane that has a task in memory, once it is known.
    pub(super) fn name(&self, slot: u32) -> Option<&str> {
        let awake = self.awake.get(self.lanes.at(slot)?.awake())?;
        awake.is_called.then_some(&*awake.name)
    }

    /// Notes the name of a lane of `partition`. False when it is another one's.
    pub(super) fn learn(&mut self, slot: u32, partition: i32, name: &str) -> bool {
        if self.name(slot) == Some(name) {
            return true;
        }
        let Some(lane) = self.lanes.at(slot) else { return false };
        let is_its_own = lane.check != UNCHECKED && lane.check == self.check(partition, name);
        if is_its_own {
            self.call(slot, partition, name);
        }
        is_its_own
    }

    /// The lane in `slot` was found by its name, or made.
    pub(super) fn call(&mut self, slot: u32, partition: i32, name: &str) {
        let Some(lane) = self.lanes.at(slot) else { return };
        match self.awake.get_mut(lane.awake()) {
            Some(Awake { is_called: true, .. }) => {}
            Some(awake) => {
                (awake.partition, awake.is_called) = (partition, true);
                awake.name.push_str(name);
            }
            None if lane.check == UNCHECKED => {
                let check = self.check(partition, name);
                if let Some(lane) = self.lanes.at_mut(slot) {
                    lane.check = check;
                }
            }
            None => {}
        }
    }

    /// The task that runs, rests, or is moving after an attempt.
    pub(super) fn active(&self, lane: &Lane) -> Option<TaskNo> {
        self.awake.get(lane.awake()).and_then(|awake| awake.active)
    }

    pub(super) fn set_active(&mut self, slot: u32, active: Option<TaskNo>) {
        let lane = self.lanes.at(slot);
        if let Some(awake) = lane.and_then(|lane| self.awake.get_mut(lane.awake())) {
            awake.active = active;
        }
    }

    /// One task of a lane came into memory.
    pub(super) fn wake(&mut self, slot: u32) {
        let Some(lane) = self.lanes.at_mut(slot) else { return };
        if lane.awake() == ASLEEP as usize {
            lane.set_awake(self.free_awake.pop().unwrap_or_else(|| {
                self.awake.push(Awake::default());
                u32::try_from(self.awake.len() - 1).unwrap_or(ASLEEP)
            }));
        }
        if let Some(awake) = self.awake.get_mut(lane.awake()) {
            awake.in_memory += 1;
        }
    }

    /// One task of a lane isn't in memory any more. With the last one the lane's name goes.
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(lane) = self.lanes.at(slot) else { return };
        let (number, is_unchecked) = (lane.awake(), lane.check == UNCHECKED && lane.tasks != NOTHING);
        let Some(awake) = self.awake.get_mut(number) else { return };
        awake.in_memory -= 1;
        if awake.in_memory > 0 {
            return;
        }
        let check = match &self.awake[number] {
            Awake { partition, name, is_called: true, .. } if is_unchecked => {
                Some(self.check(*partition, name))
            }
            Awake { .. } => None,
        };
        if let Some(lane) = self.lanes.at_mut(slot) {
            lane.check = check.unwrap_or(lane.check);
            lane.set_awake(ASLEEP);
        }
        self.fall_asleep(number);
    }

    fn fall_asleep(&mut self, number: usize) {
        if let Some(awake) = self.awake.get_mut(number) {
            let mut name = std::mem::take(&mut awake.name);
            if name.capacity() > SPARE_NAME {
                name = String::new();
            }
            name.clear();
            *awake = Awake { name, ..Awake::default() };
            self.free_awake.push(u32::try_from(number).unwrap_or(ASLEEP));
        }
    }
}

/// A lane that isn't there; its quick hash, where it was reckoned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lacking(Option<u32>);

/// All bits of a hash from half of them: the table looks at both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
impl Table {
    /// True when nothing is remembered of lanes with tasks in memory.
    pub(super) fn is_asleep(&self) -> bool {
        self.awake.len() == self.free_awake.len() && self.lists.len() == self.free_lists.len()
    }

    /// Bytes of all that was allocated, but for names.
    pub(super) fn capacity_bytes(&self) -> usize {
        let lists: usize = self.lists.iter().map(|list| list.capacity() * size_of::<u32>()).sum();
        self.lanes.capacity_bytes()
            + self.names.allocation_size()
            + self.awake.capacity() * size_of::<Awake>()
            + self.lists.capacity() * size_of::<VecDeque<u32>>()
            + (self.free_awake.capacity() + self.free_lists.capacity()) * size_of::<u32>()
            + lists
    }
}
