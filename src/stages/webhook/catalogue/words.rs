//! What the catalogue says of each field. What isn't said here is said by the Avro schema of the event.

use serde_json::Value;

use crate::event::EventType;

/// What stands before the events.
pub(super) const INTRODUCTION: &str = "\
# Event catalogue

Made from the Avro schemas and the function that makes the bodies; a test fails when it is stale. [README.md](README.md) says how
to receive them.

Every body is `{\"id\", \"event\", \"created\", \"data\"}`. A question mark marks what may be absent. Ignore fields that you
don't know, and be ready for new values where a list says which there are: both may be added at any time. Amounts are numbers in the
currency's main unit. Names, mail addresses, phone numbers, postal addresses and free descriptions of people are never in a body.
";

const WORDS: &[(&str, &str)] = &[
    ("id", "Names this event for ever, as the header webhook-id does."),
    ("event", "The type."),
    ("created", "When it happened."),
    ("data", "What happened."),
    ("orderId", "The order."),
    ("orderNumber", "The order's number, as people use it."),
    ("customerId", "The buyer's user id."),
    ("status", "Where the order (or job) stands after the event."),
    ("statusChangedAt", "When the event brought the order to this status."),
    ("total", "What the order costs, in the currency's main unit."),
    ("currency", "ISO 4217 code."),
    ("items", "What was ordered."),
    ("unitPrice", "The price of one, in the currency's main unit."),
    ("paymentInfo", "Money that moved, or failed to."),
    ("method", "How it was paid."),
    ("amount", "How much, in the currency's main unit."),
    ("failureCode", "Why the provider refused."),
    ("shipment", "Goods that moved."),
    ("metadata", "What is particular to this type of event."),
    ("correlationId", "The same for everything that one request led to."),
    ("changedFields", "The fields that were changed."),
    ("returned", "What came back: product and quantity."),
    ("queueName", "The queue that the job waits in."),
    ("processingTime", "How long the job took, in milliseconds."),
    ("jobId", "The job."),
    ("workerId", "The worker."),
    ("error", "What went wrong, in the worker's words."),
];

/// What the field called `name` in bodies of `event_type` means.
pub(super) fn of(event_type: EventType, name: &str) -> String {
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == name) {
        return (*words).to_owned();
    }
    let schema: Value = serde_json::from_str(event_type.schema().text()).unwrap();
    in_schema(&schema, name).unwrap_or_else(|| panic!("nothing is said of {name} in {event_type}"))
}

/// What the Avro schema says of the field that is called `name` in JSON.
fn in_schema(schema: &Value, name: &str) -> Option<String> {
    match schema {
        Value::Object(fields) => {
            let camel = |snake: &str| {
                let mut words = snake.split('_');
                let first = words.next().unwrap_or_default().to_owned();
                words.fold(first, |camel, word| camel + &word[..1].to_uppercase() + &word[1..])
            };
            if fields.contains_key("type")
                && fields.get("name").and_then(Value::as_str).is_some_and(|snake| camel(snake) == name)
                && let Some(doc) = fields.get("doc").and_then(Value::as_str)
            {
                return Some(doc.to_owned());
            }
            fields.values().find_map(|value| in_schema(value, name))
        }
        Value::Array(items) => items.iter().find_map(|item| in_schema(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
