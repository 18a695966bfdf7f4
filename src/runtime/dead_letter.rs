//! Dead letters: the record as it came, byte for byte, with headers that say where it was and what was wrong.
//!
//! The headers are a promise to whoever looks into a dead-letter topic or redrives from it. A record that was parked
//! before keeps the coordinates of its source.

use bytes::Bytes;

use super::outcome::Failure;
use super::record::{Headers, Record};

/// `of-error` is cut to this many bytes.
const MOST_ERROR_BYTES: usize = 1024;

/// The headers of the dead letter of `record`, which `stage` gave up at `now_ms` because of `failure`: all that it
/// had, and ours.
pub fn headers(record: &Record, stage: &str, failure: &Failure, now_ms: i64) -> Headers {
    let mut headers = record.headers.clone();
    let mut set_once = |name: &str, value: String| {
        if headers.last(name).is_none() {
            headers.push(name, value);
        }
    };
    set_once("of-source-topic", record.topic.to_string());
    set_once("of-source-partition", record.partition.to_string());
    set_once("of-source-offset", record.offset.to_string());
    if let Some(timestamp) = record.timestamp_ms {
        set_once("of-source-timestamp", timestamp.to_string());
    }
    set_once("of-first-failed-at", now_ms.to_string());
    headers.retain(|name| !matches!(name, "of-stage" | "of-error-class" | "of-error"));
    headers.push("of-stage", stage.to_owned());
    headers.push("of-error-class", failure.class.as_str());
    headers.push("of-error", cut(&failure.message));
    headers
}

/// The beginning of `message`, at most [`MOST_ERROR_BYTES`] long, cut between characters.
pub(super) fn cut(message: &str) -> Bytes {
    let end = message.floor_char_boundary(MOST_ERROR_BYTES);
    Bytes::copy_from_slice(&message.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ErrorClass;

    fn record(headers: Headers) -> Record {
        Record {
            topic: "orders.events".into(),
            partition: 3,
            offset: 41,
            timestamp_ms: Some(1_760_000_000_000),
            key: None,
            payload: Some(Bytes::from_static(b"\x01broken")),
            headers,
        }
    }

    #[test]
    fn a_dead_letter_says_where_it_was_and_what_was_wrong() {
        let record = record(Headers::from(vec![("trace".to_owned(), vec![0xff])]));
        let failure = Failure::new(ErrorClass::Decode, "ä".repeat(2000));
        let headers = headers(&record, "history", &failure, 7);
        assert_eq!(headers.last("trace").map(|value| value.as_ref()), Some([0xff].as_slice()));
        assert_eq!(headers.text("of-source-offset"), Some("41"));
        assert_eq!(headers.text("of-source-partition"), Some("3"));
        assert_eq!(headers.text("of-stage"), Some("history"));
        assert_eq!(headers.text("of-error-class"), Some("decode"));
        assert_eq!(headers.text("of-error").map(str::len), Some(MOST_ERROR_BYTES));
    }

    #[test]
    fn a_record_that_was_parked_keeps_the_coordinates_of_its_source() {
        let parked = record(Headers::from(vec![
            ("of-source-offset".to_owned(), b"7".to_vec()),
            ("of-error".to_owned(), b"earlier".to_vec()),
        ]));
        let headers = headers(&parked, "webhook", &Failure::new(ErrorClass::Exhausted, "later"), 7);
        assert_eq!(headers.text("of-source-offset"), Some("7"));
        assert_eq!(headers.iter().filter(|(name, _)| *name == "of-error").count(), 1);
        assert_eq!(headers.text("of-error"), Some("later"));
    }
}
