//! Redriven dead letters: what a redrive writes into them, and how an engine tells them from others. Pure.
//!
//! A dead letter of an effect stage goes back to the stage's retry topic: as the task that it was, or, when it never came
//! to be one (its bytes couldn't be read, its key was wrong), as a record that is opened anew there. Either way it keeps
//! its source coordinates, so that it runs before whatever of its lane has not begun. A store stage has no retry topic: the
//! record goes to the end of its source, with a header that makes every other stage skip it (decision 0003).

use std::sync::Arc;

use super::outcome::ErrorClass;
use super::producer::OutRecord;
use super::record::{Headers, Record};
use super::retry::{Mark, MarkError, REDRIVE_COUNT as COUNT, REDRIVE_ID as ID};

/// The coordinates of the dead letter: `<partition>@<offset>` in the dead-letter topic.
const OF: &str = "of-redrive-of";
/// The only stage that takes the record.
const STAGE: &str = "of-redrive-stage";

/// A record of a dead-letter topic.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// As it lies in the dead-letter topic.
    pub record: Record,
    /// Where it came from and what was wrong.
    pub mark: Mark,
}

impl DeadLetter {
    /// Reads a record of a dead-letter topic.
    ///
    /// # Errors
    /// When its headers are not ours.
    pub fn read(record: Record) -> Result<Self, MarkError> {
        Ok(Self { mark: Mark::read(&record.headers)?, record })
    }

    /// Its cause.
    pub fn cause(&self) -> ErrorClass {
        self.mark.error.as_ref().map_or(ErrorClass::Internal, |error| error.class)
    }

    /// How often it was redriven before.
    pub fn redrives(&self) -> u32 {
        self.record.headers.text(COUNT).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// What has to keep its order: the lane, or the key's bytes in hexadecimal when it never had one.
    pub fn lane(&self) -> String {
        match &self.mark.task {
            Some(task) => task.lane.to_string(),
            None => {
                let key = self.record.key.as_deref().unwrap_or_default();
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("key:{}:{hex}", self.mark.source.partition)
            }
        }
    }

    /// The record that takes it back to `retry_topic`.
    pub fn to_retry(&self, retry_topic: &Arc<str>, redrive: &str) -> OutRecord {
        // No epoch: no assignment wrote it, so none that ended can void it. No due time: at once, when its lane lets it.
        let mark = Mark {
            attempt: 0,
            not_before_ms: None,
            first_failed_at_ms: None,
            error: None,
            epoch: String::new(),
            held: false,
            ..self.mark.clone()
        };
        self.out(retry_topic, mark.write(&self.without_redrive()), redrive)
    }

    /// The record that takes it back to its source, for its stage alone.
    pub fn to_source(&self, redrive: &str) -> OutRecord {
        let headers =
            self.mark.original(&Record { headers: self.without_redrive(), ..self.record.clone() }).headers;
        let mut out = self.out(&self.mark.source.topic, headers, redrive);
        out.headers.push(STAGE, self.mark.stage.to_string());
        out
    }

    fn without_redrive(&self) -> Headers {
        let mut headers = self.record.headers.clone();
        headers.retain(|name| ![ID, COUNT, OF, STAGE].contains(&name));
        headers
    }

    fn out(&self, topic: &Arc<str>, mut headers: Headers, redrive: &str) -> OutRecord {
        headers.push(ID, redrive);
        headers.push(COUNT, (self.redrives() + 1).to_string());
        headers.push(OF, format!("{}@{}", self.record.partition, self.record.offset));
        OutRecord {
            topic: Arc::clone(topic),
            partition: Some(self.mark.source.partition),
            key: self.record.key.clone(),
            payload: self.record.payload.clone(),
            headers,
            timestamp_ms: None,
        }
    }
}

/// The redrive that wrote `record` and the dead letter's partition and offset, if it was written by one.
pub fn origin(record: &Record) -> Option<(&str, i32, i64)> {
    let (partition, offset) = record.headers.text(OF)?.split_once('@')?;
    Some((record.headers.text(ID)?, partition.parse().ok()?, offset.parse().ok()?))
}

/// True when a redrive brought `record` back for another stage than this.
pub fn is_for_another(record: &Record, stage: &str) -> bool {
    !record.headers.is_empty() && record.headers.last(STAGE).is_some_and(|wanted| wanted != stage.as_bytes())
}

/// True when a redrive itself wrote the record. What an engine parks of it later has an epoch.
pub(crate) fn is_fresh(record: &Record, mark: &Mark) -> bool {
    mark.epoch.is_empty() && record.headers.last(ID).is_some()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runtime::Failure;
    use crate::runtime::retry::TaskOf;

    fn dead(task: Option<TaskOf>) -> DeadLetter {
        let source = Record {
            topic: "orders.events".into(),
            partition: 2,
            offset: 40,
            timestamp_ms: Some(7),
            key: Some(Bytes::from_static(b"\xffkey")),
            payload: Some(Bytes::from_static(b"\x00value")),
            headers: Headers::from(vec![("ce_id".to_owned(), b"1".to_vec())]),
        };
        let mark = Mark {
            task,
            attempt: 8,
            first_failed_at_ms: Some(9),
            error: Some(Failure::new(ErrorClass::Exhausted, "no more")),
            ..Mark::of(&source, &"webhook".into(), "7.1")
        };
        let headers = mark.write(&source.headers);
        let record = Record { topic: "dlq".into(), offset: 5, headers, ..source };
        DeadLetter::read(record).expect("ours")
    }

    fn as_record(out: OutRecord) -> Record {
        Record {
            topic: out.topic,
            partition: out.partition.expect("named"),
            offset: 0,
            timestamp_ms: None,
            key: out.key,
            payload: out.payload,
            headers: out.headers,
        }
    }

    #[test]
    fn a_redriven_task_is_itself_again_with_a_clean_past() {
        let task = TaskOf { lane: "t|o".into(), target: "e".into(), priority: 10 };
        let letter = dead(Some(task.clone()));
        let back = as_record(letter.to_retry(&"retry".into(), "r-1"));
        let mark = Mark::read(&back.headers).expect("ours");
        assert_eq!((mark.task.clone(), mark.source.clone()), (Some(task), letter.mark.source.clone()));
        assert_eq!((mark.attempt, mark.error.clone(), mark.epoch.as_str()), (0, None, ""));
        assert!(is_fresh(&back, &mark));
        assert_eq!(origin(&back), Some(("r-1", 2, 5)));
        let original = mark.original(&back);
        assert_eq!((original.offset, original.headers.text("ce_id")), (40, Some("1")));
        // Parked again by an engine it has an epoch; dead again it counts on.
        let parked = Mark { epoch: "8.1".to_owned(), ..mark };
        let parked = Record { headers: parked.write(&original.headers), ..back };
        assert!(!is_fresh(&parked, &Mark::read(&parked.headers).expect("ours")));
        let again = DeadLetter::read(parked).expect("ours");
        assert_eq!(again.redrives(), 1);
        let third = as_record(again.to_retry(&"retry".into(), "r-2"));
        assert_eq!(DeadLetter::read(third).expect("ours").redrives(), 2);
    }

    #[test]
    fn what_goes_back_to_the_source_is_for_one_stage_and_as_it_was() {
        let letter = dead(None);
        let back = as_record(letter.to_source("r-1"));
        assert_eq!((&*back.topic, back.partition), ("orders.events", 2));
        assert_eq!((&back.key, &back.payload), (&letter.record.key, &letter.record.payload));
        assert!(is_for_another(&back, "history") && !is_for_another(&back, "webhook"));
        assert_eq!(back.headers.text("ce_id"), Some("1"));
        assert_eq!(back.headers.text("of-error"), None);
        assert!(!is_for_another(&letter.record, "history"));
    }
}
