//! The engine: members of consumer groups that keep order per lane, lose nothing and commit only what is done.
//!
//! ```text
//! poll thread ──► intake per partition ──► lanes ──► run ──► done │ skipped │ handed ─┐
//!      ▲              decode, open           ▲        │                                ├─► offsets ─► commit
//!      │                                     │        ├─► retry topic (parked) ────────┤
//!      └──────────── retry topic ────────────┘        └─► dead-letter topic ───────────┘
//! ```
//!
//! Generic: it knows records, lanes and targets, but no orders and no store.

mod backoff;
mod cluster;
mod consumer;
pub mod control;
pub mod cursor;
pub mod dead_letter;
mod duplicates;
mod effect;
mod error;
mod headers;
pub mod inspect;
mod lanes;
mod leave;
mod offsets;
mod options;
mod outcome;
mod producer;
mod progress;
mod reader;
mod rebalance;
mod record;
pub mod redrive;
pub mod retry;
mod series;
mod shared;
mod stage;
mod start;
mod store;
mod watchdog;

pub use cluster::cluster_id;
pub use consumer::{BatchQueue, Fetched, Forwarding};
pub use control::{BreakerOptions, Control, StageControl};
pub use effect::run_effect_stage;
pub use error::{Ended, PartitionFault, RunError};
pub use options::{KafkaOptions, Role, RuntimeOptions, StageSpec, StartAt};
pub use outcome::{CursorId, ErrorClass, Failure, Intake, Outcome, SkipReason};
pub use producer::{Delivered, Flights, OutRecord, ProduceError, Producer, Seat};
pub use progress::{Balance, PartitionProgress, PartitionState, Progress, StageHandle};
pub use reader::{ReadError, ReadFrom, TopicReader};
pub use record::{Headers, Record, SourcePartition};
pub use shared::Shared;
pub use stage::{
    Answered, EffectStage, LaneName, Owed, StoreBatch, StoreFault, StoreStage, Stored, TargetState, Task,
    Tasks,
};
pub use start::{Environment, start_effect_stage, start_store_stage};
pub use store::run_store_stage;
pub use watchdog::{Trouble, WatchdogOptions};
