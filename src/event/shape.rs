//! A schema as a tree of what may stand where: what the JSON form and the masking walk along.
//!
//! Avro's own tree names a type that was defined earlier instead of repeating it; here every name is resolved.
//! Our schemas aren't recursive, and use only what [`Shape`] lists; anything else fails at start, in every test.

use std::collections::HashMap;

use apache_avro::Schema;

/// What a value may be.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A record of named fields.
    Record(Vec<FieldShape>),
    /// A list of items.
    List(Box<Shape>),
    /// Null or something.
    Nullable(Box<Shape>),
    /// A text.
    Text,
    /// A truth value.
    Truth,
    /// An integer of 32 bits.
    Int,
    /// An integer of 64 bits.
    Long,
    /// Milliseconds since the epoch; RFC 3339 in JSON.
    Timestamp,
    /// One of the named symbols.
    Symbol(Vec<String>),
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(super) struct FieldShape {
    /// The name in Avro, in snake case.
    pub(super) name: String,
    /// The name in JSON, in camel case.
    pub(super) json_name: String,
    /// Whether it, and everything in it, is personal data.
    pub(super) personal: bool,
    /// What it may be.
    pub(super) shape: Shape,
}

impl Shape {
    /// The shape of one of our schemas.
    pub(super) fn of(schema: &Schema) -> Shape {
        Shape::resolve(schema, &mut HashMap::new())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever Avro has or will have, our schemas use only these"
    )]
    fn resolve(schema: &Schema, known: &mut HashMap<String, Shape>) -> Shape {
        match schema {
            Schema::Record(record) => {
                let fields = record.fields.iter().map(|field| FieldShape {
                    name: field.name.clone(),
                    json_name: camel_case(&field.name),
                    personal: field.custom_attributes.get("pii") == Some(&serde_json::Value::Bool(true)),
                    shape: Shape::resolve(&field.schema, known),
                });
                let shape = Shape::Record(fields.collect());
                known.insert(record.name.fullname(None), shape.clone());
                shape
            }
            Schema::Enum(symbols) => {
                let shape = Shape::Symbol(symbols.symbols.clone());
                known.insert(symbols.name.fullname(None), shape.clone());
                shape
            }
            Schema::Ref { name } => {
                known.get(&name.fullname(None)).expect("a schema defines a type before it names it").clone()
            }
            Schema::Union(union) => match union.variants() {
                [Schema::Null, other] => Shape::Nullable(Box::new(Shape::resolve(other, known))),
                other => unreachable!("our unions are null and one other type, not {other:?}"),
            },
            Schema::Array(array) => Shape::List(Box::new(Shape::resolve(&array.items, known))),
            Schema::String => Shape::Text,
            Schema::Boolean => Shape::Truth,
            Schema::Int => Shape::Int,
            Schema::Long => Shape::Long,
            Schema::TimestampMillis => Shape::Timestamp,
            other => unreachable!("our schemas don't use {other:?}"),
        }
    }
}

fn camel_case(snake: &str) -> String {
    let mut words = snake.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}
