//! The schema that a record was written with, and what it means to us.

use apache_avro::Schema;
use schema_registry_converter::schema_registry_common::RegisteredSchema;

use super::{RegistryError, is_avro};
use crate::event::EventType;
use crate::event::schema::{internal, published};

/// A schema from the registry.
#[derive(Debug)]
pub(in crate::event) struct WriterSchema {
    /// The record's name with its namespace; the kind of schema if it isn't a record.
    pub(in crate::event) full_name: String,
    /// The event's type, if it is one of ours.
    pub(in crate::event) event_type: Option<EventType>,
    /// The version that the schema itself states.
    pub(in crate::event) version: Option<i32>,
    /// Whether it describes exactly the bytes that our own schema describes, so that no resolution is needed.
    pub(in crate::event) same_as_ours: bool,
    /// The schema.
    pub(in crate::event) avro: Schema,
    /// The schemas it refers to.
    pub(in crate::event) referenced: Vec<Schema>,
}

impl WriterSchema {
    pub(super) fn parse(
        what: &str,
        registered: &RegisteredSchema,
        referenced: &[String],
    ) -> Result<WriterSchema, RegistryError> {
        let unusable = |why: String| RegistryError::Unusable { what: what.to_owned(), why };
        if !is_avro(registered) {
            return Err(unusable(format!("its type is {:?}, not Avro", registered.schema_type)));
        }
        WriterSchema::of(&registered.schema, referenced).map_err(|error| unusable(error.to_string()))
    }

    /// What a schema's text says.
    pub(in crate::event) fn of(
        text: &str,
        referenced: &[String],
    ) -> Result<WriterSchema, apache_avro::Error> {
        let (avro, referenced) = if referenced.is_empty() {
            (Schema::parse_str(text)?, Vec::new())
        } else {
            Schema::parse_str_with_list(text, referenced)?
        };
        let fingerprint = avro.canonical_form();
        let (full_name, version) = if let Schema::Record(record) = &avro {
            let version = record.attributes.get("version").and_then(serde_json::Value::as_i64);
            (record.name.fullname(None), version.and_then(|v| i32::try_from(v).ok()))
        } else {
            (fingerprint.chars().take(100).collect(), None)
        };
        let event_type = EventType::from_full_name(&full_name);
        let ours = published().iter().chain(internal());
        let same_as_ours = referenced.is_empty()
            && ours.into_iter().any(|s| s.full_name() == full_name && s.fingerprint() == fingerprint);
        Ok(WriterSchema { full_name, event_type, version, same_as_ours, avro, referenced })
    }
}
