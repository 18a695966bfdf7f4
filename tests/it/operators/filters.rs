//! What a stage takes by its types, tenants and conditions, and a further group of a stage, which nobody delays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::admin::webhooks::Registration;
use orderflow::event::{Actor, ActorRole, Event, Factory};
use orderflow::runtime::{Headers, Intake, SkipReason};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

#[tokio::test]
async fn events_of_other_tenants_are_skipped_by_what_the_record_says() {
    let program = TestProgram::new("ops-tenants", StageOptions::default()).await;
    for tenant in ["shop", "market"] {
        let event: Event = Factory::new(tenant, "it").order_completed("o-1", 1_760_000_000_000).into();
        program.publish(&event).await;
    }
    let reader = program.parts.reader("history").for_tenants(BTreeSet::from(["shop".to_owned()]));
    let mut taken = Vec::new();
    for mut record in program.kafka.all(&program.topic("orders.events")).await {
        record.headers = Headers::from(vec![("ce_tenant".to_owned(), b"shop".to_vec())]);
        match reader.read(&record, |_| true).await {
            Intake::Ready(reading) => taken.push(reading.event.meta().tenant_id.clone()),
            Intake::Skipped(reason) => assert_eq!(reason, SkipReason::Tenant),
            Intake::Dead(why) | Intake::Retry(why) | Intake::Unavailable(why) => panic!("{why}"),
        }
    }
    assert_eq!(taken, ["shop"]);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stage_does_not_take_is_skipped_and_counted_by_the_reason() {
    let overlay = r#"
stages:
  history:
    takes: ["order.*"]
    tenants: [shop]
    where:
      - { field: actor.role, is_not: system }
      - { field: data.carrier, one_of: [DHL, UPS] }
"#;
    let mut program = TestProgram::laid_over("ops-where", overlay, StageOptions::default()).await;
    program.start(&["history"]);
    let shop = Factory::new("shop", "it");
    let system = Actor { id: "robot".to_owned(), role: ActorRole::System };
    let taken: Event = shop.order_shipped("o-1", NOW, "DHL", "JD01").into();
    for event in [
        taken.clone(),
        shop.order_shipped("o-2", NOW, "snail", "JD02").into(),
        shop.clone().acting(system).order_shipped("o-3", NOW, "DHL", "JD03").into(),
        shop.order_completed("o-4", NOW).into(),
        shop.dispute_initiated("o-5", NOW, "d-1", "u-1", "damaged").into(),
        Factory::new("market", "it").order_shipped("o-6", NOW, "DHL", "JD06").into(),
    ] {
        program.publish(&event).await;
    }
    let skipped =
        |reason| program.parts.env.metrics.tasks_skipped.with_label_values(&["history", reason]).get();
    eventually("each is skipped for its reason", SOON, async || {
        (skipped("condition"), skipped("filtered"), skipped("tenant")) == (3, 1, 1)
    })
    .await;
    let kept = program.parts.db.rows("SELECT event_id FROM order_events", &[]).await.expect("it is read");
    let kept: Vec<String> = kept.iter().map(|row| row.text("event_id").expect("a text").to_owned()).collect();
    assert_eq!(kept, [taken.meta().event_id.clone()]);
    program.end().await;
}

/// Stock goes to partners in a group of its own: endpoints that hang at orders don't delay it.
#[tokio::test(flavor = "multi_thread")]
async fn a_further_group_of_a_stage_is_not_delayed_by_the_first() {
    let overlay = r#"
stages:
  webhook: { takes: ["order.*"] }
  webhook-stock:
    about: stock, beside everything else
    runs: webhook
    background: true
    kind: effect
    source: orders.events
    takes: ["inventory.*"]
    emits: [webhooks.attempts, webhooks.exhausted]
    objective: { within: 1m, lag: 10m }
"#;
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let options = StageOptions { webhook, ..StageOptions::default() };
    let mut program = TestProgram::laid_over("ops-further", overlay, options).await;
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let receiver = Receiver::start(move |request| match request.header("x-webhook-event") {
        "inventory.updated" => Answer::status(200),
        _ if well.load(Ordering::SeqCst) => Answer::status(200),
        _ => Answer::never(),
    })
    .await;
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(1),
        retry_delay: Some(100),
        timeout: Some(30_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
    program.start(&["webhook", "webhook-stock"]);
    let shop = Factory::new("shop", "it");
    for order in 0..40 {
        program.publish(&shop.order_completed(format!("o-{order}"), NOW).into()).await;
    }
    let inventory = shop.inventory_updated("o-0", NOW, "p-1", -1, 9, 1, false);
    program.publish(&inventory.into()).await;
    let stock = async || {
        receiver
            .requests()
            .iter()
            .filter(|request| request.header("x-webhook-event") == "inventory.updated")
            .count()
    };
    let hung = |stage| program.parts.env.metrics.tasks_in_flight.with_label_values(&[stage]).get();
    eventually("the first group hangs", SOON, async || hung("webhook") >= 16).await;
    eventually("stock is told meanwhile", Duration::from_secs(30), async || stock().await == 1).await;
    is_well.store(true, Ordering::SeqCst);
    eventually("the first group goes on when it can", SOON, async || program.is_caught_up("webhook")).await;
    program.end().await;
}
