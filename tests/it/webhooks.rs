//! Webhooks from the topic to receivers on real services: signed as others verify it, in order per order and
//! endpoint through failures and a restart, and nobody waits for somebody else's endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use orderflow::admin::webhooks::{Registered, Registration};
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::attempts::{self, Attempt, Wanted};
use orderflow::store::webhooks::{self as endpoints, EndpointState};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request, verified_in_python};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

/// The stage as it is by default, but for loopback and plain http.
fn options() -> StageOptions {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    StageOptions { webhook, ..StageOptions::default() }
}

async fn register(program: &TestProgram, tenant: &str, receiver: &Receiver, events: &[&str]) -> Registered {
    let registration = Registration {
        url: receiver.url(),
        events: events.iter().map(|name| (*name).to_owned()).collect(),
        retry_attempts: Some(6),
        retry_delay: Some(100),
        timeout: Some(2_000),
        ..Registration::default()
    };
    program.registrar().register(tenant, None, &registration).await.expect("it is allowed")
}

fn shipped(tenant: &str, order: &str) -> Event {
    Factory::new(tenant, "it").order_shipped(order, NOW, "DHL", "JD01").into()
}

async fn log(program: &TestProgram, tenant: &str, endpoint: &str) -> Vec<Attempt> {
    attempts::of_endpoint(&program.parts.db, tenant, endpoint, &Wanted { limit: 1_000, ..Wanted::default() })
        .await
        .expect("the store answers")
}

/// The sequences that were accepted of each order, in the order of their first acceptance: a restart may repeat
/// what its record had not finished.
fn first_accepted(requests: &[Request]) -> BTreeMap<String, Vec<i64>> {
    let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == 200) {
        let sequence = request.header("x-webhook-sequence").parse().expect("a number");
        let told = orders.entry(request.order_id()).or_default();
        if !told.contains(&sequence) {
            told.push(sequence);
        }
    }
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_what_the_standard_library_accepts_and_says_what_the_contract_promises() {
    let mut program = TestProgram::new("signed", options()).await;
    let (receiver, other) =
        (Receiver::start(|_| Answer::status(200)).await, Receiver::start(|_| Answer::status(200)).await);
    let ours = register(&program, "shop", &receiver, &["ORDER_SHIPPED"]).await;
    register(&program, "market", &other, &[]).await;
    program.start(&["webhook", "attempts"]);

    let factory = Factory::new("shop", "it");
    let event: Event = factory.order_shipped("o-1", NOW, "DHL", "JD01").into();
    program.publish(&Factory::new("shop", "it").order_completed("o-1", NOW).into()).await;
    let sent = program.publish(&event).await;
    program.publish(&shipped("market", "o-1")).await;
    eventually("both are told", SOON, async || receiver.count() == 1 && other.count() == 1).await;

    let request = receiver.requests().remove(0);
    let secret = ours.secret.expose();
    standardwebhooks::Webhook::new(secret)
        .unwrap()
        .verify(&request.body, &request.headers)
        .expect("it verifies");
    let mut changed = request.body.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(standardwebhooks::Webhook::new(secret).unwrap().verify(&changed, &request.headers).is_err());
    verified_in_python(secret, &request);

    let id = format!("evt_{}", event.meta().event_id);
    for (name, value) in [
        ("webhook-id", id.as_str()),
        ("x-webhook-event", "order.shipped"),
        ("x-webhook-id", &ours.endpoint.id),
        ("x-webhook-sequence", &sent.offset.to_string()),
        ("x-webhook-attempt", "1"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert_eq!(
        (request.json()["id"].as_str(), request.json()["event"].as_str()),
        (Some(&*id), Some("order.shipped"))
    );
    assert!(request.header("user-agent").starts_with("orderflow/"));

    eventually("the attempt is logged", SOON, async || {
        log(&program, "shop", &ours.endpoint.id).await.len() == 1
    })
    .await;
    let attempt = log(&program, "shop", &ours.endpoint.id).await.remove(0);
    assert_eq!((attempt.outcome.as_str(), attempt.status, attempt.attempt), ("delivered", Some(200), 1));
    assert_eq!(attempt.webhook_id, id);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_per_order_and_endpoint_while_one_fails_and_the_program_restarts() {
    const ORDERS: usize = 8;
    const EVENTS: usize = 6;
    let mut program = TestProgram::new("order", options()).await;
    let healthy = Receiver::start(|_| Answer::status(200)).await;
    // Refuses the first three attempts at every delivery of order o-3, and each order's first attempt at all.
    let moody = Receiver::start(|request| {
        let attempt: u32 = request.header("x-webhook-attempt").parse().expect("a number");
        let hard = request.order_id() == "o-3" && attempt <= 3;
        Answer::status(if hard || attempt == 1 { 500 } else { 200 })
    })
    .await;
    let (fine, failing) =
        (register(&program, "shop", &healthy, &[]).await, register(&program, "shop", &moody, &[]).await);
    program.start(&["webhook", "attempts"]);
    let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for round in 0..EVENTS {
        for number in 0..ORDERS {
            let order = format!("o-{number}");
            let delivered = program.publish(&shipped("shop", &order)).await;
            sent.entry(order).or_default().push(delivered.offset);
        }
        if round == EVENTS / 2 {
            eventually("some arrive", SOON, async || healthy.count() > ORDERS).await;
            program.restart().await;
        }
    }
    // The receivers' own check: the first time each delivery is accepted is in the order of the events.
    eventually("everything arrives, in order", SOON, async || {
        first_accepted(&healthy.requests()) == sent && first_accepted(&moody.requests()) == sent
    })
    .await;
    for receiver in [&healthy, &moody] {
        let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for request in receiver.requests() {
            let id = request.header("webhook-id").to_owned();
            let body = bodies.entry(id).or_insert_with(|| request.body.clone());
            assert_eq!(*body, request.body, "a repeat carries the same bytes");
        }
    }
    let told = ORDERS * EVENTS;
    eventually("every attempt is logged", SOON, async || {
        let outcomes =
            |attempts: Vec<Attempt>| attempts.iter().filter(|one| one.outcome == "delivered").count();
        outcomes(log(&program, "shop", &fine.endpoint.id).await) >= told
            && outcomes(log(&program, "shop", &failing.endpoint.id).await) >= told
    })
    .await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_delays_no_other() {
    let mut program = TestProgram::new("hangs", options()).await;
    let hanging = Receiver::start(|_| Answer::never()).await;
    let healthy = Receiver::start(|_| Answer::status(200)).await;
    register(&program, "shop", &hanging, &[]).await;
    register(&program, "shop", &healthy, &[]).await;
    program.start(&["webhook"]);
    for number in 0..200 {
        program.publish(&shipped("shop", &format!("o-{number}"))).await;
    }
    eventually("the healthy one is told of all", Duration::from_secs(30), async || healthy.count() == 200)
        .await;
    assert!(hanging.count() <= 2 * 16 * 8, "one endpoint's share of the running tasks is bounded");
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_disabled_and_one_that_refuses_for_good_is_a_dead_letter() {
    let mut program = TestProgram::new("gone", options()).await;
    let gone = Receiver::start(|_| Answer::status(410)).await;
    let refusing = Receiver::start(|_| Answer::status(404)).await;
    let (left, refused) =
        (register(&program, "shop", &gone, &[]).await, register(&program, "shop", &refusing, &[]).await);
    program.start(&["webhook", "attempts"]);
    program.publish(&shipped("shop", "o-1")).await;
    let state = async |id: &str| {
        endpoints::find(&program.parts.db, "shop", id, None)
            .await
            .expect("the store answers")
            .expect("it is there")
            .state
    };
    eventually("it is disabled", SOON, async || {
        matches!(state(&left.endpoint.id).await, EndpointState::Disabled(_))
    })
    .await;
    let letters = program.topic("orders.events.webhook.dlq");
    eventually("the refused one is a dead letter", SOON, async || {
        program.kafka.all(&letters).await.len() == 1
    })
    .await;
    let letter = program.kafka.all(&letters).await.remove(0);
    assert_eq!(letter.headers.text("of-error-class"), Some("rejected"));
    assert_eq!((gone.count(), refusing.count()), (1, 6));
    let exhausted = program.topic("webhooks.exhausted");
    assert_eq!(program.kafka.all(&exhausted).await.len(), 1);

    program.publish(&shipped("shop", "o-1")).await;
    eventually("the lane goes on behind the dead letter", SOON, async || refusing.count() > 6).await;
    assert_eq!(gone.count(), 1, "a disabled endpoint is left alone");
    let ids: Vec<String> =
        refusing.requests().iter().take(6).map(|request| request.header("webhook-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "every attempt carries the same id");
    let bodies: Vec<Vec<u8>> =
        refusing.requests().iter().take(6).map(|request| request.body.clone()).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "and the same bytes");
    eventually("all six are logged", SOON, async || {
        log(&program, "shop", &refused.endpoint.id).await.len() >= 6
    })
    .await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_deleted_endpoint_is_skipped() {
    let mut program = TestProgram::new("deleted", options()).await;
    let down = Receiver::start(|_| Answer::status(503).with("retry-after", "12")).await;
    let registered = register(&program, "shop", &down, &[]).await;
    program.start(&["webhook", "attempts"]);
    program.publish(&shipped("shop", "o-1")).await;
    let retry = program.topic("orders.events.webhook.retry");
    eventually("the delivery is parked", SOON, async || {
        program.kafka.all(&retry).await.iter().any(|record| record.payload.is_some())
    })
    .await;
    program.registrar().remove("shop", None, &registered.endpoint.id).await.expect("the store answers");
    eventually("it is skipped when it is due", SOON, async || {
        program.parts.env.metrics.tasks.with_label_values(&["webhook", "skipped"]).get() > 0
    })
    .await;
    assert_eq!(down.count(), 1);
    program.end().await;
}
