//! The JSON form of an event, both ways: what the CLI, the HTTP API and the console show and take.
//!
//! `{"id","type","schemaVersion","orderId","tenantId","customerId","occurredAt","correlationId","causationId",
//! "source","actor","data":{…}}`, in camel case, times as RFC 3339. `ip` and `userAgent` stand beside `actor` when
//! they are known; in `data` what is null is absent. Both directions follow the schema's [`Shape`], so a new event
//! needs no code here. Reading is strict: every unknown field, wrong type and missing field is reported, by path.

use serde_json::{Map, Value};

use super::mask;
use super::schema::{AvroRecord, RecordSchema};
use super::shape::{FieldShape, Shape};
use super::table::{RecordMaker, RecordVisitor};
use super::time::{epoch_ms, is_in_calendar, rfc3339};
use super::{Event, EventType};

mod read;

pub use read::{Defaults, FieldError, FieldErrors};

impl Event {
    /// The JSON form.
    pub fn to_json(&self) -> Value {
        self.render(Masking::Off)
    }

    /// The JSON form without personal data: fields marked in the schema are hidden, card numbers are cut.
    pub fn to_json_masked(&self) -> Value {
        self.render(Masking::On)
    }

    /// Reads the JSON form, filling what it leaves out from `defaults`.
    pub fn from_json(json: &Value, defaults: &Defaults) -> Result<Event, FieldErrors> {
        read::event(json, defaults)
    }

    fn render(&self, masking: Masking) -> Value {
        let event_type = self.event_type();
        let Value::Object(mut record) = self.visit(ToValue) else { return Value::Null };
        let Shape::Record(fields) = event_type.schema().shape() else { return Value::Null };
        let meta = record.remove("meta").unwrap_or_default();
        let mut json = Map::new();
        json.insert("type".into(), event_type.as_str().into());
        json.insert("schemaVersion".into(), event_type.schema_version().into());
        for (field, envelope) in meta_fields(fields) {
            let value = render_field(field, &meta[&field.name], masking);
            if value.is_some() || !field.personal {
                json.insert(envelope.to_owned(), value.unwrap_or_default());
            }
        }
        let data = fields.iter().filter(|field| field.name != "meta").filter_map(|field| {
            Some((field.json_name.clone(), render_field(field, record.get(&field.name)?, masking)?))
        });
        json.insert("data".into(), Value::Object(data.collect()));
        Value::Object(json)
    }
}

/// An event of a record's own JSON, under its Avro names.
pub(super) fn from_avro_json(event_type: EventType, record: Value) -> Result<Event, serde_json::Error> {
    Event::build(event_type, FromValue(record))
}

/// A record of our own topics as JSON, in camel case; `masked` hides personal data.
pub fn record_to_json<R: AvroRecord>(record: &R, masked: bool) -> Value {
    let value = serde_json::to_value(record).unwrap_or_default();
    render(R::schema().shape(), &value, if masked { Masking::On } else { Masking::Off }).unwrap_or_default()
}

/// Whether personal data is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masking {
    Off,
    On,
    /// Inside a field that is personal as a whole.
    Hidden,
}

struct ToValue;

impl RecordVisitor for ToValue {
    type Output = Value;

    fn record<R: AvroRecord>(self, record: &R) -> Value {
        serde_json::to_value(record).expect("records have text keys and plain values only")
    }
}

struct FromValue(Value);

impl RecordMaker for FromValue {
    type Error = serde_json::Error;

    fn record<R: AvroRecord>(self) -> Result<R, serde_json::Error> {
        serde_json::from_value(self.0)
    }
}

/// The fields of `meta`, each with the name that it has in the envelope.
pub(super) fn meta_fields(fields: &[FieldShape]) -> impl Iterator<Item = (&FieldShape, &str)> {
    let meta = fields.iter().find(|field| field.name == "meta");
    let fields = match meta.map(|field| &field.shape) {
        Some(Shape::Record(fields)) => fields.as_slice(),
        _ => &[],
    };
    fields.iter().map(|field| (field, if field.name == "event_id" { "id" } else { field.json_name.as_str() }))
}

fn render_field(field: &FieldShape, value: &Value, masking: Masking) -> Option<Value> {
    let names_something = field.name.ends_with("_id") || field.name == "id";
    let masking = match masking {
        Masking::On if field.personal => Masking::Hidden,
        Masking::On if names_something => Masking::Off,
        Masking::On | Masking::Off | Masking::Hidden => masking,
    };
    render(&field.shape, value, masking)
}

/// The value in its JSON form; `None` for null.
fn render(shape: &Shape, value: &Value, masking: Masking) -> Option<Value> {
    match shape {
        _ if value.is_null() => None,
        Shape::Nullable(inner) => render(inner, value, masking),
        Shape::Record(fields) => {
            let present = fields.iter().filter_map(|field| {
                Some((field.json_name.clone(), render_field(field, value.get(&field.name)?, masking)?))
            });
            Some(Value::Object(present.collect()))
        }
        Shape::List(item) => {
            Some(value.as_array()?.iter().filter_map(|value| render(item, value, masking)).collect())
        }
        _ if masking == Masking::Hidden => Some(mask::HIDDEN.into()),
        Shape::Timestamp => Some(rfc3339(value.as_i64()?).into()),
        Shape::Text if masking == Masking::On => {
            Some(mask::card_numbers(value.as_str()?).into_owned().into())
        }
        Shape::Text | Shape::Truth | Shape::Int | Shape::Long | Shape::Symbol(_) => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests;
