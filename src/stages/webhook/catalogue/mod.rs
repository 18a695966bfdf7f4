//! The catalogue for partners in `docs/partners/`: a JSON Schema and a sample for every event that endpoints can be told
//! of, and one page over all of them.
//!
//! Nothing in it is written by hand but the words: `learned` makes the bodies of every golden example, and of every
//! variation of it that its Avro schema allows, by the function that makes real ones, and looks at what is always
//! there, what is there at times, and what values there are. A test compares the files with what comes out, and writes
//! them anew when it is told to.

mod learned;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::learned::{Learned, bodies, sample_body};
use super::deliverable;
use crate::event::EventType;
use crate::topology::Topology;

/// Set to write the catalogue anew after events or bodies have changed.
const BLESS: &str = "ORDERFLOW_TEST_BLESS";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/partners")
}

fn types() -> Vec<EventType> {
    deliverable(&Topology::built_in().unwrap()).into_iter().collect()
}

/// The JSON Schema (2020-12) of the bodies that tell of `event_type`.
fn schema(event_type: EventType) -> Value {
    let mut schema = Learned::of(event_type).schema(event_type, "");
    let record = serde_json::from_str::<Value>(event_type.schema().text()).unwrap();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["$id"] = json!(format!("urn:orderflow:webhook:{event_type}"));
    schema["title"] = json!(event_type.as_str());
    schema["description"] = record["doc"].clone();
    schema["properties"]["event"] =
        json!({"const": event_type.as_str(), "description": words::of(event_type, "event")});
    schema
}

/// Every file of the catalogue, by its path in the folder.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut page = String::from(words::INTRODUCTION);
    for event_type in types() {
        let (schema, sample) = (schema(event_type), sample_body(event_type));
        let _ = writeln!(page, "\n## {event_type}\n\n{}", schema["description"].as_str().unwrap());
        let _ = writeln!(page, "[Schema](schemas/{event_type}.json) · [sample](samples/{event_type}.json)\n");
        page.push_str("| field of `data` | type | |\n|---|---|---|\n");
        rows(&schema["properties"]["data"], "", &mut page);
        let _ = writeln!(page, "\n```json\n{}\n```", pretty(&sample));
        files.insert(format!("schemas/{event_type}.json"), format!("{schema:#}\n"));
        files.insert(format!("samples/{event_type}.json"), sample);
    }
    files.insert("catalogue.md".to_owned(), page);
    files
}

/// One row for each field below `schema`; those that may be absent have a question mark.
fn rows(schema: &Value, path: &str, page: &mut String) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mark = if required.contains(&name.as_str()) { "" } else { "?" };
        let kind = match (&field["enum"], field["format"].as_str(), field["type"].as_str()) {
            (Value::Array(values), ..) => {
                let values = values.iter().filter_map(Value::as_str);
                values.collect::<Vec<_>>().join(", ")
            }
            (_, Some(format), _) => format.to_owned(),
            (_, None, Some("array")) => {
                format!("list of {}s", field["items"]["type"].as_str().unwrap_or("value"))
            }
            (_, None, kind) => kind.unwrap_or_default().to_owned(),
        };
        let about = field["description"].as_str().unwrap_or_default();
        let _ = writeln!(page, "| `{path}`{mark} | {kind} | {about} |");
        rows(field, &path, page);
        rows(&field["items"], &format!("{path}[]"), page);
    }
}

/// JSON with line breaks, its keys and numbers as they stand.
fn pretty(text: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            '{' | '[' if !quoted && letters.peek().is_some_and(|next| !matches!(next, '}' | ']')) => {
                depth += 1;
                let _ = write!(out, "{letter}\n{}", "  ".repeat(depth));
                continue;
            }
            '}' | ']' if !quoted && !matches!(out.chars().last(), Some('{' | '[')) => {
                depth -= 1;
                let _ = write!(out, "\n{}", "  ".repeat(depth));
            }
            ',' if !quoted => {
                let _ = write!(out, ",\n{}", "  ".repeat(depth));
                continue;
            }
            ':' if !quoted => {
                out.push_str(": ");
                continue;
            }
            _ => {}
        }
        escaped = quoted && letter == '\\' && !escaped;
        out.push(letter);
    }
    out
}

#[test]
fn the_catalogue_is_what_the_program_sends() {
    let (folder, files) = (folder(), files());
    let generated = |folder: &Path| {
        let mut found = vec!["catalogue.md".to_owned()];
        for part in ["schemas", "samples"] {
            for entry in std::fs::read_dir(folder.join(part)).into_iter().flatten() {
                found.push(format!("{part}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        found.sort();
        found
    };
    if std::env::var_os(BLESS).is_some() {
        for gone in generated(&folder).iter().filter(|path| !files.contains_key(*path)) {
            std::fs::remove_file(folder.join(gone)).unwrap();
        }
        for (path, text) in &files {
            std::fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            std::fs::write(folder.join(path), text).unwrap();
        }
    }
    let again = format!("write it anew: {BLESS}=1 cargo test --lib the_catalogue_is");
    for (path, text) in &files {
        let written = std::fs::read_to_string(folder.join(path)).unwrap_or_default();
        assert!(written == *text, "docs/partners/{path} is stale; {again}");
    }
    assert!(generated(&folder).iter().eq(files.keys()), "docs/partners holds events that are gone; {again}");
}

/// Checks every schema, each of `own` bodies by the schema of its type, and that each of `foreign` is refused by it.
const CHECK: &str = "
import json, sys
from jsonschema import Draft202012Validator
for line in sys.stdin:
    case = json.loads(line)
    Draft202012Validator.check_schema(case['schema'])
    validator = Draft202012Validator(case['schema'])
    for body in case['own']:
        validator.validate(body)
    for body in case['foreign']:
        assert not validator.is_valid(body), f'{case[\"schema\"][\"title\"]} takes {body}'
print('checked')
";

#[test]
fn every_schema_takes_the_bodies_of_its_event_and_of_no_other() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let python = std::env::var("ORDERFLOW_TEST_PYTHON").expect("ORDERFLOW_TEST_PYTHON: see ops/dev/test");
    let mut child = Command::new(python)
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().unwrap();
    let sample = |event_type| serde_json::from_str::<Value>(&sample_body(event_type)).unwrap();
    for event_type in types() {
        let mut own = bodies(event_type);
        let mut later = sample(event_type);
        later["data"]["of a later version"] = json!(1);
        own.push(later);
        let mut foreign: Vec<Value> =
            types().into_iter().filter(|other| *other != event_type).map(sample).collect();
        for cut in ["id", "created", "data"] {
            let mut body = sample(event_type);
            body.as_object_mut().unwrap().remove(cut);
            foreign.push(body);
        }
        let case = json!({"schema": schema(event_type), "own": own, "foreign": foreign});
        writeln!(stdin, "{case}").expect("python reads");
    }
    drop(stdin);
    let told = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "checked");
}

#[test]
fn what_is_sometimes_absent_is_not_required_and_what_is_one_of_few_says_which() {
    let shipped = schema(EventType::OrderShipped);
    let data = &shipped["properties"]["data"];
    assert_eq!(data["required"], json!(["metadata", "orderId", "shipment", "status", "statusChangedAt"]));
    let shipment = &data["properties"]["shipment"];
    assert_eq!(shipment["required"], json!(["carrier", "trackingNumber"]));
    assert_eq!(shipment["properties"]["estimatedDelivery"]["format"], "date-time");
    assert_eq!(data["properties"]["total"]["type"], "number");
    assert_eq!(data["properties"]["items"]["items"]["properties"]["quantity"]["type"], "integer");
    let changed = schema(EventType::OrderStatusChanged);
    let data = &changed["properties"]["data"];
    assert_eq!(data["properties"]["status"]["enum"].as_array().unwrap().len(), 11, "{data}");
    let old = &data["properties"]["metadata"]["properties"]["oldStatus"];
    assert!(old["enum"].as_array().unwrap().contains(&json!("unknown")), "{old}");
    assert!(
        !data["required"].as_array().unwrap().contains(&json!("status")),
        "a later status is left out: {data}"
    );
    let failed = schema(EventType::JobFailed);
    let required = &failed["properties"]["data"]["required"];
    assert_eq!(*required, json!(["error", "jobId", "jobType", "queueName", "status"]));
}

#[test]
fn pretty_changes_nothing_but_space() {
    let text = r#"{"a":[1.50,{"b":"x,\"{y}: "}],"c":{},"d":[]}"#;
    let pretty = pretty(text);
    assert_eq!(
        pretty,
        "{\n  \"a\": [\n    1.50,\n    {\n      \"b\": \"x,\\\"{y}: \"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}"
    );
}
