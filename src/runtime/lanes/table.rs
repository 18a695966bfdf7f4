//! Where lanes and tasks are found: lanes by name, tasks by number or by what identifies them. Pure.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::slab::Slab;
use super::task::{Lane, LaneNo, Standing, Task};
use super::{Identity, Lanes, TaskNo};

/// Emptied lists of tasks that are kept for the next lanes, at most, and how long one may have become.
const SPARE_LISTS: usize = 1_024;
const SPARE_LENGTH: usize = 16;

/// Lanes by partition and name.
#[derive(Debug, Default)]
pub(super) struct Table {
    lanes: Slab<LaneNo, Lane>,
    names: HashTable<LaneNo>,
    hasher: DefaultHashBuilder,
    /// Lists of lanes that are gone; kept for their memory.
    lists: Vec<VecDeque<TaskNo>>,
}

impl Table {
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

    /// The lane called so, if it has open tasks.
    pub(super) fn find(&self, partition: i32, name: &str) -> Option<LaneNo> {
        if self.names.is_empty() {
            return None;
        }
        self.find_hashed(self.hasher.hash_one((partition, name)), partition, name)
    }

    fn find_hashed(&self, hash: u64, partition: i32, name: &str) -> Option<LaneNo> {
        let is_it = |no: &LaneNo| {
            self.lanes.get(no).is_some_and(|lane| lane.partition == partition && *lane.name == *name)
        };
        self.names.find(hash, is_it).copied()
    }

    /// The lane called so; it is made if there is none.
    pub(super) fn find_or_make(&mut self, partition: i32, name: &Arc<str>) -> LaneNo {
        let hash = self.hasher.hash_one((partition, &**name));
        if let Some(no) = self.find_hashed(hash, partition, name) {
            return no;
        }
        let tasks = self.lists.pop().unwrap_or_default();
        let lane = Lane { name: Arc::clone(name), partition, hash, tasks, active: None, queued: false };
        let (no, lanes) = (self.lanes.insert(lane), &self.lanes);
        self.names.insert_unique(hash, no, |no| lanes.get(no).map_or(0, |lane| lane.hash));
        no
    }

    /// Forgets a lane.
    pub(super) fn remove(&mut self, no: LaneNo) {
        let Some(hash) = self.lanes.get(no).map(|lane| lane.hash) else { return };
        if let Ok(known) = self.names.find_entry(hash, |known| *known == no) {
            known.remove();
        }
        let Some(mut lane) = self.lanes.remove(no) else { return };
        lane.tasks.clear();
        if self.lists.len() < SPARE_LISTS && lane.tasks.capacity() <= SPARE_LENGTH {
            self.lists.push(lane.tasks);
        }
    }
}

impl Lanes {
    /// The lanes of a partition.
    pub(super) fn lanes_of(&self, partition: i32) -> Vec<LaneNo> {
        self.lanes.iter().filter(|(_, lane)| lane.partition == partition).map(|(no, _)| no).collect()
    }

    pub(super) fn lane_for(&mut self, identity: &Identity) -> LaneNo {
        self.lanes.find_or_make(identity.partition, &identity.lane)
    }

    /// The open task with that identity, or where it belongs in its lane.
    pub(super) fn find(&self, lane_no: LaneNo, identity: &Identity) -> Result<TaskNo, usize> {
        let Some(lane) = self.lanes.get(lane_no) else { return Err(0) };
        let wanted = (identity.offset, &identity.target);
        let found = lane.tasks.binary_search_by(|no| {
            self.tasks.get(no).map(|task| (task.identity.offset, &task.identity.target)).cmp(&Some(wanted))
        });
        found.map(|at| lane.tasks[at])
    }

    pub(super) fn insert(&mut self, lane_no: LaneNo, at: usize, task: Task) -> TaskNo {
        let standing = Standing::of(&task);
        self.census.entry(task.identity.partition).or_default().enter(standing);
        self.ready.shift(&task.identity, Standing::default(), standing);
        let no = self.tasks.insert(task);
        if let Some(lane) = self.lanes.get_mut(lane_no) {
            lane.tasks.insert(at, no);
        }
        no
    }
}
