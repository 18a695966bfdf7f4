//! A producer that we did not write, in Python and without headers, is handled like ours.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use orderflow::event::{Decoded, Event, OrderStatus};
use orderflow::stages::StageOptions;
use orderflow::store::history::{self, Filter};
use serde_json::{Value, json};

use crate::harness::program::TestProgram;
use crate::harness::{eventually, service};

const SOON: Duration = Duration::from_secs(30);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs the Python producer with these schema files and events.
async fn produce(program: &TestProgram, strategy: &str, events: &[(&str, Value)]) {
    let mut command = tokio::process::Command::new(service("ORDERFLOW_TEST_PYTHON"));
    command.arg(in_repository("tests/it/python/producer.py"));
    command.arg(service("ORDERFLOW_TEST_KAFKA")).arg(service("ORDERFLOW_TEST_REGISTRY"));
    command.arg(program.topic("orders.events")).arg(strategy);
    for (schema, event) in events {
        command.arg(in_repository(schema)).arg(event.to_string());
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON, output).await.expect("it ends").expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What lies on the topic, read by our codec; and that nobody sent a header.
async fn read_back(program: &TestProgram) -> Vec<(Event, Option<i32>)> {
    let mut events = Vec::new();
    for record in program.kafka.all(&program.topic("orders.events")).await {
        assert_eq!(record.headers.text("ce_type"), None);
        let payload = record.payload.expect("a value");
        match program.parts.codec.decode(&payload).await.expect("it can be read") {
            Decoded::Event { event, writer_version, .. } => events.push((event, writer_version)),
            Decoded::UnknownType { record, .. } => panic!("{record} is unknown"),
        }
    }
    events.sort_by(|(a, _), (b, _)| a.meta().event_id.cmp(&b.meta().event_id));
    events
}

async fn is_kept(program: &TestProgram, order: &str, count: i64) {
    eventually("the history keeps them", SOON, || async {
        history::count(&program.parts.db, "shop", order, &Filter::default())
            .await
            .is_ok_and(|kept| kept == count)
    })
    .await;
    let letters = program.kafka.all(&program.topic("orders.events.history.dlq")).await;
    assert_eq!(letters.len(), 0, "nothing is a dead letter");
}

fn meta(number: u8, order: &str) -> Value {
    let event_id = format!("0199c82c-c07b-7cf9-a886-65ff34a0d2{number:02}");
    json!({"event_id": event_id, "order_id": order, "tenant_id": "shop", "occurred_at": 1_760_000_000_000_i64})
}

#[tokio::test(flavor = "multi_thread")]
async fn events_by_topic_record_subjects_are_handled_like_ours_also_of_an_older_version() {
    let mut program = TestProgram::new("python", StageOptions::default()).await;
    program.start(&["history"]);
    let line = json!({"product_id": "p-1", "title": "Tasse Tee ☕", "quantity": 2,
        "unit_price": {"amount_minor": 995, "currency": "EUR"}});
    let total = json!({"amount_minor": 1990, "currency": "EUR"});
    let created = json!({
        "meta": meta(1, "o-1"), "order_number": 1001, "total": total, "lines": [line],
        "buyer": {"user_id": "u-1", "name": "Ada", "email": "ada@example.com"}, "seller": {"user_id": "u-2"},
        "order": {"order_number": 1001, "status": "created", "total": total, "items": [line]},
    });
    let shipped =
        |number| json!({"meta": meta(number, "o-1"), "carrier": "DHL", "tracking_number": "JD014600"});
    produce(
        &program,
        "topic-record",
        &[
            ("schemas/golden/OrderShipped.v1.avsc", shipped(2)),
            ("schemas/OrderCreated.avsc", created),
            ("schemas/OrderShipped.avsc", shipped(3)),
        ],
    )
    .await;

    let events = read_back(&program).await;
    let versions: Vec<_> = events.iter().map(|(_, version)| *version).collect();
    assert_eq!(versions, [Some(1), Some(1), Some(2)]);
    let (Event::OrderCreated(created), Event::OrderShipped(older), Event::OrderShipped(newer)) =
        (&events[0].0, &events[1].0, &events[2].0)
    else {
        panic!("other events: {events:?}")
    };
    assert_eq!(created.lines[0].title, "Tasse Tee ☕");
    assert_eq!(created.buyer.email.as_deref(), Some("ada@example.com"));
    assert_eq!(created.order.as_ref().map(|order| order.status), Some(OrderStatus::Created));
    assert_eq!((&older.carrier, &older.shipment_id), (&newer.carrier, &None));
    is_kept(&program, "o-1", 3).await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_by_the_default_subject_are_handled_like_ours_and_ours_beside_them() {
    let mut program = TestProgram::new("python", StageOptions::default()).await;
    program.start(&["history"]);
    let paid = |number| {
        json!({"meta": meta(number, "o-2"), "payment_id": "pay-1", "method": "card",
            "amount": {"amount_minor": 1990, "currency": "EUR"}})
    };
    let schema = "schemas/OrderPaid.avsc";
    produce(&program, "default", &[(schema, paid(1)), (schema, paid(2))]).await;
    let events = read_back(&program).await;
    assert_eq!(events.len(), 2);
    let Event::OrderPaid(first) = &events[0].0 else { panic!("another event: {events:?}") };
    assert_eq!((first.amount.amount_minor, first.method.as_str()), (1990, "card"));

    let mut ours = first.clone();
    ours.meta.event_id = uuid::Uuid::now_v7().to_string();
    program.publish(&Event::OrderPaid(ours)).await;
    is_kept(&program, "o-2", 3).await;
    program.end().await;
}
