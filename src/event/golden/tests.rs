//! The golden files of this repository, and how they are made.
//!
//! With ORDERFLOW_WRITE_GOLDEN=1 what is missing is written; what is there is never changed.

use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;

use super::*;
use crate::event::sample::{Fill, sample};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/golden")
}

#[test]
fn the_golden_files_hold() {
    if std::env::var_os("ORDERFLOW_WRITE_GOLDEN").is_some() {
        write_missing();
    }
    match check(&folder()) {
        Ok(proved) => assert!(proved >= 6 * EventType::ALL.len(), "{proved} examples only"),
        Err(faults) => panic!("{}", faults.join("\n")),
    }
}

#[test]
fn every_sample_is_an_event_of_its_type_in_both_forms() {
    for &event_type in EventType::ALL {
        for fill in [Fill::Least, Fill::Full] {
            let event = sample(event_type, fill);
            assert_eq!(event.event_type(), event_type);
            assert_eq!(Event::from_json(&event.to_json(), &Defaults::default()), Ok(event));
        }
    }
}

#[test]
fn an_older_version_is_among_the_examples() {
    let text = std::fs::read_to_string(folder().join("OrderShipped.json")).expect("it is there");
    let golden: Golden = serde_json::from_str(&text).expect("it is valid");
    assert_eq!(golden.older.len(), 1);
    let older = WriterSchema::of(
        &std::fs::read_to_string(folder().join(&golden.older[0].schema)).expect("a file"),
        &[],
    );
    assert_eq!(older.expect("it is valid").version, Some(1));
}

#[test]
fn a_changed_example_is_noticed() {
    let scratch = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(folder()).expect("it is there").flatten() {
        std::fs::copy(entry.path(), scratch.path().join(entry.file_name())).expect("it can be copied");
    }
    let path = scratch.path().join("OrderPaid.json");
    let text = std::fs::read_to_string(&path).expect("it is there").replacen("\"card\"", "\"cash\"", 1);
    std::fs::write(&path, text).expect("it can be written");
    let faults = check(scratch.path()).expect_err("one example is wrong");
    assert!(faults.len() == 1 && faults[0].contains("OrderPaid.json"), "{faults:?}");
}

fn write_missing() {
    for &event_type in EventType::ALL {
        let path = folder().join(format!("{}.json", event_type.record_name()));
        if !path.exists() {
            let text = serde_json::to_string_pretty(&golden_of(event_type)).expect("it can be written");
            std::fs::write(path, text + "\n").expect("it can be written");
        }
    }
}

fn golden_of(event_type: EventType) -> Golden {
    let wire = |event: &Event| write_frame(GOLDEN_ID, event).expect("samples fit");
    let valid = [("everything", Fill::Full), ("what is required", Fill::Least)].map(|(name, fill)| {
        let event = sample(event_type, fill);
        Valid { name: name.to_owned(), event: event.to_json(), wire: hex::encode(wire(&event)) }
    });
    let frame = wire(&sample(event_type, Fill::Full));
    let mut other_text = frame.clone();
    // The first text of every record is the event id: its length is made negative.
    other_text[5] = 1;
    let mut not_utf8 = frame.clone();
    not_utf8[6] = 0xff;
    let cases = [
        ("another magic byte", [&[1], &frame[1..]].concat(), "not framed"),
        ("no schema id", frame[..3].to_vec(), "truncated"),
        ("cut in the middle", frame[..frame.len() / 2].to_vec(), "truncated"),
        ("a byte too many", [&frame[..], &[0]].concat(), "trailing bytes"),
        ("a negative length", other_text, "invalid"),
        ("text that is not UTF-8", not_utf8, "invalid"),
        ("JSON", b"{\"type\":\"order.created\"}".to_vec(), "not framed"),
    ];
    Golden {
        record: event_type.full_name().to_owned(),
        valid: valid.into(),
        older: older_of(event_type),
        invalid: cases
            .map(|(name, wire, fault)| Invalid {
                name: name.into(),
                wire: hex::encode(wire),
                fault: fault.into(),
            })
            .into(),
    }
}

fn older_of(event_type: EventType) -> Vec<Older> {
    let schema = format!("{}.v1.avsc", event_type.record_name());
    let Ok(text) = std::fs::read_to_string(folder().join(&schema)) else { return Vec::new() };
    let mut event = sample(event_type, Fill::Full);
    if let Event::OrderShipped(shipped) = &mut event {
        shipped.shipment_id = None;
    }
    let avro = Schema::parse_str(&text).expect("it is valid");
    let Event::OrderShipped(record) = &event else { panic!("only shipments have an older version") };
    let value = apache_avro::to_value(record).and_then(|value| value.resolve(&avro)).expect("it fits");
    let body = GenericDatumWriter::builder(&avro)
        .build()
        .and_then(|w| w.write_value_to_vec(value))
        .expect("it fits");
    let wire = hex::encode([&[0, 0, 0, 0, 1], &body[..]].concat());
    vec![Older { name: "version 1".to_owned(), schema, wire, event: event.to_json() }]
}
