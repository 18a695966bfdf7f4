//! Which dead letters are meant. Pure.

use serde::{Deserialize, Serialize};

use crate::runtime::ErrorClass;
use crate::runtime::redrive::DeadLetter;

/// Dead letters that have all of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Of this cause, as `of-error-class` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Of this order: the record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Of this lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Dead-lettered at this time or later, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Dead-lettered before this time, epoch milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// At one of these places: partition and offset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<(i32, i64)>,
    /// Also those that a redrive has taken up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redriven: bool,
}

impl Filter {
    /// The cause by its name.
    ///
    /// # Errors
    /// Lists the causes there are.
    pub fn cause(name: &str) -> Result<String, String> {
        ErrorClass::parse(name).map(|class| class.as_str().to_owned()).ok_or_else(|| {
            let known: Vec<_> = ErrorClass::ALL.iter().map(|class| class.as_str()).collect();
            format!("there is no cause {name:?}; there are {}", known.join(", "))
        })
    }

    /// The partition and offset of a place as lists tell it: `partition@offset`.
    ///
    /// # Errors
    /// Says which form it has.
    pub fn place(text: &str) -> Result<(i32, i64), String> {
        let parsed = text
            .split_once('@')
            .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        parsed.ok_or_else(|| "expected partition@offset, as lists of dead letters tell it".to_owned())
    }

    /// Whether `letter` is meant; `taken` when a redrive took it up before.
    pub fn wants(&self, letter: &DeadLetter, taken: bool) -> bool {
        let record = &letter.record;
        let at = record.timestamp_ms.unwrap_or(0);
        (self.redriven || !taken)
            && self.cause.as_deref().is_none_or(|cause| letter.cause().as_str() == cause)
            && self.order.as_ref().is_none_or(|order| record.key.as_deref() == Some(order.as_bytes()))
            && self.lane.as_ref().is_none_or(|lane| letter.lane() == *lane)
            && self.since_ms.is_none_or(|since| at >= since)
            && self.until_ms.is_none_or(|until| at < until)
            && (self.places.is_empty() || self.places.contains(&(record.partition, record.offset)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runtime::{Failure, Record, dead_letter};

    fn letter(cause: ErrorClass, key: &'static str, at_ms: i64, offset: i64) -> DeadLetter {
        let source = Record {
            topic: "orders.events".into(),
            partition: 1,
            offset: 3,
            timestamp_ms: Some(1),
            key: Some(Bytes::from_static(key.as_bytes())),
            payload: None,
            headers: Default::default(),
        };
        let headers = dead_letter::headers(&source, "history", &Failure::new(cause, "why"), 5);
        let record = Record { topic: "dlq".into(), offset, timestamp_ms: Some(at_ms), headers, ..source };
        DeadLetter::read(record).expect("ours")
    }

    #[test]
    fn every_condition_must_hold() {
        let letter = letter(ErrorClass::Data, "o-1", 1_000, 9);
        assert!(Filter::default().wants(&letter, false));
        assert!(!Filter::default().wants(&letter, true), "it is no longer open");
        assert!(Filter { redriven: true, ..Filter::default() }.wants(&letter, true));
        for (filter, wanted) in [
            (Filter { cause: Some("data".to_owned()), ..Filter::default() }, true),
            (Filter { cause: Some("decode".to_owned()), ..Filter::default() }, false),
            (Filter { order: Some("o-1".to_owned()), ..Filter::default() }, true),
            (Filter { order: Some("o-2".to_owned()), ..Filter::default() }, false),
            (Filter { since_ms: Some(1_000), until_ms: Some(1_001), ..Filter::default() }, true),
            (Filter { until_ms: Some(1_000), ..Filter::default() }, false),
            (Filter { places: vec![(1, 9)], ..Filter::default() }, true),
            (Filter { places: vec![(0, 9)], ..Filter::default() }, false),
        ] {
            assert_eq!(filter.wants(&letter, false), wanted, "{filter:?}");
        }
        assert!(Filter::cause("decoed").unwrap_err().contains("decode"));
    }
}
