//! The `of-*` headers of records in retry and dead-letter topics: what a record went through, and whose it is.
//!
//! Key, value and all other headers stay byte for byte as they were. Numbers are decimal text. `of-priority` is
//! the lane priority of a parked task, so that it is served like before after a restart.

use std::sync::Arc;

use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::record::{Headers, Record};
use crate::runtime::retry::Epoch;

/// Bytes of `of-error`, at most.
const ERROR_BYTES: usize = 1024;
/// The priority of a record that names none.
pub(super) const ORDINARY: u16 = 100;

pub(super) const SOURCE_TOPIC: &str = "of-source-topic";
pub(super) const SOURCE_PARTITION: &str = "of-source-partition";
pub(super) const SOURCE_OFFSET: &str = "of-source-offset";
pub(super) const SOURCE_TIMESTAMP: &str = "of-source-timestamp";
pub(super) const STAGE: &str = "of-stage";
pub(super) const LANE: &str = "of-lane";
pub(super) const TARGET: &str = "of-target";
pub(super) const PRIORITY: &str = "of-priority";
pub(super) const ATTEMPT: &str = "of-attempt";
pub(super) const NOT_BEFORE: &str = "of-not-before";
pub(super) const FIRST_FAILED_AT: &str = "of-first-failed-at";
const ERROR_CLASS: &str = "of-error-class";
const ERROR: &str = "of-error";
pub(super) const EPOCH: &str = "of-epoch";
pub(super) const HELD: &str = "of-held";
pub(super) const MARKER: &str = "of-marker";

/// The header of a record that an operator put back: without an epoch it is never void. With one it is a task that an owner
/// made of such a record, and judged as any other. It is gone when the task is parked again.
pub const REDRIVE_ID: &str = "of-redrive-id";

/// How often a record was redriven, the last time included. Once there it stays.
pub(crate) const REDRIVE_COUNT: &str = "of-redrive-count";

/// The header of a task that somebody asked for once more: it has a lane of its own, and stays marked however often it
/// is tried.
pub const RESEND: &str = "of-resend";

/// Headers of what an operator put back, by a redrive or to be sent once more, however often it was parked since: then the retry
/// topic alone has it. A producer's own of that name costs its tasks nothing but that cursors leave them parked.
pub(super) const PUT_BACK: [&str; 2] = [REDRIVE_COUNT, RESEND];

/// The headers that are ours to replace, in the order in which a mark is written; `of-redrive-*` stay with the record. A marker is
/// told from a parked record by the last, so that no record may bring it along.
pub(super) const OURS: [&str; 16] = [
    SOURCE_TOPIC,
    SOURCE_PARTITION,
    SOURCE_OFFSET,
    SOURCE_TIMESTAMP,
    STAGE,
    LANE,
    TARGET,
    PRIORITY,
    ATTEMPT,
    NOT_BEFORE,
    FIRST_FAILED_AT,
    ERROR_CLASS,
    ERROR,
    EPOCH,
    HELD,
    MARKER,
];

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOf {
    /// The source topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The timestamp there, in epoch milliseconds.
    pub timestamp_ms: Option<i64>,
}

/// Which of the record's tasks it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOf {
    /// The lane.
    pub lane: Arc<str>,
    /// The target.
    pub target: Arc<str>,
    /// The lane priority.
    pub priority: u16,
}

/// What the `of-*` headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where the record came from.
    pub source: SourceOf,
    /// The stage that put it aside.
    pub stage: Arc<str>,
    /// Which task; absent when the record was put aside before it opened any.
    pub task: Option<TaskOf>,
    /// Attempts made so far; 0 when it was parked behind another, unattempted.
    pub attempt: u32,
    /// Parked: not to be tried before this time, in epoch milliseconds.
    pub not_before_ms: Option<i64>,
    /// When the first attempt failed, in epoch milliseconds.
    pub first_failed_at_ms: Option<i64>,
    /// What went wrong last.
    pub error: Option<Failure>,
    /// The incarnation and assignment that wrote it; empty where none is needed.
    pub epoch: String,
    /// True for the first record of a lane that is held until somebody decides.
    pub held: bool,
}

/// Why a record's `of-*` headers make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is missing or malformed")]
pub struct MarkError(pub &'static str);

impl Mark {
    /// A mark for a record of the source topic itself.
    pub fn of(record: &Record, stage: &Arc<str>, epoch: &str) -> Self {
        Self {
            source: SourceOf {
                topic: Arc::clone(&record.topic),
                partition: record.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
            },
            stage: Arc::clone(stage),
            task: None,
            attempt: 0,
            not_before_ms: None,
            first_failed_at_ms: None,
            error: None,
            epoch: epoch.to_owned(),
            held: false,
        }
    }

    /// `original` with this mark behind it, in place of an older one.
    pub fn write(&self, original: &Headers) -> Headers {
        let mut headers = original.clone();
        headers.retain(|name| !OURS.contains(&name));
        let mut put = |name: &str, value: String| headers.push(name, value);
        put(SOURCE_TOPIC, self.source.topic.to_string());
        put(SOURCE_PARTITION, self.source.partition.to_string());
        put(SOURCE_OFFSET, self.source.offset.to_string());
        if let Some(timestamp) = self.source.timestamp_ms {
            put(SOURCE_TIMESTAMP, timestamp.to_string());
        }
        put(STAGE, self.stage.to_string());
        if let Some(task) = &self.task {
            put(LANE, task.lane.to_string());
            put(TARGET, task.target.to_string());
            put(PRIORITY, task.priority.to_string());
        }
        put(ATTEMPT, self.attempt.to_string());
        if let Some(not_before) = self.not_before_ms {
            put(NOT_BEFORE, not_before.to_string());
        }
        if let Some(first) = self.first_failed_at_ms {
            put(FIRST_FAILED_AT, first.to_string());
        }
        if let Some(error) = &self.error {
            put(ERROR_CLASS, error.class.as_str().to_owned());
            put(ERROR, error.message[..cut(&error.message)].to_owned());
        }
        if !self.epoch.is_empty() {
            put(EPOCH, self.epoch.clone());
        }
        if self.held {
            put(HELD, "true".to_owned());
        }
        headers
    }

    /// The mark of a record in a retry or dead-letter topic.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn read(headers: &Headers) -> Result<Self, MarkError> {
        let text = |name: &'static str| headers.text(name).ok_or(MarkError(name));
        let task = match headers.text(LANE) {
            None => None,
            Some(lane) => Some(TaskOf {
                lane: lane.into(),
                target: text(TARGET)?.into(),
                priority: number(headers, PRIORITY)?.unwrap_or(ORDINARY),
            }),
        };
        let error = headers.text(ERROR).map(|message| {
            let class = headers.text(ERROR_CLASS).and_then(ErrorClass::parse);
            Failure::new(class.unwrap_or(ErrorClass::Internal), message)
        });
        Ok(Self {
            source: SourceOf {
                topic: text(SOURCE_TOPIC)?.into(),
                partition: number(headers, SOURCE_PARTITION)?.ok_or(MarkError(SOURCE_PARTITION))?,
                offset: number(headers, SOURCE_OFFSET)?.ok_or(MarkError(SOURCE_OFFSET))?,
                timestamp_ms: number(headers, SOURCE_TIMESTAMP)?,
            },
            stage: text(STAGE)?.into(),
            task,
            attempt: number(headers, ATTEMPT)?.unwrap_or(0),
            not_before_ms: number(headers, NOT_BEFORE)?,
            first_failed_at_ms: number(headers, FIRST_FAILED_AT)?,
            error,
            epoch: headers.text(EPOCH).unwrap_or_default().to_owned(),
            held: headers.text(HELD) == Some("true"),
        })
    }

    /// The source record that a marked record stands for: its own coordinates, and no mark.
    pub fn original(&self, marked: &Record) -> Record {
        let mut headers = marked.headers.clone();
        headers.retain(|name| !OURS.contains(&name));
        Record {
            topic: Arc::clone(&self.source.topic),
            partition: self.source.partition,
            offset: self.source.offset,
            timestamp_ms: self.source.timestamp_ms,
            key: marked.key.clone(),
            payload: marked.payload.clone(),
            headers,
        }
    }
}

/// The headers of a parked record that `epoch` copies.
pub(crate) fn renewed(headers: &Headers, epoch: Epoch) -> Headers {
    let mut headers = headers.clone();
    headers.retain(|name| name != EPOCH);
    headers.push(EPOCH, epoch.to_string());
    headers
}

/// The headers of a marker: a record without key and value by which an owner takes its retry partition over.
pub(crate) fn marker(stage: &str, epoch: Epoch) -> Headers {
    let mut headers = Headers::default();
    headers.push(MARKER, "true");
    headers.push(STAGE, stage);
    headers.push(EPOCH, epoch.to_string());
    headers
}

/// True of what an operator put back.
pub(crate) fn is_put_back(headers: &Headers) -> bool {
    PUT_BACK.iter().any(|name| headers.last(name).is_some())
}

/// The epoch of a marker; `None` for any other record.
pub(crate) fn marker_of(headers: &Headers) -> Option<Epoch> {
    headers.text(MARKER).filter(|marker| *marker == "true")?;
    headers.text(EPOCH)?.parse().ok()
}

fn number<N: std::str::FromStr>(headers: &Headers, name: &'static str) -> Result<Option<N>, MarkError> {
    headers.text(name).map(|text| text.parse().map_err(|_| MarkError(name))).transpose()
}

/// Where to cut `message` so that it keeps within the bound and whole characters.
fn cut(message: &str) -> usize {
    let mut end = message.len().min(ERROR_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let mut headers = Headers::default();
        headers.push("ce_id", "1");
        headers.push("ce_id", "2");
        headers.push("of-redrive-count", "3");
        Record {
            topic: "orders.events".into(),
            partition: 4,
            offset: 17,
            timestamp_ms: Some(99),
            key: Some(Bytes::from_static(b"\xffkey")),
            payload: Some(Bytes::from_static(b"\x00value")),
            headers,
        }
    }

    fn full_mark(record: &Record) -> Mark {
        Mark {
            task: Some(TaskOf { lane: "t/e/o".into(), target: "e".into(), priority: 10 }),
            attempt: 2,
            not_before_ms: Some(1_234),
            first_failed_at_ms: Some(1_000),
            error: Some(Failure::new(ErrorClass::Timeout, "no answer")),
            held: true,
            ..Mark::of(record, &"webhook".into(), "7.1")
        }
    }

    #[test]
    fn a_record_comes_back_byte_for_byte_from_its_marked_copy() {
        let record = record();
        let mark = full_mark(&record);
        let marked = Record {
            topic: "orders.events.webhook.retry".into(),
            offset: 3,
            timestamp_ms: None,
            headers: mark.write(&record.headers),
            ..record.clone()
        };
        let read = Mark::read(&marked.headers).expect("well-formed");
        assert_eq!(read, mark);
        assert_eq!(read.original(&marked), record);
        // Marking again replaces the mark.
        assert_eq!(mark.write(&marked.headers), marked.headers);
    }

    #[test]
    fn a_marker_is_told_from_a_parked_record() {
        let epoch = Epoch { incarnation: 1_760, generation: 3 };
        assert_eq!(marker_of(&marker("webhook", epoch)), Some(epoch));
        let record = record();
        assert_eq!(marker_of(&full_mark(&record).write(&record.headers)), None);
    }

    /// Invariant 8 (nothing lost): a parked record that was taken for a marker would never run.
    #[test]
    fn no_header_of_a_source_record_makes_its_parked_copy_a_marker() {
        let mut record = record();
        let plain = full_mark(&record).write(&record.headers);
        record.headers.push(MARKER, "true");
        let parked = full_mark(&record).write(&record.headers);
        assert_eq!((marker_of(&parked), parked), (None, plain));
    }

    #[test]
    fn what_an_operator_put_back_is_told_however_often_it_was_parked_since() {
        let record = record();
        let plain = full_mark(&record).write(&Headers::default());
        assert!(!is_put_back(&plain));
        for (name, value) in [(REDRIVE_COUNT, "1"), (RESEND, "true")] {
            let mut put_back = plain.clone();
            put_back.push(name, value);
            let again = full_mark(&record).write(&put_back);
            assert!(is_put_back(&renewed(&again, Epoch { incarnation: 1, generation: 2 })), "{name}");
        }
    }

    #[test]
    fn a_foreign_record_is_told_by_the_header_that_it_lacks() {
        assert_eq!(Mark::read(&record().headers), Err(MarkError(SOURCE_TOPIC)));
    }

    proptest! {
        #[test]
        fn long_errors_are_cut_at_whole_characters(message in "\\PC{0,2000}") {
            let mut mark = full_mark(&record());
            mark.error = Some(Failure::new(ErrorClass::Rejected, message.clone()));
            let read = Mark::read(&mark.write(&Headers::default())).expect("well-formed");
            let kept = read.error.expect("written").message;
            prop_assert!(kept.len() <= ERROR_BYTES && message.starts_with(&kept));
        }
    }
}
