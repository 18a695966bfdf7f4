//! More endpoints that say nothing than the stage has slots, and nobody knows yet that they are away: what they cost one that
//! is there, on real services.

use std::time::Duration;

use orderflow::admin::webhooks::Registration;
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(120);
const NOW: i64 = 1_760_000_000_000;
const HANGING: usize = 40;
const SLOTS: usize = 20;
const TIMEOUT: Duration = Duration::from_millis(1_500);

async fn register(program: &TestProgram, url: String) {
    let timeout = Some(TIMEOUT.as_millis() as i64);
    let registration = Registration { url, timeout, ..Registration::default() };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
}

fn shipped(order: usize) -> Event {
    Factory::new("shop", "it").order_shipped(format!("o-{order}"), NOW, "DHL", "JD01").into()
}

/// Invariant 3 (isolation).
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_hang_leave_half_of_the_slots_before_they_are_known_to_be_away() {
    const ORDERS: usize = 60;
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let overlay = format!("stages: {{ webhook: {{ concurrency: {SLOTS} }} }}");
    let options = StageOptions { webhook, ..StageOptions::default() };
    let mut program = TestProgram::laid_over("hang", &overlay, options).await;
    let healthy = Receiver::start(|_| Answer::status(200)).await;
    register(&program, healthy.url()).await;
    let mut hanging = Vec::new();
    for _ in 0..HANGING {
        let receiver = Receiver::start(|_| Answer::never()).await;
        register(&program, receiver.url()).await;
        hanging.push(receiver);
    }
    program.start(&["webhook"]);
    let events: Vec<Event> = (0..ORDERS).map(shipped).collect();
    program.publish_all(&events).await;
    eventually("the healthy one is told of everything", SOON, async || healthy.count() == ORDERS).await;
    let attempts: usize = hanging.iter().map(Receiver::count).sum();
    assert!(attempts >= SLOTS, "they took every slot at first");
    // Five failures and a probe of each would be six times as many as there are endpoints.
    assert!(attempts < HANGING * 3, "{attempts} attempts at those who hang went before");
    program.end().await;
}
