//! Resending from the API's side to the receiver's: one delivery or a range, marked, at once, with the same bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use orderflow::admin::webhooks::{ResendWanted, Resent, WebhookError};
use orderflow::event::{Event, Factory};
use orderflow::store::attempts::{self, Attempt, Wanted};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::webhook_backfill::{options, register};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;
const SHOP: (&str, Option<&str>) = ("shop", Some("p-1"));

fn shipped(order: &str) -> Event {
    Factory::new("shop", "it").order_shipped(order, NOW, "DHL", "JD01").into()
}

async fn log(program: &TestProgram, endpoint: &str) -> Vec<Attempt> {
    attempts::of_endpoint(&program.parts.db, "shop", endpoint, &Wanted { limit: 1_000, ..Wanted::default() })
        .await
        .expect("the store answers")
}

async fn resend(
    program: &TestProgram,
    endpoint: &str,
    wanted: &ResendWanted,
) -> Result<Resent, WebhookError> {
    program.registrar().resend(SHOP, endpoint, wanted).await
}

fn resent(receiver: &Receiver) -> Vec<Request> {
    let mut requests = receiver.requests();
    requests.retain(|request| request.header("x-webhook-resend") == "true");
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_sent_again_marked_with_the_same_bytes_and_before_what_waits() {
    let mut program = TestProgram::new("resend-one", options()).await;
    // The order's second event is refused for good while: its lane waits.
    let receiver = Receiver::start(|request| {
        let stuck = request.json()["event"] == "order.completed";
        match stuck {
            true => Answer::status(503).with("retry-after", "3600"),
            false => Answer::status(200),
        }
    })
    .await;
    let endpoint = register(&program, &receiver).await.endpoint.id;
    program.start(&["webhook", "attempts"]);
    program.publish(&shipped("o-1")).await;
    program.publish(&Factory::new("shop", "it").order_completed("o-1", NOW).into()).await;
    eventually("both are tried and logged", SOON, async || log(&program, &endpoint).await.len() == 2).await;
    let attempts = log(&program, &endpoint).await;
    let first = attempts.iter().find(|attempt| attempt.event_type == "order.shipped").expect("logged");
    assert!(first.source_offset.is_some() && !first.resend, "{first:?}");

    let wanted = ResendWanted::One(first.delivery_id.clone());
    let (one, two) = tokio::join!(resend(&program, &endpoint, &wanted), resend(&program, &endpoint, &wanted));
    assert_eq!((one.expect("sent").deliveries, two.expect("sent").deliveries), (1, 1));
    eventually("twice at once is two requests", SOON, async || resent(&receiver).len() == 2).await;
    let original = receiver.requests().remove(0);
    for again in resent(&receiver) {
        assert_eq!(again.body, original.body);
        for name in ["webhook-id", "x-webhook-sequence", "x-webhook-event", "x-webhook-id"] {
            assert_eq!(again.header(name), original.header(name), "{name}");
        }
        assert_eq!(again.header("x-webhook-attempt"), "1");
    }
    eventually("they are in the log, marked", SOON, async || {
        let log = log(&program, &endpoint).await;
        log.iter().filter(|attempt| attempt.resend && attempt.delivery_id == first.delivery_id).count() == 2
    })
    .await;

    let unknown = resend(&program, &endpoint, &ResendWanted::One("none".to_owned())).await;
    assert!(matches!(unknown, Err(WebhookError::NoDelivery(_))), "{unknown:?}");
    let other = program.registrar().resend(("shop", Some("p-2")), &endpoint, &wanted).await;
    assert!(matches!(other, Err(WebhookError::NotFound(_))), "{other:?}");
    program.registrar().pause("shop", None, &endpoint).await.expect("it is there");
    let paused = resend(&program, &endpoint, &wanted).await;
    assert!(matches!(paused, Err(WebhookError::NotServed { state: "paused", .. })), "{paused:?}");
    program.registrar().remove("shop", None, &endpoint).await.expect("it is there");
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_sent_again_by_outcome_and_order_also_from_the_history() {
    let mut program = TestProgram::new("resend-range", options()).await;
    let receiver = Receiver::start(|request| {
        let bad = request.order_id() == "o-3" && request.header("x-webhook-resend").is_empty();
        Answer::status(if bad { 404 } else { 200 })
    })
    .await;
    let endpoint = register(&program, &receiver).await.endpoint.id;
    program.start(&["webhook", "attempts", "history"]);
    for number in 0..6 {
        program.publish(&shipped(&format!("o-{number}"))).await;
    }
    eventually("all are told or given up, and logged", SOON, async || {
        log(&program, &endpoint).await.len() == 5 + 3
    })
    .await;
    // The log is gone; the history has the events.
    eventually("the history has all", SOON, async || program.is_caught_up("history")).await;
    let topic = program.topic("orders.events");
    for record in program.kafka.all(&topic).await {
        program.kafka.delete_records(&topic, record.partition, record.offset + 1).await;
    }
    let range = |outcome: Option<&str>, order: Option<&str>, limit| ResendWanted::Range {
        from_ms: 0,
        to_ms: i64::MAX,
        outcome: outcome.map(str::to_owned),
        order_id: order.map(str::to_owned),
        limit,
    };
    let refused = resend(&program, &endpoint, &range(Some("refused"), None, None)).await.expect("sent");
    assert_eq!((refused.deliveries, refused.more, refused.gone.len()), (1, false, 0));
    eventually("the refused one is sent again", SOON, async || resent(&receiver).len() == 1).await;
    let again = resent(&receiver).remove(0);
    let first = receiver.requests().into_iter().find(|request| request.order_id() == "o-3").expect("tried");
    assert_eq!((again.order_id().as_str(), &again.body), ("o-3", &first.body));
    assert_eq!(again.header("webhook-id"), first.header("webhook-id"));

    let one = resend(&program, &endpoint, &range(None, Some("o-1"), None)).await.expect("sent");
    assert_eq!(one.deliveries, 1);
    let some = resend(&program, &endpoint, &range(Some("delivered"), None, Some(2))).await.expect("sent");
    assert_eq!((some.deliveries, some.more), (2, true));
    eventually("they arrive", SOON, async || resent(&receiver).len() == 4).await;
    let orders: BTreeSet<String> = resent(&receiver).iter().map(Request::order_id).collect();
    assert!(orders.contains("o-1") && orders.contains("o-3"), "{orders:?}");
    let faults = resend(&program, &endpoint, &range(None, None, Some(0))).await;
    assert!(matches!(faults, Err(WebhookError::Fields(_))), "{faults:?}");
    program.end().await;
}
