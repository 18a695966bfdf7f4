//! The files under `schemas/` against each other and against the structs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::event::table::RecordMaker;

fn all() -> impl Iterator<Item = &'static RecordSchema> {
    published().iter().chain(internal())
}

#[test]
fn white_space_is_taken_from_outside_strings_only() {
    assert_eq!(
        without_white_space(" { \"a b\" :\n [ 1, \"\\\" c \\\\\" ] } "),
        "{\"a b\":[1,\"\\\" c \\\\\"]}"
    );
}

#[test]
fn files_records_and_the_table_have_the_same_names() {
    for (schema, t) in published().iter().zip(EventType::ALL) {
        assert_eq!(schema.full_name(), t.full_name());
        assert_eq!(EventType::from_full_name(schema.full_name()), Some(*t));
        assert!(schema.version() >= 1);
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files = std::fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok);
    let avsc = files.filter(|f| f.path().extension().is_some_and(|e| e == "avsc")).count();
    assert_eq!(avsc, EventType::ALL.len(), "a schema without a row in the table, or the other way round");
}

#[test]
fn every_event_begins_with_the_same_meta_and_order_events_go_on_with_the_snapshot() {
    for (schema, t) in published().iter().zip(EventType::ALL) {
        let json: Value = serde_json::from_str(schema.text()).expect("valid JSON");
        assert_eq!(json["fields"][0]["name"], "meta");
        assert_eq!(json["fields"][0]["type"]["name"], "EventMeta");
        assert_eq!(json["fields"][1]["name"] == "order", t.has_snapshot(), "{t}");
    }
}

#[test]
fn a_named_type_is_defined_alike_in_every_schema() {
    fn collect(json: &Value, found: &mut BTreeMap<String, BTreeMap<String, String>>, file: &str) {
        match json {
            Value::Object(map) => {
                if let (Some(name), Some("record" | "enum")) =
                    (map.get("name"), map.get("type").and_then(Value::as_str))
                {
                    // Where a type is first used it is spelled out, later it is named: compare what is inside.
                    let shallow = Value::Object(map.clone()).to_string();
                    found.entry(name.to_string()).or_default().insert(file.to_owned(), expanded(&shallow));
                }
                map.values().for_each(|value| collect(value, found, file));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found, file)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    /// Nested definitions replaced by their names.
    fn expanded(text: &str) -> String {
        fn shorten(value: &mut Value, top: bool) {
            match value {
                Value::Object(map) => {
                    let named = matches!(map.get("type").and_then(Value::as_str), Some("record" | "enum"));
                    if named && !top {
                        *value = map["name"].clone();
                    } else {
                        map.values_mut().for_each(|v| shorten(v, false));
                    }
                }
                Value::Array(items) => items.iter_mut().for_each(|v| shorten(v, false)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut value = serde_json::from_str(text).expect("valid JSON");
        shorten(&mut value, true);
        value.to_string()
    }
    let mut found = BTreeMap::new();
    for schema in published() {
        collect(&serde_json::from_str(schema.text()).expect("valid JSON"), &mut found, schema.full_name());
    }
    for (name, definitions) in found {
        let mut distinct: Vec<_> = definitions.values().collect();
        distinct.dedup();
        assert_eq!(distinct.len(), 1, "{name} is defined differently: {definitions:#?}");
    }
}

#[test]
fn nullable_fields_default_to_null() {
    fn check(json: &Value, path: &str) {
        if let Some(fields) = json["fields"].as_array() {
            for field in fields {
                let path = format!("{path}.{}", field["name"]);
                if let Some(union) = field["type"].as_array() {
                    assert_eq!((union.len(), &union[0]), (2, &Value::from("null")), "{path}");
                    assert_eq!(field.get("default"), Some(&Value::Null), "{path}");
                    check(&union[1], &path);
                }
                check(&field["type"], &path);
            }
        }
        if json.get("items").is_some() {
            check(&json["items"], path);
        }
    }
    for schema in all() {
        check(&serde_json::from_str(schema.text()).expect("valid JSON"), schema.full_name());
    }
}

#[test]
fn structs_have_the_fields_of_their_schemas_in_the_same_order() {
    struct Names;
    impl RecordMaker for Names {
        type Error = (String, Vec<&'static str>);
        fn record<R: AvroRecord>(self) -> Result<R, Self::Error> {
            Err((R::schema().full_name().to_owned(), fields_of::<R>()))
        }
    }
    let mut checked = 0;
    let mut check = |schema: &RecordSchema, fields: Vec<&'static str>| {
        let json: Value = serde_json::from_str(schema.text()).expect("valid JSON");
        let expected: Vec<_> =
            json["fields"].as_array().expect("fields").iter().map(|f| f["name"].as_str()).collect();
        assert_eq!(fields.into_iter().map(Some).collect::<Vec<_>>(), expected, "{}", schema.full_name());
        checked += 1;
    };
    for t in EventType::ALL {
        let (name, fields) = crate::event::Event::build(*t, Names).expect_err("it only reports names");
        assert_eq!(name, t.full_name());
        check(t.schema(), fields);
    }
    check(OutboundNotification::schema(), fields_of::<OutboundNotification>());
    check(LiveNotification::schema(), fields_of::<LiveNotification>());
    check(WebhookAttempt::schema(), fields_of::<WebhookAttempt>());
    check(WebhookExhausted::schema(), fields_of::<WebhookExhausted>());
    check(WebhookEndpointChanged::schema(), fields_of::<WebhookEndpointChanged>());
    assert_eq!(checked, EventType::ALL.len() + 5);
}

/// The names that a struct's `Deserialize` asks for, in the order of declaration.
fn fields_of<R: AvroRecord>() -> Vec<&'static str> {
    struct Asked<'a>(&'a mut Vec<&'static str>);
    impl<'de> serde::Deserializer<'de> for Asked<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only structs are asked for"))
        }
        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            Err(serde::de::Error::custom("the names are enough"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields = Vec::new();
    let _ = R::deserialize(Asked(&mut fields));
    fields
}
