//! Receivers that behave as badly as they can, all at once beside healthy ones, on real services: the healthy ones get
//! everything, in order, and as soon as if they were alone.

use std::collections::BTreeMap;
use std::time::Duration;

use orderflow::admin::webhooks::{Registered, Registration};
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::attempts::{self, Wanted};
use orderflow::store::webhooks::{self as endpoints, EndpointState};
use tokio::time::Instant;

use crate::harness::eventually;
use crate::harness::hostile::{Behaviour, Hostile};
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};

const SOON: Duration = Duration::from_secs(90);
const NOW: i64 = 1_760_000_000_000;
const EVENTS: usize = 150;
const ORDERS: usize = 15;

const BEHAVIOURS: [Behaviour; 18] = [
    Behaviour::Refuses,
    Behaviour::Silent,
    Behaviour::Drips,
    Behaviour::Endless,
    Behaviour::Huge,
    Behaviour::HugeHead,
    Behaviour::Short,
    Behaviour::BadCertificate,
    Behaviour::ClosesAfterHead,
    Behaviour::Late,
    Behaviour::Slow,
    Behaviour::Answers(
        "HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    ),
    Behaviour::Answers("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"),
    Behaviour::Answers("HTTP/1.1 429 Busy\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n"),
    Behaviour::Answers(
        "HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 2094 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
    ),
    Behaviour::Answers("HTTP/1.1 503 Busy\r\nRetry-After: -1\r\nContent-Length: 0\r\n\r\n"),
    Behaviour::Answers("HTTP/1.1 429 Busy\r\nRetry-After: soon, perhaps\r\nContent-Length: 0\r\n\r\n"),
    Behaviour::Answers("SSH-2.0-OpenSSH_9.2\r\n"),
];

async fn register(program: &TestProgram, tenant: &str, url: String) -> Registered {
    let registration = Registration { url, timeout: Some(1_500), ..Registration::default() };
    program.registrar().register(tenant, None, &registration).await.expect("it is allowed")
}

fn shipped(tenant: &str) -> Vec<Event> {
    let event = |number: usize| {
        Factory::new(tenant, "it").order_shipped(format!("o-{}", number % ORDERS), NOW, "DHL", "JD01").into()
    };
    (0..EVENTS).map(event).collect()
}

fn accepted(requests: &[Request]) -> BTreeMap<String, Vec<i64>> {
    let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == 200) {
        let sequence = request.header("x-webhook-sequence").parse().expect("a number");
        orders.entry(request.order_id()).or_default().push(sequence);
    }
    orders
}

/// Publishes a stream to `tenant`, and waits until its healthy endpoints have all of it, in order. Gives how long that took.
async fn streamed(program: &TestProgram, tenant: &str, healthy: &[Receiver]) -> Duration {
    let before = Instant::now();
    let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (number, delivered) in program.publish_all(&shipped(tenant)).await.into_iter().enumerate() {
        sent.entry(format!("o-{}", number % ORDERS)).or_default().push(delivered.offset);
    }
    eventually("the healthy ones get everything", SOON, async || {
        healthy.iter().all(|receiver| receiver.count() >= EVENTS)
    })
    .await;
    let took = before.elapsed();
    for receiver in healthy {
        assert_eq!(accepted(&receiver.requests()), sent, "once each, in order");
    }
    took
}

/// Invariants 2 (order) and 3 (isolation).
#[tokio::test(flavor = "multi_thread")]
async fn whatever_receivers_do_the_healthy_ones_get_everything_in_order_and_soon() {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let mut program = TestProgram::new("hostile", StageOptions { webhook, ..StageOptions::default() }).await;
    let (mut calm, mut rough, mut hostile) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant, healthy, number) in [("calm", &mut calm, 10), ("rough", &mut rough, 3)] {
        for _ in 0..number {
            let receiver = Receiver::start(|_| Answer::status(200)).await;
            register(&program, tenant, receiver.url()).await;
            healthy.push(receiver);
        }
    }
    for behaviour in BEHAVIOURS {
        let server = Hostile::start(behaviour).await;
        let registered = register(&program, "rough", server.url()).await;
        hostile.push((behaviour, server, registered.endpoint.id));
    }
    // Fails for one order, and works for the others.
    let choosy =
        Receiver::start(|request| Answer::status(if request.order_id() == "o-3" { 500 } else { 200 })).await;
    register(&program, "rough", choosy.url()).await;
    program.start(&["webhook", "attempts"]);

    // The first stream finds partitions and makes connections; the second is measured.
    streamed(&program, "calm", &calm).await;
    calm.iter().for_each(Receiver::forget);
    let calmly = streamed(&program, "calm", &calm).await;
    let beside = streamed(&program, "rough", &rough).await;
    // As long as a stream to twice as many healthy ones takes, and the first attempts in vain: the bound is generous.
    assert!(
        beside < calmly * 4 + Duration::from_secs(8),
        "{beside:?} beside bad ones, {calmly:?} among good ones"
    );

    eventually("all orders but one arrive at the choosy one", SOON, async || {
        let orders = accepted(&choosy.requests());
        orders.len() == ORDERS - 1 && orders.values().all(|told| told.len() == EVENTS / ORDERS)
    })
    .await;
    for (behaviour, server, id) in &hostile {
        let outcomes = async || {
            let rows = attempts::of_endpoint(
                &program.parts.db,
                "rough",
                id,
                &Wanted { limit: 10_000, ..Wanted::default() },
            )
            .await;
            rows.expect("the store answers").into_iter().map(|row| row.outcome).collect::<Vec<_>>()
        };
        eventually(&format!("{behaviour:?} is tried and told of"), SOON, async || {
            !outcomes().await.is_empty()
        })
        .await;
        let delivered = outcomes().await.iter().any(|outcome| outcome == "delivered");
        let accepts = matches!(behaviour, Behaviour::Endless | Behaviour::Huge | Behaviour::Slow);
        assert!(!delivered || accepts, "{behaviour:?} accepted nothing");
        let found = endpoints::find(&program.parts.db, "rough", id, None).await.expect("the store answers");
        let gone = matches!(behaviour, Behaviour::Answers(answer) if answer.contains("410"));
        let state = found.expect("it is there").state;
        assert_eq!(matches!(state, EndpointState::Disabled(_)), gone, "{behaviour:?}");
        if matches!(behaviour, Behaviour::Answers(answer) if answer.contains("99999") || answer.contains("2094"))
        {
            assert!(server.requests() <= 16 + 5, "{behaviour:?} is left alone as long as it asks");
        }
    }
    program.end().await;
}
