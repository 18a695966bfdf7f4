//! Dead letters for people and machines to read: personal data masked.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::rfc3339;
use crate::event::{Codec, Decoded};
use crate::runtime::redrive::DeadLetter;

/// A dead letter in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The stage that gave it up.
    pub stage: String,
    /// Where it lies in the dead-letter topic: `<partition>@<offset>`.
    pub place: String,
    /// When it was dead-lettered, RFC 3339.
    pub at: String,
    /// Why, as the kind of failure.
    pub cause: String,
    /// Why, in words.
    pub error: String,
    /// The order: the record's key, when it is text.
    pub order: Option<String>,
    /// The lane, when it came to be a task.
    pub lane: Option<String>,
    /// Where the effect was to go.
    pub target: Option<String>,
    /// The source record: `<topic>/<partition>@<offset>`.
    pub source: String,
    /// Attempts made.
    pub attempts: u32,
    /// How often it was redriven before it died again.
    pub redrives: u32,
    /// A redrive has taken it up since.
    pub redriven: bool,
}

/// A dead letter with what is in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// What a list says of it.
    #[serde(flatten)]
    pub listed: Listed,
    /// Its headers; what isn't text is told in bytes.
    pub headers: BTreeMap<String, String>,
    /// How large its value is; absent when it has none.
    pub payload_bytes: Option<usize>,
    /// The event, personal data masked, when it can be read.
    pub event: Option<Value>,
    /// Why it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl Listed {
    /// What a list says of `letter`; `redriven` when a redrive has taken it up.
    pub fn of(letter: &DeadLetter, redriven: bool) -> Self {
        let (record, mark) = (&letter.record, &letter.mark);
        let source = &mark.source;
        Self {
            stage: mark.stage.to_string(),
            place: format!("{}@{}", record.partition, record.offset),
            at: rfc3339(record.timestamp_ms.unwrap_or_default()),
            cause: letter.cause().as_str().to_owned(),
            error: mark.error.as_ref().map_or_else(String::new, |error| error.message.clone()),
            order: record.key.as_ref().and_then(|key| String::from_utf8(key.to_vec()).ok()),
            lane: mark.task.as_ref().map(|task| task.lane.to_string()),
            target: mark.task.as_ref().map(|task| task.target.to_string()),
            source: format!("{}/{}@{}", source.topic, source.partition, source.offset),
            attempts: mark.attempt,
            redrives: letter.redrives(),
            redriven,
        }
    }
}

impl Shown {
    /// All that can be told of `letter`.
    pub async fn of(letter: &DeadLetter, redriven: bool, codec: &Codec) -> Self {
        let headers = letter.record.headers.iter().map(|(name, value)| {
            let value = value.map_or("(null)".to_owned(), |value| match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("({} bytes)", value.len()),
            });
            (name.to_owned(), value)
        });
        let (event, unread) = match &letter.record.payload {
            None => (None, Some("it has no value".to_owned())),
            Some(payload) => match codec.decode(payload).await {
                Ok(Decoded::Event { event, .. }) => (Some(event.to_json_masked()), None),
                Ok(Decoded::UnknownType { .. }) => (None, Some("it is of an unknown type".to_owned())),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        Self {
            listed: Listed::of(letter, redriven),
            headers: headers.collect(),
            payload_bytes: letter.record.payload.as_ref().map(|payload| payload.len()),
            event,
            unread,
        }
    }
}
