//! How far a stage is, for people, health checks, metrics and tests: a snapshot that can be watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::{Ended, PartitionFault, RunError};
use super::watchdog::Trouble;

/// A stage member that was started.
#[derive(Debug)]
pub struct StageHandle {
    /// The stage's name.
    pub stage: String,
    /// How it ended, once it has.
    pub join: JoinHandle<Result<Ended, RunError>>,
    /// How far it is, renewed a few times a second.
    pub progress: watch::Receiver<Progress>,
}

/// A stage member's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// True once Kafka answered and the member subscribed.
    pub joined: bool,
    /// Why nothing is started, while the stage is paused.
    pub paused: Option<Arc<str>>,
    /// Why the member is outside of its group, while its client, which broke, is made anew.
    pub outside: Option<Arc<str>>,
    /// The partitions that it owns, and those that it may not read.
    pub partitions: BTreeMap<i32, PartitionProgress>,
    /// Where all tasks of this member are.
    pub balance: Balance,
}

/// One partition's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Everything below is complete.
    pub position: i64,
    /// The offset behind the last record, as of about a second ago.
    pub end: i64,
    /// Parked tasks that wait in the retry partition.
    pub parked: u64,
    /// Records of the retry partition that are still to be read back before anything is started.
    pub unread: u64,
    /// Targets that a cursor catches up.
    pub detached: usize,
    /// Targets whose cursor is held.
    pub held: usize,
    /// What it is doing.
    pub state: PartitionState,
    /// What the watchdog found wrong with it, until it has gone on.
    pub trouble: Option<Trouble>,
}

impl PartitionProgress {
    /// A partition that stopped by name before anything was known of it.
    pub(crate) fn stopped(fault: &PartitionFault) -> Self {
        Self {
            position: 0,
            end: 0,
            parked: 0,
            unread: 0,
            detached: 0,
            held: 0,
            state: PartitionState::Stopped(fault.clone()),
            trouble: None,
        }
    }
}

/// What a partition is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionState {
    /// Looking up its position, or reading its parked work back.
    Starting,
    /// Working.
    Flowing,
    /// Waiting for something that is away, in these words.
    Waiting(String),
    /// Stopped by name.
    Stopped(PartitionFault),
}

impl Progress {
    /// Records between positions and ends.
    pub fn lag(&self) -> u64 {
        let lags = self.partitions.values().map(|partition| partition.end - partition.position);
        lags.map(|lag| u64::try_from(lag).unwrap_or(0)).sum()
    }

    /// True when the member owns something and has nothing left to do: no lag, nothing in flight or parked.
    pub fn is_caught_up(&self) -> bool {
        !self.partitions.is_empty()
            && !self.partitions.values().any(|partition| partition.state == PartitionState::Starting)
            && self.faults().is_empty()
            && self.lag() == 0
            && self.balance.in_flight == 0
            && self.balance.parked == 0
            && self.partitions.values().all(|partition| partition.detached == 0)
    }

    /// What is wrong with the member and with its partitions, in words.
    pub fn troubles(&self) -> Vec<String> {
        let outside = self.outside.iter().map(|why| format!("outside of its group: {why}"));
        let partitions = self.partitions.iter().flat_map(|(number, partition)| {
            let stopped = match &partition.state {
                PartitionState::Stopped(fault) => Some(format!("stopped: {fault}")),
                PartitionState::Waiting(why) => Some(format!("partition {number} waits: {why}")),
                PartitionState::Starting | PartitionState::Flowing => None,
            };
            stopped
                .into_iter()
                .chain(partition.trouble.map(|trouble| format!("partition {number} is {trouble}")))
        });
        outside.chain(partitions).collect()
    }

    /// The partitions that stopped by name.
    pub fn faults(&self) -> Vec<&PartitionFault> {
        self.partitions
            .values()
            .filter_map(|partition| match &partition.state {
                PartitionState::Stopped(fault) => Some(fault),
                PartitionState::Starting | PartitionState::Flowing | PartitionState::Waiting(_) => None,
            })
            .collect()
    }
}

/// Invariant 7 (balance): every task that was opened is somewhere. For store stages a task is a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Tasks taken in, from the source or back from the retry topic.
    pub opened: u64,
    /// Ended with an effect.
    pub done: u64,
    /// Ended without one, for a stated reason.
    pub skipped: u64,
    /// Taken over by a cursor.
    pub handed: u64,
    /// Dead-lettered.
    pub dead: u64,
    /// Left to the next owner.
    pub given_up: u64,
    /// Waiting in the retry topic, now.
    pub parked: u64,
    /// Waiting or running in memory, now.
    pub in_flight: u64,
}

impl Balance {
    /// True when nothing is missing and nothing is counted twice.
    pub fn holds(&self) -> bool {
        let ended = self.done + self.skipped + self.handed + self.dead + self.given_up;
        self.opened == ended + self.parked + self.in_flight
    }
}
