//! An endpoint that is down for a long stretch of the stream, on real services: it costs neither memory nor copies,
//! delays nobody, and is caught up in order by itself. `ORDERFLOW_TEST_EVENTS` says how long the stretch is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::admin::webhooks::{Registered, Registration};
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::{BreakerOptions, WebhookOptions};
use orderflow::store::attempts::{self, Wanted};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};

const NOW: i64 = 1_760_000_000_000;
const ORDERS: usize = 40;

fn events() -> usize {
    std::env::var("ORDERFLOW_TEST_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

fn options() -> StageOptions {
    let breaker = BreakerOptions {
        first_pause: Duration::from_millis(200),
        longest_pause: Duration::from_secs(2),
        ..BreakerOptions::default()
    };
    let webhook = WebhookOptions {
        allow_http: true,
        allow_private_networks: true,
        breaker,
        ..WebhookOptions::default()
    };
    StageOptions { webhook, ..StageOptions::default() }
}

/// With the topology's own schedule.
async fn register(program: &TestProgram, receiver: &Receiver) -> Registered {
    let registration = Registration { url: receiver.url(), timeout: Some(2_000), ..Registration::default() };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed")
}

fn shipped(order: usize) -> Event {
    Factory::new("shop", "it").order_shipped(format!("o-{order}"), NOW, "DHL", "JD01").into()
}

fn accepted(requests: &[Request]) -> BTreeMap<String, Vec<i64>> {
    let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == 200) {
        let sequence = request.header("x-webhook-sequence").parse().expect("a number");
        orders.entry(request.order_id()).or_default().push(sequence);
    }
    orders
}

/// Copies in the retry topic, markers aside.
async fn copies(program: &TestProgram) -> usize {
    let retry = program.kafka.all(&program.topic("orders.events.webhook.retry")).await;
    retry.iter().filter(|record| record.headers.text("of-marker").is_none()).count()
}

/// Invariants 1 (completion), 2 (order), 3 (isolation) and 6 (bounds).
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_down_is_caught_up_in_order_without_copies_or_lost_attempts() {
    let (events, patience) = (events(), Duration::from_secs(60 + events() as u64 / 50));
    let mut program = TestProgram::new("down", options()).await;
    let is_down = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_down);
    let moody =
        Receiver::start(move |_| Answer::status(if state.load(Ordering::SeqCst) { 503 } else { 200 })).await;
    let healthy = Receiver::start(|_| Answer::status(200)).await;
    let registered = register(&program, &moody).await;
    register(&program, &healthy).await;
    program.start(&["webhook", "attempts"]);
    let begun = tokio::time::Instant::now();

    let all: Vec<Event> = (0..events).map(|number| shipped(number % ORDERS)).collect();
    let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (number, delivered) in program.publish_all(&all).await.into_iter().enumerate() {
        sent.entry(format!("o-{}", number % ORDERS)).or_default().push(delivered.offset);
    }
    eventually("the healthy one is told of all", patience, async || healthy.count() == events).await;
    assert_eq!(accepted(&healthy.requests()), sent);
    eventually("next to nothing of the other is in memory", patience, async || {
        program.in_memory("webhook") <= 20
    })
    .await;
    assert_eq!(copies(&program).await, 0);
    let in_vain = moody.count();
    let most = 60 + usize::try_from(begun.elapsed().as_secs()).expect("small");
    assert!(in_vain < most, "{in_vain} requests while it was down: it is left alone but for probes");

    is_down.store(false, Ordering::SeqCst);
    eventually("it is caught up", patience, async || moody.count() >= in_vain + events).await;
    eventually("nothing is left", patience, async || program.is_caught_up("webhook")).await;
    assert_eq!(accepted(&moody.requests()), sent, "once each, in order");
    assert_eq!(copies(&program).await, 0);

    // What failed before the breaker opened counts: five attempts. Nothing of what came later does.
    let requests = moody.requests();
    let attempt = |request: &Request| request.header("x-webhook-attempt").parse::<usize>().expect("a number");
    let counted: usize = requests.iter().filter(|one| one.status == 200).map(|one| attempt(one) - 1).sum();
    assert_eq!(counted, 5, "attempts before the one that was accepted");
    let bodies: BTreeSet<(String, Vec<u8>)> =
        requests.iter().map(|one| (one.header("webhook-id").to_owned(), one.body.clone())).collect();
    assert_eq!(bodies.len(), events, "one body for each id");

    let all = Wanted { limit: 100_000_000, ..Wanted::default() };
    eventually("every request is in the log of attempts, once", patience, async || {
        let logged = attempts::of_endpoint(&program.parts.db, "shop", &registered.endpoint.id, &all);
        logged.await.expect("the store answers").len() >= requests.len()
    })
    .await;
    let logged = attempts::of_endpoint(&program.parts.db, "shop", &registered.endpoint.id, &all);
    assert_eq!(logged.await.expect("the store answers").len(), requests.len());
    assert!(
        program.parts.env.metrics.text().contains("orderflow_webhook_breakers_open{stage=\"webhook\"} 0")
    );
    program.end().await;
}
