//! Whether one schema can read what another has written.
//!
//! The rule for everything we publish is BACKWARD_TRANSITIVE: a new version reads every older one, so consumers
//! are updated first and nothing that lies in a topic becomes unreadable. Avro's own check compares a named type's
//! definition only where both sides spell it out, so names are replaced by their definitions first.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

/// Why `reader` can't read everything that `writer` writes; nothing if it can.
pub fn obstacle(writer: &Schema, reader: &Schema) -> Option<String> {
    match SchemaCompatibility::can_read(&spelled_out(writer), &spelled_out(reader)) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => Some("some values of a union or an enum could not be read".to_owned()),
        Err(error) => Some(error.to_string().chars().take(500).collect()),
    }
}

/// Why the schema written as `reader` can't read what the schema written as `writer` writes.
pub fn text_obstacle(writer: &str, reader: &Schema) -> Option<String> {
    match Schema::parse_str(writer) {
        Ok(writer) => obstacle(&writer, reader),
        Err(error) => Some(format!("the older schema is not valid Avro: {error}")),
    }
}

/// The schema with every name replaced by what it names, but inside itself.
fn spelled_out(schema: &Schema) -> Schema {
    let mut known = HashMap::new();
    let mut schema = schema.clone();
    expand(&mut schema, &mut known);
    schema
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other kinds hold no schema and have no name to be used by"
)]
fn expand(schema: &mut Schema, known: &mut HashMap<String, Schema>) {
    match schema {
        Schema::Ref { name } => {
            if let Some(definition) = known.get(&name.fullname(None)) {
                *schema = definition.clone();
            }
        }
        Schema::Record(record) => {
            record.fields.iter_mut().for_each(|field| expand(&mut field.schema, known));
            let name = record.name.fullname(None);
            known.insert(name, schema.clone());
        }
        Schema::Enum(symbols) => {
            let name = symbols.name.fullname(None);
            known.insert(name, schema.clone());
        }
        Schema::Fixed(fixed) => {
            let name = fixed.name.fullname(None);
            known.insert(name, schema.clone());
        }
        Schema::Array(array) => expand(&mut array.items, known),
        Schema::Map(map) => expand(&mut map.types, known),
        Schema::Union(union) => {
            let mut variants = union.variants().to_vec();
            variants.iter_mut().for_each(|variant| expand(variant, known));
            if let Ok(expanded) = apache_avro::schema::UnionSchema::new(variants) {
                *schema = Schema::Union(expanded);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &str) -> Schema {
        let text = format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#);
        Schema::parse_str(&text).expect("it is valid")
    }

    const INNER: &str = r#"{"type":"record","name":"I","fields":[{"name":"x","type":"long"}]}"#;

    #[test]
    fn a_field_with_a_default_may_come_and_one_without_may_not() {
        let old = record(r#"{"name":"a","type":"string"}"#);
        let with =
            record(r#"{"name":"a","type":"string"},{"name":"b","type":["null","string"],"default":null}"#);
        let without = record(r#"{"name":"a","type":"string"},{"name":"b","type":"string"}"#);
        assert_eq!(obstacle(&old, &with), None);
        assert!(obstacle(&old, &without).is_some());
        assert_eq!(obstacle(&with, &old), None, "fields may go");
        assert!(obstacle(&old, &record(r#"{"name":"a","type":"long"}"#)).is_some());
    }

    #[test]
    fn a_nullable_field_may_not_become_required() {
        let nullable = record(r#"{"name":"a","type":["null","string"],"default":null}"#);
        let required = record(r#"{"name":"a","type":"string"}"#);
        assert!(obstacle(&nullable, &required).is_some());
        assert_eq!(obstacle(&required, &nullable), None);
    }

    #[test]
    fn it_does_not_matter_where_a_named_type_is_spelled_out() {
        let old = record(&format!(r#"{{"name":"b","type":{INNER}}}"#));
        let new = record(&format!(
            r#"{{"name":"a","type":["null",{INNER}],"default":null}},{{"name":"b","type":"I"}}"#
        ));
        assert_eq!(obstacle(&old, &new), None);
        let other = INNER.replace("long", "string");
        let new = record(&format!(
            r#"{{"name":"a","type":["null",{other}],"default":null}},{{"name":"b","type":"I"}}"#
        ));
        assert!(obstacle(&old, &new).is_some());
    }

    #[test]
    fn a_recursive_schema_is_compared() {
        let tree = record(r#"{"name":"next","type":["null","R"],"default":null}"#);
        assert_eq!(obstacle(&tree, &tree.clone()), None);
    }

    #[test]
    fn every_published_schema_reads_itself() {
        for schema in crate::event::published() {
            assert_eq!(obstacle(schema.avro(), schema.avro()), None, "{}", schema.full_name());
        }
    }
}
