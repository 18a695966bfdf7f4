//! What the bodies of an event look like, learned from the bodies themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::body::body;
use super::super::facts::Facts;
use super::words;
use crate::event::{Defaults, Event, EventType, OrderStatus, epoch_ms};

/// The event of all samples.
const ID: Uuid = Uuid::from_u128(0x0199_c82c_c07b_7cf9_a886_65ff_34a0_d238);

/// What was seen at one place of the bodies.
#[derive(Debug, Default)]
pub(super) struct Learned {
    times: usize,
    kinds: BTreeSet<&'static str>,
    dates: bool,
    texts: BTreeSet<String>,
    /// Whether all texts are known: they vary as the symbols of an Avro enumeration do.
    symbols: BTreeSet<String>,
    fields: BTreeMap<String, Learned>,
    items: Option<Box<Learned>>,
}

/// A body, and the symbol that was put into its event, if one was.
struct Varied {
    body: Value,
    symbol: Option<String>,
}

/// The bodies of all golden examples of `event_type` and of every variation that its schema allows.
pub(super) fn bodies(event_type: EventType) -> Vec<Value> {
    varied(event_type).into_iter().map(|varied| varied.body).collect()
}

/// The bytes of the body of the golden example in which everything is there, with the statuses that such an order has.
pub(super) fn sample_body(event_type: EventType) -> String {
    let mut examples = golden(event_type);
    let mut example = examples.remove(0);
    let mut put = |place: &str, value: &str| {
        if let Some(status) = example.pointer_mut(place) {
            *status = value.into();
        }
    };
    put("/data/oldStatus", "paid");
    put("/data/newStatus", "shipped");
    let after = if event_type == EventType::OrderStatusChanged {
        OrderStatus::Shipped
    } else {
        // The event alone says where it leads to.
        examples
            .last()
            .and_then(|least| Event::from_json(least, &Defaults::default()).ok())
            .and_then(|least| Facts::of(&least).status)
            .unwrap_or(OrderStatus::Paid)
    };
    put("/data/order/status", after.as_str());
    let event = Event::from_json(&example, &Defaults::default()).unwrap();
    String::from_utf8(body(&event, ID).to_vec()).unwrap()
}

fn golden(event_type: EventType) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/golden");
    let text = std::fs::read_to_string(folder.join(format!("{}.json", event_type.record_name()))).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["valid"].as_array().unwrap().iter().map(|example| example["event"].clone()).collect()
}

fn varied(event_type: EventType) -> Vec<Varied> {
    let mut all = Vec::new();
    for example in golden(event_type) {
        let mut add = |json: &Value, symbol: Option<String>| -> Result<(), String> {
            let event = Event::from_json(json, &Defaults::default()).map_err(|errors| errors.to_string())?;
            all.push(Varied { body: serde_json::from_slice(&body(&event, ID)).unwrap(), symbol });
            Ok(())
        };
        add(&example, None).unwrap();
        for path in places(&example) {
            let mut without = example.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
                fields.remove(name);
            }
            // What can't be left out is refused, and no variation.
            let _ = add(&without, None);
            let mut changed = example.clone();
            let Some(place @ Value::String(_)) = changed.pointer_mut(&path) else { continue };
            *place = json!("?");
            let Some(symbols) = refused_symbols(&changed) else { continue };
            for symbol in symbols {
                *changed.pointer_mut(&path).unwrap() = json!(symbol);
                add(&changed, Some(symbol)).unwrap();
            }
        }
    }
    all
}

/// The symbols that may stand where a question mark doesn't.
fn refused_symbols(json: &Value) -> Option<Vec<String>> {
    let errors = Event::from_json(json, &Defaults::default()).err()?;
    let symbols = errors.0.first()?.message.strip_prefix("must be one of ")?.to_owned();
    Some(symbols.split(", ").map(str::to_owned).collect())
}

/// JSON pointers to everything in `value`.
fn places(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, places: &mut Vec<String>) {
        let mut below = |name: &str, value: &Value| {
            let at = format!("{at}/{name}");
            places.push(at.clone());
            walk(value, &at, places);
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name, value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

impl Learned {
    /// What the bodies of `event_type` look like.
    pub(super) fn of(event_type: EventType) -> Self {
        let mut learned = Self::default();
        for varied in varied(event_type) {
            learned.see(&varied.body, varied.symbol.as_deref());
        }
        learned
    }

    fn see(&mut self, value: &Value, symbol: Option<&str>) {
        self.times += 1;
        match value {
            Value::Object(fields) => {
                self.kinds.insert("object");
                for (name, value) in fields {
                    self.fields.entry(name.clone()).or_default().see(value, symbol);
                }
            }
            Value::Array(items) => {
                self.kinds.insert("array");
                let below = self.items.get_or_insert_default();
                items.iter().for_each(|item| below.see(item, symbol));
            }
            Value::String(text) => {
                self.kinds.insert("string");
                self.dates = (self.dates || self.texts.is_empty()) && epoch_ms(text).is_some();
                self.texts.insert(text.clone());
                if symbol == Some(text) {
                    self.symbols.insert(text.clone());
                }
            }
            Value::Number(number) => {
                self.kinds.insert(if number.is_i64() { "integer" } else { "number" });
            }
            Value::Bool(_) => {
                self.kinds.insert("boolean");
            }
            Value::Null => panic!("bodies leave out what isn't there"),
        }
    }

    /// The JSON Schema of what was seen at the place called `name` in the bodies of `event_type`.
    pub(super) fn schema(&self, event_type: EventType, name: &str) -> Value {
        let kinds: Vec<&str> = self.kinds.iter().copied().collect();
        let [kind] = kinds[..] else { panic!("{event_type} has {kinds:?} as {name}") };
        let mut schema = Map::from_iter([("type".to_owned(), json!(kind))]);
        if !name.is_empty() {
            schema.insert("description".to_owned(), words::of(event_type, name).into());
        }
        match kind {
            "object" => {
                let required: Vec<_> = self
                    .fields
                    .iter()
                    .filter(|(_, field)| field.times == self.times)
                    .map(|(name, _)| name)
                    .collect();
                schema.insert("required".to_owned(), json!(required));
                let fields = self.fields.iter();
                let fields = fields.map(|(name, field)| (name.clone(), field.schema(event_type, name)));
                schema.insert("properties".to_owned(), fields.collect::<Map<_, _>>().into());
            }
            "array" => {
                let item = self.items.as_ref().unwrap().schema(event_type, "");
                schema.insert("items".to_owned(), item);
            }
            "string" if self.dates => {
                schema.insert("format".to_owned(), json!("date-time"));
            }
            "string" if name == "id" => {
                schema.insert("pattern".to_owned(), json!("^evt_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"));
            }
            "string" if event_type.is_job() && name == "status" => {
                schema.insert("enum".to_owned(), json!(self.texts));
            }
            "string" if self.symbols.len() > 1 => {
                schema.insert("enum".to_owned(), json!(self.symbols));
            }
            _ => {}
        }
        Value::Object(schema)
    }
}
