//! Background work, as its workers report it, on a topic of its own keyed by job id.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::EventMeta;

/// `job.enqueued`: work was put into a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobEnqueued {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The job, and the Kafka key of job events.
    pub job_id: String,
    /// What kind of work it is.
    pub job_type: String,
    /// The queue it waits in.
    pub queue: String,
}

/// `job.started`: a worker took up a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobStarted {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The job, and the Kafka key of job events.
    pub job_id: String,
    /// What kind of work it is.
    pub job_type: String,
    /// The queue it waits in.
    pub queue: String,
    /// The worker.
    pub worker_id: String,
}

/// `job.completed`: a worker finished a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobCompleted {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The job, and the Kafka key of job events.
    pub job_id: String,
    /// What kind of work it is.
    pub job_type: String,
    /// The queue it waits in.
    pub queue: String,
    /// The worker.
    pub worker_id: String,
    /// How long it took, in milliseconds.
    pub processing_time_ms: i64,
}

/// `job.failed`: a worker gave up on a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobFailed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The job, and the Kafka key of job events.
    pub job_id: String,
    /// What kind of work it is.
    pub job_type: String,
    /// The queue it waits in.
    pub queue: String,
    /// The worker, if one had taken it up.
    pub worker_id: Option<String>,
    /// How long it was tried, in milliseconds.
    pub processing_time_ms: Option<i64>,
    /// What went wrong.
    pub error: String,
}
