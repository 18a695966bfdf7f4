//! The schema that a record was written with, and what it means to us.

use apache_avro::Schema;
use schema_registry_converter::schema_registry_common::SchemaType;

use super::RegistryError;
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
        kind: &SchemaType,
        text: &str,
        referenced: &[String],
    ) -> Result<WriterSchema, RegistryError> {
        let unusable = |why: String| RegistryError::Unusable { what: what.to_owned(), why };
        if *kind != SchemaType::Avro {
            return Err(unusable(format!("its type is {:?}, not Avro", kind)));
        }
        let writer = WriterSchema::of(text, referenced).map_err(|error| unusable(error.to_string()))?;
        if writer.referenced.iter().chain([&writer.avro]).any(|schema| is_recursive(schema, &mut Vec::new()))
        {
            // Each level of its data would take a level of our stack, and the data says how many there are.
            return Err(unusable("it contains itself".to_owned()));
        }
        Ok(writer)
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

/// Whether a schema contains itself; `open` are the records around it.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds contain nothing")]
fn is_recursive(schema: &Schema, open: &mut Vec<String>) -> bool {
    match schema {
        Schema::Ref { name } => open.contains(&name.fullname(None)),
        Schema::Record(record) => {
            open.push(record.name.fullname(None));
            let found = record.fields.iter().any(|field| is_recursive(&field.schema, open));
            open.pop();
            found
        }
        Schema::Array(array) => is_recursive(&array.items, open),
        Schema::Map(map) => is_recursive(&map.types, open),
        Schema::Union(union) => union.variants().iter().any(|variant| is_recursive(variant, open)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::published;

    #[test]
    fn our_own_schemas_are_of_use() {
        for schema in published() {
            let writer = WriterSchema::parse("it", &SchemaType::Avro, schema.text(), &[]).expect("of use");
            assert!(writer.same_as_ours && writer.full_name == schema.full_name());
        }
    }

    #[test]
    fn what_is_not_avro_or_contains_itself_is_of_no_use() {
        let tree = json!({"type": "record", "name": "T", "namespace": "n", "fields": [
            {"name": "children", "type": {"type": "array", "items": "T"}},
        ]})
        .to_string();
        for (kind, text) in
            [(SchemaType::Protobuf, "\"string\""), (SchemaType::Avro, "{"), (SchemaType::Avro, tree.as_str())]
        {
            let outcome = WriterSchema::parse("it", &kind, text, &[]);
            assert!(matches!(outcome, Err(RegistryError::Unusable { .. })), "{text}");
        }
    }
}
