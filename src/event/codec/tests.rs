//! Bodies against schemas, without a registry: round trips, older and foreign writers, and every kind of garbage.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

use super::*;
use crate::event::json::from_avro_json;
use crate::event::sample::{Fill, sample};
use crate::event::shape::Shape;
use crate::event::{
    Actor, ActorRole, Factory, FieldChange, LiveNotification, Money, OrderPaid, OrderShipped, OrderSnapshot,
    OrderStatus, OrderUpdated, OutboundNotification, WebhookAttempt, WebhookEndpointChanged,
    WebhookExhausted,
};

fn writer(text: &str) -> WriterSchema {
    WriterSchema::of(text, &[]).expect("it is a valid schema")
}

fn shipped() -> OrderShipped {
    let mut shipped = Factory::new("shop", "test").with_id(uuid::Uuid::from_u128(7)).order_shipped(
        "o-1",
        1_760_000_000_123,
        "DHL",
        "JD014600",
    );
    shipped.order =
        Some(OrderSnapshot { order_number: 7, status: OrderStatus::Shipped, ..OrderSnapshot::default() });
    shipped.tracking_url = Some("https://example.com/é".to_owned());
    shipped
}

fn body_of<R: AvroRecord>(record: &R) -> Vec<u8> {
    Writing { id: 1 }.record(record).expect("it fits")[PREFIX_BYTES..].to_vec()
}

/// Our schema of `OrderShipped` with one piece of text replaced.
fn changed(from: &str, to: &str) -> String {
    let text = OrderShipped::schema().text();
    assert!(text.contains(from), "{from} is not in the schema");
    text.replacen(from, to, 1)
}

#[test]
fn frames_are_split_or_refused() {
    assert_eq!(unframe(&[0, 0, 0, 1, 2, 9]), Ok((258, &[9][..])));
    assert_eq!(unframe(&[]), Err(DecodeError::NotFramed));
    assert_eq!(unframe(&[1, 0, 0, 0, 1]), Err(DecodeError::NotFramed));
    assert_eq!(unframe(b"{"), Err(DecodeError::NotFramed));
    assert_eq!(unframe(&[0, 0, 0, 1]), Err(DecodeError::Truncated));
}

#[test]
fn the_same_schema_written_differently_takes_the_straight_way() {
    let pretty = OrderShipped::schema().file();
    assert!(writer(pretty).same_as_ours);
    assert!(writer(&changed("\"doc\":\"An order left the seller.\",", "")).same_as_ours);
    assert!(!writer(&changed("\"name\":\"carrier\"", "\"name\":\"carriage\"")).same_as_ours);
    assert_eq!(body::read::<OrderShipped>(&writer(pretty), &body_of(&shipped())), Ok(shipped()));
}

/// The bytes of `record` as Avro's own library writes them, and the same read by it.
fn by_the_library<R: AvroRecord>(record: &R) -> (Vec<u8>, R) {
    let avro = R::schema().avro();
    let writer = GenericDatumWriter::builder(avro).build().expect("a valid schema");
    let mut bytes = Vec::new();
    writer.write_ser(&mut bytes, record).expect("it fits");
    let reader = GenericDatumReader::builder(avro).build().expect("a valid schema");
    let read = reader.read_deser(&mut &bytes[..]).expect("it is what was written");
    (bytes, read)
}

#[test]
fn our_own_way_and_the_library_agree_on_every_record() {
    struct Agree;
    impl RecordVisitor for Agree {
        type Output = ();
        fn record<R: AvroRecord>(self, record: &R) {
            let (bytes, read) = by_the_library(record);
            assert_eq!(body_of(record), bytes, "{}", R::schema().full_name());
            assert_eq!(body_of(&read), bytes, "{}", R::schema().full_name());
            let ours: R = read::read(&bytes).expect("it is what was written");
            assert_eq!(body_of(&ours), bytes, "{}", R::schema().full_name());
        }
    }
    for &event_type in EventType::ALL {
        for fill in [Fill::Least, Fill::Full] {
            sample(event_type, fill).visit(Agree);
        }
    }
    Agree.record(&OutboundNotification { actor: Some(Actor::default()), ..OutboundNotification::default() });
    Agree.record(&LiveNotification { occurred_at: -5, ..LiveNotification::default() });
    Agree.record(&WebhookAttempt {
        status: Some(200),
        response: Some("é".to_owned()),
        next_attempt_at: Some(i64::MAX),
        resend: true,
        ..WebhookAttempt::default()
    });
    Agree.record(&WebhookExhausted { source_offset: i64::MIN, ..WebhookExhausted::default() });
    Agree.record(&WebhookEndpointChanged { failing_since: Some(0), ..WebhookEndpointChanged::default() });
}

/// A symbol is its place: the variants' order is the schema's.
#[test]
fn every_symbol_is_read_as_the_library_reads_it() {
    fn symbols(shape: &Shape, found: &mut Vec<(String, Vec<String>)>, name: &str) {
        match shape {
            Shape::Record(fields) => {
                fields.iter().for_each(|field| symbols(&field.shape, found, &field.name));
            }
            Shape::List(inner) | Shape::Nullable(inner) => symbols(inner, found, name),
            Shape::Symbol(all) => found.push((name.to_owned(), all.clone())),
            Shape::Text | Shape::Truth | Shape::Int | Shape::Long | Shape::Timestamp => {}
        }
    }
    struct Same;
    impl RecordVisitor for Same {
        type Output = ();
        fn record<R: AvroRecord>(self, record: &R) {
            assert_eq!(body_of(record), by_the_library(record).0);
        }
    }
    let mut seen = 0;
    for &event_type in EventType::ALL {
        let mut found = Vec::new();
        symbols(event_type.schema().shape(), &mut found, "");
        for (field, all) in found {
            for symbol in all {
                let mut json = sample(event_type, Fill::Full).visit(ToAvroJson);
                replace(&mut json, &field, &symbol);
                from_avro_json(event_type, json).expect("a sample with another symbol").visit(Same);
                seen += 1;
            }
        }
    }
    assert!(seen > 20 * EventType::ALL.len() / 2, "{seen}");
}

struct ToAvroJson;

impl RecordVisitor for ToAvroJson {
    type Output = serde_json::Value;
    fn record<R: AvroRecord>(self, record: &R) -> serde_json::Value {
        serde_json::to_value(record).expect("records are JSON")
    }
}

/// Puts `symbol` wherever a field is called `name`.
fn replace(json: &mut serde_json::Value, name: &str, symbol: &str) {
    if let Some(field) = json.get_mut(name).filter(|field| field.is_string()) {
        *field = symbol.into();
    }
    let inner: Vec<&mut serde_json::Value> = match json {
        serde_json::Value::Object(map) => map.values_mut().collect(),
        serde_json::Value::Array(items) => items.iter_mut().collect(),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => Vec::new(),
    };
    inner.into_iter().for_each(|value| replace(value, name, symbol));
}

#[test]
fn lists_may_come_in_blocks_with_their_sizes() {
    let paid = |lines: &[&str]| -> Vec<u8> {
        let mut updated = Factory::new("shop", "test").with_id(uuid::Uuid::from_u128(7)).order_updated(
            "o-1",
            5,
            Vec::new(),
        );
        updated.changes = lines
            .iter()
            .map(|field| FieldChange { field: (*field).to_owned(), ..FieldChange::default() })
            .collect();
        body_of(&updated)
    };
    let (two, one) = (paid(&["a", "b"]), paid(&["a"]));
    let item = &one[one.len() - 2 - (two.len() - one.len()) + 1..one.len() - 1];
    let begin = &one[..one.len() - 2 - item.len()];
    let other = &two[two.len() - 1 - item.len()..two.len() - 1];
    // One item in a block of its own; one in a block of which the bytes are counted.
    let size = u8::try_from(2 * item.len()).expect("a short one");
    let blocks = [begin, &[2], item, &[1, size], other, &[0]].concat();
    assert_eq!(read::read::<OrderUpdated>(&blocks), read::read(&two));
    assert!(read::read::<OrderUpdated>(&two).expect("two changes").changes.len() == 2);
    // A count that nothing stands behind takes no memory.
    let endless = [begin, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
    assert_eq!(read::read::<OrderUpdated>(&endless), Err(DecodeError::Truncated));
}

#[test]
fn both_ways_of_reading_agree() {
    let mut slow = writer(OrderShipped::schema().text());
    slow.same_as_ours = false;
    assert_eq!(body::read::<OrderShipped>(&slow, &body_of(&shipped())), Ok(shipped()));
}

#[test]
fn every_cut_is_truncated_and_every_rest_is_trailing_both_ways() {
    let body = body_of(&shipped());
    for same_as_ours in [true, false] {
        let writer = WriterSchema { same_as_ours, ..writer(OrderShipped::schema().text()) };
        for end in 0..body.len() {
            let outcome = body::read::<OrderShipped>(&writer, &body[..end]);
            assert_eq!(outcome, Err(DecodeError::Truncated), "cut at {end}, {same_as_ours}");
        }
        let outcome = body::read::<OrderShipped>(&writer, &[&body[..], &[0, 0]].concat());
        assert_eq!(outcome, Err(DecodeError::TrailingBytes(2)));
    }
}

#[test]
fn an_older_writer_is_read_with_defaults() {
    let field = ",{\"name\":\"shipment_id\",\"type\":[\"null\",\"string\"],\"default\":null,\
                 \"doc\":\"The seller's own id of the shipment; since version 2.\"}";
    let older = writer(&changed(field, "").replacen("\"version\":2", "\"version\":1", 1));
    assert_eq!((older.version, older.same_as_ours), (Some(1), false));
    let mut body = body_of(&shipped());
    assert_eq!(body.pop(), Some(0), "the absent shipment id is the last byte");
    assert_eq!(body::read::<OrderShipped>(&older, &body), Ok(shipped()));
    assert_eq!(body::read::<OrderShipped>(&older, &body[..body.len() - 1]), Err(DecodeError::Truncated));
}

#[test]
fn a_newer_writer_loses_what_we_do_not_know() {
    let carrier = "{\"name\":\"carrier\",\"type\":\"string\",\"doc\":\"Who carries it.\"}";
    let newer = changed(
        carrier,
        &format!("{carrier},{{\"name\":\"drone\",\"type\":[\"null\",\"string\"],\"default\":null}}"),
    );
    let newer = writer(&newer.replacen("\"service\"]", "\"service\",\"robot\"]", 1));
    let mut body = body_of(&OrderShipped { order: None, tracking_url: None, ..shipped() });
    let carrier_end = body.windows(3).position(|bytes| bytes == b"DHL").expect("the carrier is in it") + 3;
    body.insert(carrier_end, 0);
    let read = body::read::<OrderShipped>(&newer, &body).expect("a newer writer can be read");
    assert_eq!(read.tracking_number, "JD014600");
}

#[test]
fn symbols_that_we_do_not_know_read_as_unknown() {
    let newer = writer(&changed("\"service\"]", "\"service\",\"robot\"]"));
    let mut record = shipped();
    record.meta.actor = Some(crate::event::Actor { id: "x".to_owned(), role: ActorRole::Service });
    let mut body = body_of(&record);
    let id = body.windows(3).position(|bytes| bytes == [2, 2, b'x']).expect("the actor is in it");
    body[id + 3] = 14;
    let read = body::read::<OrderShipped>(&newer, &body).expect("the symbol has a default");
    assert_eq!(read.meta.actor.expect("an actor").role, ActorRole::Unknown);
}

#[test]
fn narrower_integers_are_widened() {
    let money = "{\"name\":\"amount_minor\",\"type\":\"long\"";
    let text = OrderPaid::schema().text().replacen(money, &money.replace("long", "int"), 1);
    let paid = Factory::new("shop", "test").order_paid("o-1", 5, "p-1", "card", Money::new(1999, "EUR"));
    let narrow = writer(&text);
    assert!(!narrow.same_as_ours);
    assert_eq!(body::read::<OrderPaid>(&narrow, &body_of(&paid)), Ok(paid));
}

#[test]
fn fields_in_another_order_are_found_by_name() {
    let carrier = "{\"name\":\"carrier\",\"type\":\"string\",\"doc\":\"Who carries it.\"}";
    let number = "{\"name\":\"tracking_number\",\"type\":\"string\",\"doc\":\"The carrier's number.\"}";
    let swapped = writer(&changed(&format!("{carrier},{number}"), &format!("{number},{carrier}")));
    let mut turned = shipped();
    std::mem::swap(&mut turned.carrier, &mut turned.tracking_number);
    assert_eq!(body::read::<OrderShipped>(&swapped, &body_of(&turned)), Ok(shipped()));
}

#[test]
fn a_writer_whose_field_has_another_type_is_invalid() {
    let wrong = writer(&changed(
        "\"name\":\"carrier\",\"type\":\"string\"",
        "\"name\":\"carrier\",\"type\":\"boolean\"",
    ));
    let mut body = body_of(&OrderShipped { order: None, carrier: String::new(), ..shipped() });
    // An empty string and `false` are the same byte.
    assert!(matches!(body::read::<OrderShipped>(&wrong, &body), Err(DecodeError::Invalid(_))));
    body.clear();
    assert_eq!(body::read::<OrderShipped>(&wrong, &body), Err(DecodeError::Truncated));
}

#[test]
fn what_is_not_a_record_or_not_ours_has_no_type() {
    assert_eq!(writer("\"string\"").event_type, None);
    let foreign = writer(r#"{"type":"record","name":"OrderShipped","namespace":"elsewhere","fields":[]}"#);
    assert_eq!((foreign.event_type, foreign.full_name.as_str()), (None, "elsewhere.OrderShipped"));
}

#[test]
fn schemas_with_references_are_read() {
    let meta = serde_json::from_str::<serde_json::Value>(OrderPaid::schema().text()).expect("JSON");
    let mut paid = meta.clone();
    let mut meta = meta["fields"][0]["type"].clone();
    meta["namespace"] = "orderflow.events".into();
    paid["fields"][0]["type"] = "orderflow.events.EventMeta".into();
    let writer = WriterSchema::of(&paid.to_string(), &[meta.to_string()]).expect("it resolves");
    let record = Factory::new("shop", "test").order_paid("o-1", 5, "p-1", "card", Money::new(1999, "EUR"));
    assert_eq!(body::read::<OrderPaid>(&writer, &body_of(&record)), Ok(record));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), index in 0..EventType::ALL.len()) {
        let _ = unframe(&bytes);
        let schema = EventType::ALL[index].schema();
        for same_as_ours in [true, false] {
            let writer = WriterSchema { same_as_ours, ..writer(schema.text()) };
            let _ = Event::build(EventType::ALL[index], Reading { writer: &writer, body: &bytes });
        }
    }

    #[test]
    fn flipped_bytes_never_panic(place in 0usize..200, value in any::<u8>()) {
        let mut body = body_of(&shipped());
        let place = place % body.len();
        body[place] = value;
        for same_as_ours in [true, false] {
            let writer = WriterSchema { same_as_ours, ..writer(OrderShipped::schema().text()) };
            let _ = body::read::<OrderShipped>(&writer, &body);
        }
    }

    #[test]
    fn any_text_survives(carrier in ".*", url in proptest::option::of(".*"), at in any::<i64>()) {
        let mut record = shipped();
        (record.carrier, record.tracking_url, record.estimated_delivery) = (carrier, url, Some(at));
        let body = body_of(&record);
        for same_as_ours in [true, false] {
            let writer = WriterSchema { same_as_ours, ..writer(OrderShipped::schema().text()) };
            prop_assert_eq!(body::read::<OrderShipped>(&writer, &body), Ok(record.clone()));
        }
    }
}
