//! The poll thread of a stage member: joins the group, reads, commits, and never waits for user work but in
//! the drain of a revoke.
//!
//! One dedicated thread polls one client for everything. It talks to its engine through a bounded channel of
//! [`Event`]s and takes its orders from a [`Desk`]. It knows nothing of lanes, tasks or stores.

mod batch;
mod batch_queue;
mod commit_queue;
mod commits;
mod connect;
mod context;
mod desk;
mod ends;
mod gauge;
mod hold_back;
mod lost;
mod message;
mod pool;
mod positions;
mod rewind;
mod thread;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::error::{PartitionFault, RunError};
use super::offsets::CompletedRuns;
use super::options::{KafkaOptions, StageSpec};
use crate::clock::Clock;
use crate::task;
use crate::telemetry::Metrics;

pub(crate) use batch::{RecordBatch, Records};
pub use batch_queue::{BatchQueue, Fetched, Forwarding};
pub(crate) use desk::{Desk, Position, Side, Start};
pub(crate) use gauge::Gauge;
pub(crate) use message::to_record;
pub(crate) use rewind::Rewind;

/// Events that may wait for the engine, each with one batch of records at most.
const EVENTS: usize = 32;

/// What the poll thread tells its engine, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A partition is ours; it flows once [`Desk::start`] was called for it.
    Assigned(Assigned),
    /// Records of an assigned partition, in offset order.
    Records {
        /// Of which topic.
        side: Side,
        /// Of which partition.
        partition: i32,
        /// Under which assignment.
        generation: u64,
        /// The records.
        records: RecordBatch,
    },
    /// Partitions are taken away: end their work before the deadline and answer with the positions to commit.
    Revoked {
        /// Which, under which assignment.
        partitions: Vec<(i32, u64)>,
        /// When the answer must be there; already past when the assignment is lost.
        deadline: Instant,
        /// Where to answer.
        reply: SyncSender<Vec<Position>>,
    },
    /// A partition can't be read.
    Faulted {
        /// Which.
        partition: i32,
        /// Under which assignment.
        generation: u64,
        /// Why.
        fault: PartitionFault,
    },
}

/// An assigned partition with its positions.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    /// Which.
    pub(crate) partition: i32,
    /// This assignment's number, unique in the process.
    pub(crate) generation: u64,
    /// The source partition.
    pub(crate) source: Span,
    /// The retry partition, for effect stages.
    pub(crate) retry: Option<Span>,
    /// What is held in memory of it.
    pub(crate) gauge: Arc<Gauge>,
}

/// A partition's committed position and the ends of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// The committed position.
    pub(crate) position: i64,
    /// The first offset in the log.
    pub(crate) low: i64,
    /// The offset behind the last.
    pub(crate) high: i64,
    /// What the commit's metadata says of offsets above the position.
    pub(crate) map: Option<CompletedRuns>,
}

/// A running member, as its engine holds it.
pub(crate) struct Member {
    /// What happens.
    pub(crate) events: mpsc::Receiver<Event>,
    /// What is asked.
    pub(crate) desk: Arc<Desk>,
    /// The cluster's id.
    pub(crate) cluster_id: Arc<str>,
    /// Completes when the thread has left the group, or says why it couldn't start again.
    pub(crate) left: oneshot::Receiver<Result<(), RunError>>,
}

/// What the thread and its callbacks share.
#[derive(Debug, Clone)]
struct Links {
    stage: Arc<str>,
    group: Arc<str>,
    source: Arc<str>,
    retry: Option<Arc<str>>,
    events: mpsc::Sender<Event>,
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    clock: Clock,
    revoke_drain: Duration,
    /// How long the answer to a commit is waited for, by who waits.
    answer_within: Duration,
    generations: Arc<AtomicU64>,
}

impl Links {
    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn tick(&self) {
        self.desk.tick(self.clock.now_ms());
    }
}

/// The poll thread's view of an owned partition.
#[derive(Debug, Clone)]
struct Owned {
    generation: u64,
    gauge: Arc<Gauge>,
    /// Not started yet, or not readable.
    held: bool,
    /// Whether it is above its share of memory.
    full: hold_back::Fullness,
    /// The retry partition is read first: the engine says when the source flows.
    source_waits: bool,
    /// What the client was last told.
    source_flows: bool,
    retry_flows: bool,
}

impl Owned {
    fn new(generation: u64, gauge: Arc<Gauge>) -> Self {
        Self {
            generation,
            gauge,
            held: true,
            full: hold_back::Fullness::default(),
            source_waits: true,
            source_flows: false,
            retry_flows: false,
        }
    }
}

/// Starts the member of `spec`: waits for Kafka and the topics, sets first positions, subscribes.
///
/// # Errors
/// When a topic stays missing or Kafka away for longer than the spec allows, or counts differ.
pub(crate) async fn join(
    spec: &StageSpec,
    kafka: &KafkaOptions,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Member, RunError> {
    let (events_in, events) = mpsc::channel(EVENTS);
    let desk = Arc::new(Desk::default());
    let links = Links {
        stage: spec.stage.as_str().into(),
        group: spec.group.as_str().into(),
        source: spec.source.as_str().into(),
        retry: spec.retry.as_deref().map(Into::into),
        events: events_in,
        desk: Arc::clone(&desk),
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
        revoke_drain: drain_within(spec.options.revoke_drain, kafka),
        answer_within: answer_within(kafka),
        generations: Arc::default(),
    };
    let (started_in, started) = oneshot::channel();
    let (left_in, left) = oneshot::channel();
    let poller = thread::Poller::new(spec.clone(), kafka.clone(), links);
    task::spawn_thread(&format!("poll-{}", spec.stage), move || {
        let _ = left_in.send(poller.run(started_in));
    })
    .map_err(RunError::Thread)?;
    let gone =
        || RunError::Internal { stage: spec.stage.clone(), what: "the poll thread ended at once".to_owned() };
    let cluster_id = started.await.map_err(|_| gone())??;
    Ok(Member { events, desk, cluster_id, left })
}

/// The group waits no longer than a session for one that died, so that a commit behind its forming is answered by then.
fn answer_within(kafka: &KafkaOptions) -> Duration {
    (kafka.session_timeout * 3 / 2).min(kafka.max_poll_interval / 2)
}

/// The drain deadline stays below the session time-out and half the poll interval, whatever was asked.
fn drain_within(asked: Duration, kafka: &KafkaOptions) -> Duration {
    asked.min(kafka.session_timeout.mul_f64(0.8)).min(kafka.max_poll_interval / 2)
}
