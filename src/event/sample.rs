//! One plausible example of every event, always the same: for golden files, catalogues and tests.
//!
//! Made by walking the schema, so a new event has its sample at once. The names, places and numbers in it are
//! invented.

use serde_json::{Map, Value};

use super::json::from_avro_json;
use super::schema::RecordSchema;
use super::shape::{FieldShape, Shape};
use super::{Event, EventType};

/// How much of an event is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Only what the schema requires; lists are empty.
    Least,
    /// Everything; lists have two items.
    Full,
}

/// When samples happen: 2025-10-09T08:53:20Z.
const SAMPLE_MS: i64 = 1_760_000_000_000;

/// The sample of a type.
pub fn sample(event_type: EventType, fill: Fill) -> Event {
    let record = sample_record(event_type.schema(), fill);
    from_avro_json(event_type, record).expect("samples follow the schema, by a test")
}

/// The sample of a record, under its Avro names.
fn sample_record(schema: &RecordSchema, fill: Fill) -> Value {
    value(schema.shape(), "", fill, 1)
}

fn value(shape: &Shape, name: &str, fill: Fill, nth: i64) -> Value {
    match shape {
        Shape::Nullable(_) if fill == Fill::Least => Value::Null,
        Shape::Nullable(inner) => value(inner, name, fill, nth),
        Shape::Record(fields) => {
            let field =
                |field: &FieldShape| (field.name.clone(), value(&field.shape, &field.name, fill, nth));
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        Shape::List(_) if fill == Fill::Least => Value::Array(Vec::new()),
        Shape::List(item) => (1..=2).map(|nth| value(item, name, fill, nth)).collect(),
        Shape::Text => text(name, nth).into(),
        Shape::Truth => true.into(),
        Shape::Int => nth.into(),
        Shape::Long => (1_000 * nth + 990).into(),
        Shape::Timestamp => (SAMPLE_MS + 86_400_000 * i64::from(name != "occurred_at")).into(),
        Shape::Symbol(symbols) => symbols.last().cloned().unwrap_or_default().into(),
    }
}

fn text(name: &str, nth: i64) -> String {
    match name {
        "event_id" => "0199c82c-c07b-7cf9-a886-65ff34a0d238",
        "correlation_id" => "0199c82c-c07b-7001-8000-000000000001",
        "causation_id" => "0199c82c-c07b-7002-8000-000000000002",
        "tenant_id" => "shop-1",
        "customer_id" | "user_id" | "opened_by" | "cancelled_by" | "submitted_by" => "user-1",
        "source" => "checkout",
        "ip" => "192.0.2.1",
        "user_agent" => "Mozilla/5.0",
        "currency" => "EUR",
        "name" | "recipient" | "signed_by" => "Ada Lovelace",
        "email" | "address" => "ada@example.com",
        "phone" => "+41790000000",
        "locale" => "en-GB",
        "time_zone" => "Europe/Zurich",
        "line1" => "Bahnhofstrasse 1",
        "city" => "Zürich",
        "postal_code" => "8001",
        "country" => "CH",
        "title" => "A cup of tea",
        "carrier" => "DHL",
        "tracking_number" => "JD014600006281230704",
        "tracking_url" => "https://carrier.example/JD014600006281230704",
        "method" | "refund_method" => "card",
        "channel" => "email",
        "event_type" => "order.created",
        _ => return format!("{}-{nth}", name.strip_suffix("_id").unwrap_or(name).replace('_', "-")),
    }
    .to_owned()
}
