//! Reading the JSON form: a walk along the schema that collects every fault instead of stopping at the first.

use std::fmt;

use serde_json::{Map, Value};

use super::{EventType, FieldShape, FromValue, RecordSchema, Shape, epoch_ms, is_in_calendar, meta_fields};
use crate::event::{Event, factory};

/// What an event in JSON form may leave out.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The time now, for `occurredAt` and for new ids, in milliseconds since the epoch.
    pub now_ms: i64,
    /// The type, where it is named apart from the event.
    pub event_type: Option<EventType>,
    /// The id; without one a random one of version 7 is made.
    pub event_id: Option<String>,
    /// The order.
    pub order_id: Option<String>,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The publishing system.
    pub source: Option<String>,
    /// The correlation id.
    pub correlation_id: Option<String>,
}

/// One thing that is wrong with an event in JSON form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, such as `data.lines[0].unitPrice.currency`; empty for the event itself.
    pub field: String,
    /// What, in a few words.
    pub message: String,
}

/// Everything that is wrong with an event in JSON form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let field = if error.field.is_empty() { "event" } else { &error.field };
            write!(f, "{separator}{field}: {}", error.message)?;
        }
        Ok(())
    }
}

/// The longest order or tenant id, in bytes.
const LONGEST_ID: usize = 255;

/// The envelope's fields that aren't in [`EventMeta`].
const BESIDE_META: [&str; 3] = ["type", "schemaVersion", "data"];

pub(super) fn event(json: &Value, defaults: &Defaults) -> Result<Event, FieldErrors> {
    let mut faults = Faults::default();
    let Some(envelope) = json.as_object() else {
        faults.add("", "must be an object");
        return Err(faults.into());
    };
    let Some(event_type) = event_type(envelope, defaults, &mut faults) else { return Err(faults.into()) };
    let schema = event_type.schema();
    let Shape::Record(fields) = schema.shape() else { unreachable!("events are records") };

    version(envelope, schema, &mut faults);
    let names: Vec<&str> = meta_fields(fields).map(|(_, name)| name).chain(BESIDE_META).collect();
    unknown_fields(envelope, &names, "", &mut faults);
    let mut record = match envelope.get("data") {
        None | Some(Value::Null) => record_fields(without_meta(fields), &Map::new(), "data", &mut faults),
        Some(Value::Object(data)) => record_fields(without_meta(fields), data, "data", &mut faults),
        Some(_) => {
            faults.add("data", "must be an object");
            Map::new()
        }
    };
    record.insert("meta".into(), meta(envelope, fields, defaults, &mut faults));
    faults.none()?;
    Event::build(event_type, FromValue(Value::Object(record))).map_err(|error| {
        faults.add("", &error.to_string());
        faults.into()
    })
}

fn event_type(envelope: &Map<String, Value>, defaults: &Defaults, faults: &mut Faults) -> Option<EventType> {
    match envelope.get("type") {
        Some(Value::String(name)) => match name.parse::<EventType>() {
            Ok(named) if defaults.event_type.is_some_and(|expected| expected != named) => {
                faults.add("type", "differs from the type that the request names");
                None
            }
            Ok(named) => Some(named),
            Err(unknown) => {
                faults.add("type", &unknown.to_string());
                None
            }
        },
        None if defaults.event_type.is_some() => defaults.event_type,
        None => {
            faults.add("type", "is required");
            None
        }
        Some(_) => {
            faults.add("type", "must be a string");
            None
        }
    }
}

fn version(envelope: &Map<String, Value>, schema: &RecordSchema, faults: &mut Faults) {
    let known = i64::from(schema.version());
    if let Some(version) = envelope.get("schemaVersion")
        && !version.as_i64().is_some_and(|version| (1..=known).contains(&version))
    {
        faults.add("schemaVersion", &format!("must be between 1 and {known}"));
    }
}

fn meta(
    envelope: &Map<String, Value>,
    fields: &[FieldShape],
    defaults: &Defaults,
    faults: &mut Faults,
) -> Value {
    let mut given = Map::new();
    for (field, name) in meta_fields(fields) {
        match envelope.get(name) {
            None | Some(Value::Null) => {}
            // Order ids that are numbers elsewhere are taken as their digits.
            Some(Value::Number(number)) if name == "orderId" && !number.is_f64() => {
                given.insert(field.json_name.clone(), number.to_string().into());
            }
            Some(value) => {
                given.insert(field.json_name.clone(), value.clone());
            }
        }
    }
    if let Some(id) = given.get("eventId")
        && id.as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_err())
    {
        faults.add("id", "must be a UUID");
    }
    let mut default = |name: &str, value: Option<Value>| {
        if let Some(value) = value
            && !given.contains_key(name)
        {
            given.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let fresh = || Value::from(factory::random_event_id(defaults.now_ms).to_string());
    default("eventId", Some(text(&defaults.event_id).unwrap_or_else(fresh)));
    default("orderId", text(&defaults.order_id));
    default("tenantId", text(&defaults.tenant_id));
    default("occurredAt", Some(defaults.now_ms.into()));
    default("source", text(&defaults.source));
    default("correlationId", text(&defaults.correlation_id));
    let meta = fields.iter().find(|field| field.name == "meta");
    let value = match meta.map(|field| &field.shape) {
        Some(Shape::Record(fields)) => record_fields(fields, &given, "", faults),
        _ => Map::new(),
    };
    for name in ["orderId", "tenantId"] {
        match given.get(name).and_then(Value::as_str) {
            Some("") => faults.add(name, "must not be empty"),
            Some(id) if id.len() > LONGEST_ID || id.chars().any(char::is_control) => {
                faults.add(name, &format!("must have at most {LONGEST_ID} bytes and no control characters"));
            }
            Some(_) | None => {}
        }
    }
    Value::Object(value)
}

fn without_meta(fields: &[FieldShape]) -> impl Iterator<Item = &FieldShape> + Clone {
    fields.iter().filter(|field| field.name != "meta")
}

/// The fields of a record under their Avro names, absent ones as null.
fn record_fields<'a>(
    fields: impl IntoIterator<Item = &'a FieldShape, IntoIter: Clone>,
    given: &Map<String, Value>,
    path: &str,
    faults: &mut Faults,
) -> Map<String, Value> {
    let fields = fields.into_iter();
    let names: Vec<&str> = fields.clone().map(|field| field.json_name.as_str()).collect();
    unknown_fields(given, &names, path, faults);
    let mut record = Map::new();
    for field in fields {
        let path = join(path, &field.json_name);
        let value = match (given.get(&field.json_name), &field.shape) {
            (Some(Value::String(code)), Shape::Text) if field.name == "currency" && !is_currency(code) => {
                faults.add(&path, "must be a code of ISO 4217, such as EUR");
                Value::Null
            }
            (None | Some(Value::Null), Shape::Nullable(_)) => Value::Null,
            (None | Some(Value::Null), _) => {
                faults.add(&path, "is required");
                Value::Null
            }
            (Some(value), shape) => read(shape, value, &path, faults),
        };
        record.insert(field.name.clone(), value);
    }
    record
}

fn read(shape: &Shape, value: &Value, path: &str, faults: &mut Faults) -> Value {
    let expected = match (shape, value) {
        (Shape::Nullable(_), Value::Null) => return Value::Null,
        (Shape::Nullable(inner), value) => return read(inner, value, path, faults),
        (Shape::Record(fields), Value::Object(given)) => {
            return Value::Object(record_fields(fields, given, path, faults));
        }
        (Shape::List(item), Value::Array(values)) => {
            let items = values.iter().enumerate();
            return items.map(|(i, value)| read(item, value, &format!("{path}[{i}]"), faults)).collect();
        }
        (Shape::Text, Value::String(_)) | (Shape::Truth, Value::Bool(_)) => return value.clone(),
        (Shape::Int, Value::Number(number)) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
            return value.clone();
        }
        (Shape::Long, Value::Number(number)) if number.as_i64().is_some() => return value.clone(),
        (Shape::Timestamp, Value::Number(number)) if number.as_i64().is_some_and(is_in_calendar) => {
            return value.clone();
        }
        (Shape::Timestamp, Value::String(text)) => match epoch_ms(text) {
            Some(ms) => return ms.into(),
            None => "must be a time of RFC 3339".to_owned(),
        },
        (Shape::Symbol(symbols), Value::String(text)) if symbols.contains(text) => return value.clone(),
        (Shape::Symbol(symbols), _) => format!("must be one of {}", symbols.join(", ")),
        (Shape::Record(_), _) => "must be an object".to_owned(),
        (Shape::List(_), _) => "must be a list".to_owned(),
        (Shape::Text, _) => "must be a string".to_owned(),
        (Shape::Truth, _) => "must be true or false".to_owned(),
        (Shape::Int, _) => "must be an integer of 32 bits".to_owned(),
        (Shape::Long, _) => "must be an integer of 64 bits".to_owned(),
        (Shape::Timestamp, _) => "must be a time of RFC 3339 or milliseconds since the epoch".to_owned(),
    };
    faults.add(path, &expected);
    Value::Null
}

/// Whether it has the form of the codes of ISO 4217. Which of them are in use changes; their form doesn't.
fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|letter| letter.is_ascii_uppercase())
}

fn unknown_fields(given: &Map<String, Value>, known: &[&str], path: &str, faults: &mut Faults) {
    for name in given.keys().filter(|name| !known.contains(&name.as_str())) {
        let likeness = |known: &&&str| (strsim::jaro_winkler(known, name) * 1000.0) as i64;
        let nearest = known.iter().max_by_key(likeness).filter(|known| likeness(known) > 700);
        let message = match nearest {
            Some(nearest) => format!("is unknown; did you mean `{nearest}`?"),
            None => "is unknown".to_owned(),
        };
        faults.add(&join(path, name), &message);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[derive(Debug, Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: &str, message: &str) {
        self.0.push(FieldError { field: field.to_owned(), message: message.to_owned() });
    }

    fn none(&mut self) -> Result<(), FieldErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(FieldErrors(std::mem::take(&mut self.0))) }
    }
}

impl From<Faults> for FieldErrors {
    fn from(faults: Faults) -> FieldErrors {
        FieldErrors(faults.0)
    }
}
