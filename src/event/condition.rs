//! Conditions on the fields of an event: what a stage takes beyond types and tenants. Pure.
//!
//! A condition names a field of the JSON form by its path (`data.total.amountMinor`, `source`, `actor.role`) and says one
//! thing of it. Where the path crosses a list, any of its items will do; for `is_not` and `none_of` none may be found.

use std::fmt;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::meta_fields;
use super::shape::Shape;
use super::{Event, EventType};

/// Something that must hold for an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    field: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    OneOf(Vec<Value>),
    NoneOf(Vec<Value>),
    AtLeast(f64),
    AtMost(f64),
    BeginsWith(String),
    Exists(bool),
}

/// The form in a file: a field and one word of what is said about it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Form {
    field: String,
    is: Option<Value>,
    is_not: Option<Value>,
    one_of: Option<Vec<Value>>,
    none_of: Option<Vec<Value>>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    begins_with: Option<String>,
    exists: Option<bool>,
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let said = [
            form.is.map(|value| Test::OneOf(vec![value])),
            form.is_not.map(|value| Test::NoneOf(vec![value])),
            form.one_of.map(Test::OneOf),
            form.none_of.map(Test::NoneOf),
            form.at_least.map(Test::AtLeast),
            form.at_most.map(Test::AtMost),
            form.begins_with.map(Test::BeginsWith),
            form.exists.map(Test::Exists),
        ];
        let mut said = said.into_iter().flatten();
        let (Some(test), None, false) = (said.next(), said.next(), form.field.is_empty()) else {
            return Err(de::Error::custom(
                "a condition names a `field` and says one thing of it: is, is_not, one_of, none_of, at_least, at_most, \
                 begins_with or exists",
            ));
        };
        Ok(Self { field: form.field, test })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        let listed = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        match &self.test {
            Test::OneOf(values) => write!(f, "{field} is one of {}", listed(values)),
            Test::NoneOf(values) => write!(f, "{field} is none of {}", listed(values)),
            Test::AtLeast(bound) => write!(f, "{field} is at least {bound}"),
            Test::AtMost(bound) => write!(f, "{field} is at most {bound}"),
            Test::BeginsWith(start) => write!(f, "{field} begins with {start:?}"),
            Test::Exists(true) => write!(f, "{field} is there"),
            Test::Exists(false) => write!(f, "{field} is not there"),
        }
    }
}

impl Condition {
    /// The path of the field.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The first of `conditions` that doesn't hold for `event`.
    pub fn first_unmet<'c>(conditions: &'c [Condition], event: &Event) -> Option<&'c Condition> {
        if conditions.is_empty() {
            return None;
        }
        let json = event.to_json();
        conditions.iter().find(|condition| !condition.holds(&json))
    }

    fn holds(&self, json: &Value) -> bool {
        let mut found = Vec::new();
        collect(json, &self.field, &mut found);
        let any = |test: &dyn Fn(&Value) -> bool| found.iter().any(|value| test(value));
        match &self.test {
            Test::OneOf(wanted) => any(&|value| wanted.iter().any(|wanted| equal(wanted, value))),
            Test::NoneOf(unwanted) => !any(&|value| unwanted.iter().any(|unwanted| equal(unwanted, value))),
            Test::AtLeast(bound) => any(&|value| value.as_f64().is_some_and(|number| number >= *bound)),
            Test::AtMost(bound) => any(&|value| value.as_f64().is_some_and(|number| number <= *bound)),
            Test::BeginsWith(start) => {
                any(&|value| value.as_str().is_some_and(|text| text.starts_with(start)))
            }
            Test::Exists(wanted) => found.is_empty() != *wanted,
        }
    }
}

/// Whole numbers are the same however they are written.
fn equal(wanted: &Value, value: &Value) -> bool {
    match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(number)) => wanted == number,
        _ => wanted == value,
    }
}

/// Everything at `path` that isn't null.
fn collect<'j>(json: &'j Value, path: &str, found: &mut Vec<&'j Value>) {
    if let Value::Array(items) = json {
        return items.iter().for_each(|item| collect(item, path, found));
    }
    match path.split_once('.') {
        _ if path.is_empty() && !json.is_null() => found.push(json),
        Some((first, rest)) => collect(&json[first], rest, found),
        None if !path.is_empty() => collect(&json[path], "", found),
        None => {}
    }
}

impl EventType {
    /// The paths of every field that events of this type may have in their JSON form.
    pub fn fields(self) -> Vec<String> {
        let mut paths = vec!["type".to_owned(), "schemaVersion".to_owned()];
        let Shape::Record(fields) = self.schema().shape() else { return paths };
        for (field, envelope) in meta_fields(fields) {
            walk(&field.shape, envelope, &mut paths);
        }
        for field in fields.iter().filter(|field| field.name != "meta") {
            walk(&field.shape, &format!("data.{}", field.json_name), &mut paths);
        }
        paths
    }
}

fn walk(shape: &Shape, path: &str, paths: &mut Vec<String>) {
    match shape {
        Shape::Nullable(inner) | Shape::List(inner) => walk(inner, path, paths),
        Shape::Record(fields) => {
            paths.push(path.to_owned());
            for field in fields {
                walk(&field.shape, &format!("{path}.{}", field.json_name), paths);
            }
        }
        Shape::Text | Shape::Truth | Shape::Int | Shape::Long | Shape::Timestamp | Shape::Symbol(_) => {
            paths.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Factory, LineItem, Money, Party};

    fn event() -> Event {
        let party = |id: &str| Party { user_id: id.to_owned(), ..Party::default() };
        let line =
            |sku: &str, quantity| LineItem { sku: Some(sku.to_owned()), quantity, ..LineItem::default() };
        let lines = vec![line("A-1", 2), line("B-7", 1)];
        let factory = Factory::new("shop", "web").customer("c-1");
        factory.order_created("o-1", 1, 7, party("b"), party("s"), lines, Money::new(12_000, "EUR")).into()
    }

    fn condition(text: &str) -> Result<Condition, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_condition_says_one_thing_of_one_field() {
        for (said, holds) in [
            (r#""field": "source", "is": "web""#, true),
            (r#""field": "source", "is": "app""#, false),
            (r#""field": "source", "is_not": "app""#, true),
            (r#""field": "data.total.amountMinor", "at_least": 12000"#, true),
            (r#""field": "data.total.amountMinor", "at_least": 12000.5"#, false),
            (r#""field": "data.total.amountMinor", "at_most": 11999"#, false),
            (r#""field": "data.orderNumber", "is": 7.0"#, true),
            (r#""field": "data.lines.sku", "begins_with": "B-""#, true),
            (r#""field": "data.lines.sku", "none_of": ["C-1", "B-7"]"#, false),
            (r#""field": "data.lines.sku", "one_of": ["C-1", "B-7"]"#, true),
            (r#""field": "data.lines.quantity", "at_least": 3"#, false),
            (r#""field": "actor.role", "is": "buyer""#, false),
            (r#""field": "actor.role", "is_not": "buyer""#, true),
            (r#""field": "actor", "exists": false"#, true),
            (r#""field": "customerId", "exists": true"#, true),
        ] {
            let condition = condition(&format!("{{{said}}}")).expect("it is well formed");
            let unmet = Condition::first_unmet(std::slice::from_ref(&condition), &event());
            assert_eq!(unmet.is_none(), holds, "{said}: {condition}");
        }
    }

    #[test]
    fn a_condition_that_says_nothing_or_two_things_is_refused() {
        for said in [
            r#"{"field": "source"}"#,
            r#"{"is": "web"}"#,
            r#"{"field": "source", "is": "a", "exists": true}"#,
        ] {
            assert!(condition(said).expect_err("refused").contains("says one thing"), "{said}");
        }
        assert!(condition(r#"{"field": "source", "like": "w"}"#).expect_err("refused").contains("like"));
    }

    #[test]
    fn the_fields_of_a_type_are_known_by_their_paths() {
        let fields = EventType::OrderCreated.fields();
        for known in
            ["id", "tenantId", "actor.role", "data.total.amountMinor", "data.lines.sku", "data.buyer"]
        {
            assert!(fields.iter().any(|field| field == known), "{known} is missing in {fields:?}");
        }
        assert!(!fields.iter().any(|field| field.starts_with("data.meta")));
    }
}
