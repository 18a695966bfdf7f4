//! Events that are written twice take effect once, as long as the memory of a partition reaches.

use std::sync::Arc;
use std::time::Duration;

use orderflow::admin::webhooks::Registration;
use orderflow::event::{self, Event, Factory};
use orderflow::runtime::Outcome;
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::outbox::{self, Message};
use tokio::sync::watch;
use uuid::Uuid;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::group::committed;
use crate::harness::kafka::TestKafka;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);

fn always_done() -> Arc<Plan> {
    Arc::new(|_: &str, _, _| Outcome::Done)
}

/// Invariant 4 (identity).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_skipped_and_the_same_event_with_other_bytes_is_dead_lettered_also_after_a_restart() {
    let kafka = TestKafka::new("duplicates");
    let spec = kafka.stage("courier", 1, true).await;
    let outside = Arc::new(Outside::default());
    let send = async |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        kafka.send(&spec.source, 0, "k", &values).await;
    };
    send(&["all.a 0", "all.a 1"]).await;
    let first = Member::start(&kafka, &spec, &outside, &always_done());
    first.settled().await;
    send(&["all.a 0", "all.a 2"]).await;
    eventually("the next one", SOON, async || outside.of("all.a").len() == 3).await;
    let skipped = |member: &Member| member.handle.progress.borrow().balance.skipped;
    eventually("the repeat is counted", SOON, async || skipped(&first) == 1).await;
    first.settled().await;
    assert_eq!(outside.of("all.a"), [0, 1, 2]);
    first.leave().await;

    let second = Member::start(&kafka, &spec, &outside, &always_done());
    second.settled().await;
    send(&["all.a 1", "all.a 02", "all.a 3"]).await;
    eventually("the next one", SOON, async || outside.of("all.a").len() == 4).await;
    eventually("the repeat is counted", SOON, async || skipped(&second) == 1).await;
    eventually("the other is dead", SOON, async || second.handle.progress.borrow().balance.dead == 1).await;
    assert_eq!(outside.of("all.a"), [0, 1, 2, 3]);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].headers.text("of-error-class"), Some("conflict"));
    assert_eq!(dead[0].payload.as_deref(), Some(b"all.a 02".as_slice()));
    second.leave().await;
}

/// What the completed-runs map lets a restart pass over is remembered as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_what_was_complete_above_the_position_is_skipped_after_a_crash() {
    let kafka = TestKafka::new("duplicates-map");
    let spec = kafka.stage("courier", 1, true).await;
    let outside = Arc::new(Outside::default());
    kafka.send(&spec.source, 0, "k", &["slow.a 0".to_owned(), "all.b 0".to_owned()]).await;
    let (_shut, hangs) = watch::channel(false);
    let first = Member::start_with(&kafka, &spec, &outside, &always_done(), hangs);
    eventually("the second is done and committed above the position", SOON, async || {
        committed(&kafka, &spec, &spec.source, 0).await.above == [1]
    })
    .await;
    first.die().await;
    kafka.send(&spec.source, 0, "k", &["all.b 0".to_owned(), "all.b 1".to_owned()]).await;
    let second = Member::start(&kafka, &spec, &outside, &always_done());
    eventually("the last one", SOON, async || outside.of("all.b").contains(&1)).await;
    second.settled().await;
    assert_eq!(outside.of("all.b"), [0, 1]);
    assert_eq!(outside.of("slow.a"), [0], "read again, and no repeat");
    second.leave().await;
}

/// A relay that is killed after the acknowledgement, before it has noted it, publishes the message again.
#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_told_once_when_the_relay_was_killed_after_the_acknowledgement() {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let mut program =
        TestProgram::new("relay-killed", StageOptions { webhook, ..StageOptions::default() }).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    let registration = Registration { url: receiver.url(), ..Registration::default() };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
    let topic = program.topic("orders.events");
    let factory = Factory::new("shop", "it");
    let told: Event = factory.order_shipped("o-1", 1_760_000_000_000, "DHL", "JD01").into();
    let next: Event = factory.order_completed("o-1", 1_760_000_001_000).into();
    let mut messages = Vec::new();
    for event in [&told, &next] {
        messages.push(Message {
            id: Uuid::now_v7(),
            tenant: "shop".to_owned(),
            topic: topic.clone(),
            partition: None,
            key: Some(b"o-1".to_vec()),
            kind: event.event_type().as_str().to_owned(),
            payload: Some(program.parts.codec.encode(&topic, event).await.expect("it fits its schema")),
            headers: event::headers(event, None),
        });
    }
    program.start(&["webhook"]);
    // Published, acknowledged, and in the outbox still: so the one after is published behind a repeat.
    for batch in [vec![messages[0].clone()], messages] {
        let mut tx = program.parts.db.begin().await.expect("the store answers");
        outbox::append_all(&mut tx, &batch, 1).await.expect("written");
        tx.commit().await.expect("committed");
        let waiting = async || outbox::depth(&program.parts.db).await.expect("the store answers").0;
        eventually("the relay has published", SOON, async || waiting().await == 0).await;
    }
    assert_eq!(program.kafka.all(&topic).await.len(), 3, "the repeat is in the topic");
    let types = || -> Vec<String> {
        let requests = receiver.requests();
        requests.iter().map(|request| request.json()["event"].as_str().expect("a type").to_owned()).collect()
    };
    eventually("the later event is told", SOON, async || types().contains(&"order.completed".to_owned()))
        .await;
    assert_eq!(types(), ["order.shipped", "order.completed"]);
    program.end().await;
}
