//! The history on real services: what is kept, what is refused, and that the rest goes on.

use std::sync::Arc;
use std::time::Duration;

use orderflow::event::{Event, Factory, Money};
use orderflow::runtime::Record;
use orderflow::stages::StageOptions;
use orderflow::store::history::{self, Filter};
use orderflow::topology::Topology;

use crate::harness::program::TestProgram;
use crate::harness::{eventually, service};

const SOON: Duration = Duration::from_secs(30);
const NOW: i64 = 1_760_000_000_000;

fn paid(tenant: &str, order: &str) -> Event {
    Factory::new(tenant, "it").order_paid(order, NOW, "pay-1", "card", Money::new(1999, "EUR")).into()
}

async fn kept(program: &TestProgram, tenant: &str, order: &str) -> i64 {
    history::count(&program.parts.db, tenant, order, &Filter::default()).await.expect("the store answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_kept_once_and_tenants_apart() {
    let mut program = TestProgram::new("history", StageOptions::default()).await;
    program.start(&["history"]);
    let repeated = paid("shop", "o-1");
    for event in [&repeated, &repeated, &paid("shop", "o-1"), &paid("market", "o-1")] {
        program.publish(event).await;
    }
    eventually("both orders are kept", SOON, || async {
        kept(&program, "shop", "o-1").await == 2 && kept(&program, "market", "o-1").await == 1
    })
    .await;
    program.end().await;
}

/// Registers a record type that isn't ours, without fields, and gives its id.
async fn foreign_schema(topic: &str) -> u32 {
    let registry = service("ORDERFLOW_TEST_REGISTRY");
    let schema = r#"{"type":"record","name":"Foreign","namespace":"somebody.else","fields":[]}"#;
    let answer = reqwest::Client::new()
        .post(format!("{registry}/subjects/{topic}-somebody.else.Foreign/versions"))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .json(&serde_json::json!({ "schema": schema }))
        .send()
        .await
        .expect("the registry answers");
    let body: serde_json::Value = answer.json().await.expect("JSON");
    u32::try_from(body["id"].as_u64().expect("an id")).expect("a small number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_takes_only_what_the_topology_gives_it() {
    let mut program = TestProgram::new("takes", StageOptions::default()).await;
    let overlay = format!(
        "topic_prefix: \"{}\"\nstages: {{ history: {{ takes: [\"order.*\"] }} }}\n",
        program.kafka.name("")
    );
    let built_in = ("the built-in topology", include_str!("../../topology/orders.yaml"));
    let topology = Topology::from_yaml(&[built_in, ("the test's overlay", &overlay)]);
    program.parts.topology = Arc::new(topology.expect("it is valid"));
    let factory = Factory::new("shop", "it");
    let money = Money::new(1999, "EUR");
    program.publish(&factory.payment_processed("o-1", NOW, "pay-1", "card", money).into()).await;
    program.publish(&paid("shop", "o-1")).await;
    program.start(&["history"]);
    eventually("the order's event is kept", SOON, || async { kept(&program, "shop", "o-1").await == 1 })
        .await;
    let text = program.parts.env.metrics.text();
    let observed =
        "orderflow_event_processing_duration_seconds_count{stage=\"history\",type=\"order.paid\"} 1";
    assert!(text.contains(observed), "{text}");
    program.end().await;
}

/// What a dead letter says: class, source offset, and the bytes as they were.
fn told(letter: &Record) -> (String, String, Option<Vec<u8>>) {
    let header = |name| letter.headers.text(name).unwrap_or_default().to_owned();
    (
        header("of-error-class"),
        header("of-source-offset"),
        letter.payload.as_ref().map(|bytes| bytes.to_vec()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_get_what_the_contract_says_and_the_rest_goes_on() {
    let mut program = TestProgram::new("bad", StageOptions::default()).await;
    let topic = program.topic("orders.events");
    let event = paid("shop", "o-1");
    let good = program.parts.codec.encode(&topic, &event).await.expect("it fits");
    let cut = &good[..good.len() - 3];
    let trailing = [good.as_slice(), b"xx"].concat();
    let unknown_id = [[0, 0x7f, 0xff, 0xff, 0xff].as_slice(), &good[5..]].concat();
    let mut conflicting = event.clone();
    conflicting.meta_mut().occurred_at += 1;
    let conflicting = program.parts.codec.encode(&topic, &conflicting).await.expect("it fits");

    let key: Option<&[u8]> = Some(b"o-1");
    let mut expected = Vec::new();
    for (class, key, payload) in [
        ("decode", key, Some(b"\x01junk".as_slice())),
        ("decode", key, Some(cut)),
        ("decode", key, Some(&trailing)),
        ("schema_unknown", key, Some(&unknown_id)),
        ("key", None, Some(&good)),
        ("key", Some(b"\xff\xfe".as_slice()), Some(&good)),
        ("key", Some(b"o-2".as_slice()), Some(&good)),
    ] {
        let sent = program.send_raw(key, payload).await;
        expected.push((class.to_owned(), sent.offset.to_string(), payload.map(<[u8]>::to_vec)));
    }
    program.send_raw(key, None).await;
    let foreign = foreign_schema(&topic).await.to_be_bytes();
    program.send_raw(key, Some(&[[0].as_slice(), &foreign].concat())).await;
    program.publish(&event).await;
    let conflict = program.send_raw(key, Some(&conflicting)).await;
    expected.push(("conflict".to_owned(), conflict.offset.to_string(), Some(conflicting)));
    program.publish(&paid("shop", "o-1")).await;

    program.start(&["history"]);
    eventually("good events are kept", SOON, || async { kept(&program, "shop", "o-1").await == 2 }).await;
    let letters_topic = program.topic("orders.events.history.dlq");
    eventually("every bad record is a dead letter", SOON, || async {
        program.kafka.all(&letters_topic).await.len() == expected.len()
    })
    .await;
    let mut letters: Vec<_> = program.kafka.all(&letters_topic).await.iter().map(told).collect();
    letters.sort();
    expected.sort();
    assert_eq!(letters, expected);
    let text = program.parts.env.metrics.text();
    assert!(text.contains("orderflow_tasks_total{outcome=\"skipped\",stage=\"history\"} 2"), "{text}");
    program.end().await;
}

/// A key that was lost, or a row that was damaged: that order's events are dead letters, and nobody waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_can_not_be_opened_holds_nobody_up() {
    let mut program = TestProgram::new("history-damaged", StageOptions::default()).await;
    program.start(&["history"]);
    program.publish(&paid("shop", "o-1")).await;
    eventually("it is kept", SOON, || async { kept(&program, "shop", "o-1").await == 1 }).await;
    let mut tx = program.parts.db.begin().await.expect("the store answers");
    let damaged = b"no sealed bytes".to_vec();
    tx.execute("UPDATE orders SET state = $1 WHERE order_id = 'o-1'", &[damaged.into()])
        .await
        .expect("it is written");
    tx.commit().await.expect("it is committed");
    // The same partition, before and behind it.
    for _ in 0..3 {
        program.publish(&paid("shop", "o-1")).await;
        program.publish(&paid("market", "o-1")).await;
    }
    eventually("others are kept", SOON, || async { kept(&program, "market", "o-1").await == 3 }).await;
    let letters_topic = program.topic("orders.events.history.dlq");
    eventually("its events are dead letters", SOON, || async {
        program.kafka.all(&letters_topic).await.len() == 3
    })
    .await;
    let letters = program.kafka.all(&letters_topic).await;
    assert!(letters.iter().all(|letter| letter.headers.text("of-error-class") == Some("data")));
    let why = letters[0].headers.text("of-error").unwrap_or_default();
    assert!(why.contains("what is stored of order o-1 can't be opened"), "{why}");
    program.end().await;
}
