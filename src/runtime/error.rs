//! What can go wrong with a stage as a whole, and how a stage ends.
//!
//! Faults of single records are outcomes, not errors; faults of single partitions are [`PartitionFault`]s:
//! that partition stops by name and the others go on.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

/// Why a stage couldn't start, or couldn't go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The client refused its settings.
    #[error("kafka client settings are refused: {0}")]
    Settings(#[source] rdkafka::error::KafkaError),
    /// Kafka didn't answer at start within the bound that was set.
    #[error("kafka at {servers} did not answer within {waited:?}; start it or set kafka.bootstrap_servers")]
    Unavailable {
        /// The bootstrap servers that were asked.
        servers: String,
        /// How long.
        waited: Duration,
    },
    /// A topic that the stage needs doesn't exist, or isn't shown to it.
    #[error(
        "stage {stage}: topic {topic} does not exist, says the broker after {waited:?} ({why}); create it with \
         `orderflow topology apply`; if it is there, let this user describe it, or raise runtime.topic_timeout"
    )]
    TopicMissing {
        /// The stage.
        stage: String,
        /// The topic.
        topic: String,
        /// How long it was waited for.
        waited: Duration,
        /// The broker's words.
        why: RDKafkaErrorCode,
    },
    /// Two topics that must have the same number of partitions don't.
    #[error(
        "stage {stage}: {topic} has {partitions} partitions but {source_topic} has {source_partitions}; they must be equal, \
         because whoever owns a source partition owns the one of the same number"
    )]
    PartitionCounts {
        /// The stage.
        stage: String,
        /// The topic whose count differs.
        topic: String,
        /// Its partitions.
        partitions: usize,
        /// The source topic.
        source_topic: String,
        /// The source topic's partitions.
        source_partitions: usize,
    },
    /// A spec that makes no sense.
    #[error("stage {stage}: {what}")]
    Spec {
        /// The stage.
        stage: String,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refused a thread.
    #[error("no thread for the consumer: {0}")]
    Thread(#[source] std::io::Error),
    /// The engine broke one of its own promises.
    #[error("stage {stage}: internal fault: {what}")]
    Internal {
        /// The stage.
        stage: String,
        /// What happened.
        what: String,
    },
}

impl RunError {
    /// True when a service that is needed is away, so that trying again later makes sense (exit code 69).
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Settings(_)
            | Self::TopicMissing { .. }
            | Self::PartitionCounts { .. }
            | Self::Spec { .. }
            | Self::Thread(_)
            | Self::Internal { .. } => false,
        }
    }
}

/// Why a partition stopped while the others go on. Each says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionFault {
    /// Other partitions of the group have committed positions; this one has none.
    #[error(
        "{topic}/{partition} has no committed position though the group has worked before (others have one, or the \
         retry topic was written to); set one with kafka-consumer-groups --reset-offsets, on the source and its retry \
         topic together"
    )]
    PositionMissing {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The committed position lies outside the log.
    #[error(
        "{topic}/{partition} is committed at {committed}, outside the log, which holds {low}..{high}: records were deleted \
         before they were handled, or the topic was made again; decide on a new position and set it by \
         kafka-consumer-groups --reset-offsets"
    )]
    PositionOutsideLog {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The committed position, or the stored one.
        committed: i64,
        /// The first offset in the log.
        low: i64,
        /// The offset behind the last.
        high: i64,
    },
    /// A later owner's marker was read in the retry partition.
    #[error(
        "{topic}/{partition} was taken over by a later owner (epoch {epoch}) before the group said so; if no member \
         works on it after a rebalance, restart the stage"
    )]
    Superseded {
        /// The retry topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The later owner's epoch.
        epoch: String,
    },
    /// Parking or dead-lettering kept failing, so nothing behind it may go on.
    #[error(
        "{topic}/{partition}@{offset} can be written neither to its retry nor to its dead-letter topic: {why}"
    )]
    CannotPutAside {
        /// The source topic.
        topic: String,
        /// The source partition.
        partition: i32,
        /// The source offset.
        offset: i64,
        /// The producer's last error.
        why: String,
    },
    /// A stage said that going on would do harm.
    #[error("{topic}/{partition}@{offset} stopped the partition: {why}")]
    Fatal {
        /// The source topic.
        topic: String,
        /// The source partition.
        partition: i32,
        /// The source offset.
        offset: i64,
        /// The stage's words.
        why: String,
    },
}

/// How a stage ended after it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// True when all started work ended and its positions were committed before the deadline; otherwise what
    /// was unfinished will be repeated (exit code 75), nothing is lost.
    pub drained: bool,
}

/// Whether a broker that answers so doesn't tell of a topic, or of one of its partitions.
pub(crate) fn is_of_missing_topic(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
    )
}
