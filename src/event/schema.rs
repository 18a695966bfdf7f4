//! The schemas of `schemas/`, compiled into the program and parsed once.
//!
//! One canonical text per record is what we register and look up: the file's text with the white space outside
//! strings taken away. It is never re-serialised from a parsed form, because registries compare texts and a
//! differently written equal schema would become a second version.

use std::sync::LazyLock;

use apache_avro::Schema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::EventType;
use super::record::{
    LiveNotification, OutboundNotification, WebhookAttempt, WebhookEndpointChanged, WebhookExhausted,
};
use super::shape::Shape;

/// A struct that equals one record of `schemas/`.
pub trait AvroRecord: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its schema.
    fn schema() -> &'static RecordSchema;
}

/// A record's schema with everything that is derived from it once.
pub struct RecordSchema {
    file: &'static str,
    text: String,
    fingerprint: String,
    full_name: String,
    version: i32,
    avro: &'static Schema,
    shape: Shape,
}

impl std::fmt::Debug for RecordSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordSchema")
            .field("full_name", &self.full_name)
            .field("version", &self.version)
            .finish()
    }
}

impl RecordSchema {
    /// Parses one of the texts that were compiled into the program; every one of them is tested.
    fn compiled(file: &'static str) -> RecordSchema {
        let text = without_white_space(file);
        // Leaked on purpose: it lives as long as the program.
        let avro: &'static Schema = Box::leak(Box::new(
            Schema::parse_str(&text).expect("compiled-in schemas are valid Avro, by a test"),
        ));
        let Schema::Record(record) = avro else { unreachable!("compiled-in schemas are records, by a test") };
        let version = record.attributes.get("version").and_then(serde_json::Value::as_i64).unwrap_or(1);
        RecordSchema {
            file,
            fingerprint: avro.canonical_form(),
            full_name: record.name.fullname(None),
            version: i32::try_from(version).expect("schema versions are small, by a test"),
            avro,
            shape: Shape::of(avro),
            text,
        }
    }

    /// The file as it lies in `schemas/`.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The canonical text, which is what a registry holds.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Avro's parsing canonical form: two schemas with the same one describe the same bytes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The record's name with its namespace.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// The version that the schema's `version` attribute states, from 1.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The parsed schema.
    pub fn avro(&self) -> &'static Schema {
        self.avro
    }

    /// The subject under which the schema is registered for a topic (TopicRecordNameStrategy).
    pub fn subject(&self, topic: &str) -> String {
        [topic, "-", &self.full_name].concat()
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }
}

/// The schemas of all events, in the order of [`EventType::ALL`].
pub fn published() -> &'static [RecordSchema] {
    static PUBLISHED: LazyLock<Vec<RecordSchema>> =
        LazyLock::new(|| EventType::ALL.iter().map(|t| RecordSchema::compiled(t.schema_file())).collect());
    &PUBLISHED
}

/// The schemas of the records of our own topics; the topology says which lives where.
pub fn internal() -> [&'static RecordSchema; 5] {
    [
        OutboundNotification::schema(),
        LiveNotification::schema(),
        WebhookAttempt::schema(),
        WebhookExhausted::schema(),
        WebhookEndpointChanged::schema(),
    ]
}

macro_rules! internal_records {
    ($($record:ident),*) => {
        $(
            impl AvroRecord for $record {
                fn schema() -> &'static RecordSchema {
                    static SCHEMA: LazyLock<RecordSchema> = LazyLock::new(|| {
                        RecordSchema::compiled(include_str!(concat!("../../schemas/internal/", stringify!($record), ".avsc")))
                    });
                    &SCHEMA
                }
            }
        )*
    };
}

internal_records!(
    OutboundNotification,
    LiveNotification,
    WebhookAttempt,
    WebhookExhausted,
    WebhookEndpointChanged
);

/// JSON text without the white space that stands outside strings.
fn without_white_space(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string || !c.is_ascii_whitespace() {
            text.push(c);
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    text
}

#[cfg(test)]
mod tests;
