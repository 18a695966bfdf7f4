//! Dead letters: the record as it came, byte for byte, with headers that say where it was and what was wrong.
//!
//! The headers are a promise to whoever looks into a dead-letter topic or redrives from it. A record that was parked
//! before keeps the coordinates of its source.

use super::outcome::Failure;
use super::record::{Headers, Record};
use super::retry::Mark;

/// The headers of the dead letter of `record`, which `stage` gave up at `now_ms` because of `failure`: all that it
/// had, and ours.
pub fn headers(record: &Record, stage: &str, failure: &Failure, now_ms: i64) -> Headers {
    let mut mark = Mark::read(&record.headers).unwrap_or_else(|_| Mark::of(record, &stage.into(), ""));
    mark.stage = stage.into();
    mark.first_failed_at_ms.get_or_insert(now_ms);
    mark.not_before_ms = None;
    mark.error = Some(failure.clone());
    mark.write(&record.headers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runtime::ErrorClass;

    const MOST_ERROR_BYTES: usize = 1024;

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
        let parked = record(Headers::from(
            [
                ("of-source-topic", "orders.events"),
                ("of-source-partition", "3"),
                ("of-source-offset", "7"),
                ("of-stage", "webhook"),
                ("of-error", "earlier"),
            ]
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .to_vec(),
        ));
        let headers = headers(&parked, "webhook", &Failure::new(ErrorClass::Exhausted, "later"), 7);
        assert_eq!(headers.text("of-source-offset"), Some("7"));
        assert_eq!(headers.iter().filter(|(name, _)| *name == "of-error").count(), 1);
        assert_eq!(headers.text("of-error"), Some("later"));
    }
}
