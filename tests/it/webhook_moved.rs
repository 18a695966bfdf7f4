//! An endpoint that gets another URL, on real services: what the old one did is not held against the new one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use orderflow::admin::webhooks::{Change, Registered, Registration};
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::{BreakerOptions, WebhookOptions};
use orderflow::store::webhooks::{self as endpoints, EndpointState};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

async fn program(subject: &str) -> TestProgram {
    let hour = Duration::from_secs(3_600);
    let breaker = BreakerOptions { first_pause: hour, longest_pause: hour, ..BreakerOptions::default() };
    let webhook = WebhookOptions {
        allow_http: true,
        allow_private_networks: true,
        breaker,
        ..WebhookOptions::default()
    };
    TestProgram::new(subject, StageOptions { webhook, ..StageOptions::default() }).await
}

async fn register(program: &TestProgram, receiver: &Receiver) -> Registered {
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(5),
        retry_delay: Some(100),
        timeout: Some(60_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed")
}

async fn point_to(program: &TestProgram, endpoint: &str, receiver: &Receiver) {
    let change = Change { url: Some(receiver.url()), ..Change::default() };
    program.registrar().change("shop", None, endpoint, &change).await.expect("it is allowed");
}

fn shipped(order: usize) -> Event {
    Factory::new("shop", "it").order_shipped(format!("o-{order}"), NOW, "DHL", "JD01").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_ends_with_the_url_that_opened_it() {
    let mut program = program("moved-breaker").await;
    let down = Receiver::start(|_| Answer::status(503)).await;
    let up = Receiver::start(|_| Answer::status(200)).await;
    let endpoint = register(&program, &down).await.endpoint.id;
    program.start(&["webhook"]);
    let events: Vec<Event> = (0..10).map(shipped).collect();
    program.publish_all(&events).await;
    let open = "orderflow_webhook_breakers_open{stage=\"webhook\"} 1";
    eventually("its breaker is open for an hour", SOON, async || {
        program.parts.env.metrics.text().contains(open)
    })
    .await;
    point_to(&program, &endpoint, &up).await;
    eventually("the new URL gets all", SOON, async || up.count() == 10).await;
    eventually("nothing is left", SOON, async || program.is_caught_up("webhook")).await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_old_url_neither_disables_the_new_one_nor_ends_the_delivery() {
    let mut program = program("moved-gone").await;
    let (reached, (answer, answers)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
    let (noted, answers) = (Arc::clone(&reached), Mutex::new(answers));
    let gone = Receiver::start(move |_| {
        noted.fetch_add(1, Ordering::SeqCst);
        tokio::task::block_in_place(|| answers.lock().expect("no panic").recv_timeout(SOON).ok());
        Answer::status(410)
    })
    .await;
    let there = Receiver::start(|_| Answer::status(200)).await;
    let endpoint = register(&program, &gone).await.endpoint.id;
    program.start(&["webhook", "attempts"]);
    program.publish(&shipped(1)).await;
    eventually("the old URL is asked", SOON, async || reached.load(Ordering::SeqCst) == 1).await;
    point_to(&program, &endpoint, &there).await;
    answer.send(()).expect("it waits");
    eventually("the new URL gets the event", SOON, async || there.count() == 1).await;
    eventually("nothing is left", SOON, async || program.is_caught_up("webhook")).await;
    let log = async || {
        let all = orderflow::store::attempts::Wanted { limit: 10, ..Default::default() };
        let log = orderflow::store::attempts::of_endpoint(&program.parts.db, "shop", &endpoint, &all).await;
        log.expect("the store answers").into_iter().map(|one| one.outcome).collect::<Vec<_>>()
    };
    eventually("both attempts are known", SOON, async || log().await == ["delivered", "gone"]).await;
    let found = endpoints::find(&program.parts.db, "shop", &endpoint, None).await.expect("the store answers");
    assert_eq!(found.expect("it is there").state, EndpointState::Enabled);
    let told = program.kafka.all(&program.topic("webhooks.endpoints")).await;
    assert_eq!(told.len(), 0, "its owner is told of nothing");
    program.end().await;
}
