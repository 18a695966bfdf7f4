//! Dead letters: the record as it came, byte for byte, with headers that say where it was and what was wrong.
//!
//! The headers are a promise to whoever looks into a dead-letter topic or redrives from it. What a source record brings
//! along under the same names was written by a producer, and isn't believed.

use super::outcome::Failure;
use super::record::{Headers, Record};
use super::retry::Mark;

/// The headers of the dead letter of `record`, which `stage` gave up at `now_ms` because of `failure`: its own, and ours.
pub fn headers(record: &Record, stage: &str, failure: &Failure, now_ms: i64) -> Headers {
    let mark = Mark::of(record, &stage.into(), "");
    let mark = Mark { first_failed_at_ms: Some(now_ms), error: Some(failure.clone()), ..mark };
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
        assert_eq!(headers.last("trace"), Some([0xff].as_slice()));
        assert_eq!(headers.text("of-source-offset"), Some("41"));
        assert_eq!(headers.text("of-source-partition"), Some("3"));
        assert_eq!(headers.text("of-stage"), Some("history"));
        assert_eq!(headers.text("of-error-class"), Some("decode"));
        assert_eq!(headers.text("of-error").map(str::len), Some(MOST_ERROR_BYTES));
    }

    #[test]
    fn headers_that_a_producer_made_up_are_replaced() {
        let forged = record(Headers::from(vec![
            ("of-source-offset".to_owned(), b"7".to_vec()),
            ("of-error".to_owned(), b"earlier".to_vec()),
        ]));
        let headers = headers(&forged, "history", &Failure::new(ErrorClass::Decode, "later"), 7);
        assert_eq!(headers.text("of-source-offset"), Some("41"));
        assert_eq!(headers.iter().filter(|(name, _)| *name == "of-error").count(), 1);
        assert_eq!(headers.text("of-error"), Some("later"));
    }
}
