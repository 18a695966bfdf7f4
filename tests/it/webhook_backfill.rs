//! Backfills from the API's side to the receiver's: an endpoint that comes late gets what was there before it, in order,
//! with the bytes and ids of the first time, also when the log doesn't hold it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orderflow::admin::webhooks::{
    BackfillShown, BackfillWanted, Change, Point, Registered, Registration, WebhookError,
};
use orderflow::event::{Event, Factory, OutboundNotification, WebhookEndpointChanged};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::{cursor_gaps, outbox, positions};

use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;
const SHOP: (&str, Option<&str>) = ("shop", None);

pub(crate) fn options() -> StageOptions {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    StageOptions { webhook, ..StageOptions::default() }
}

pub(crate) async fn register(program: &TestProgram, receiver: &Receiver) -> Registered {
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(3),
        retry_delay: Some(100),
        timeout: Some(2_000),
        ..Registration::default()
    };
    program.registrar().register("shop", Some("p-1"), &registration).await.expect("it is allowed")
}

/// Events of several kinds, one after the other for each order; gives where they lie, by order.
async fn publish(program: &TestProgram, orders: usize, rounds: usize) -> BTreeMap<String, Vec<i64>> {
    let factory = Factory::new("shop", "it");
    let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for round in 0..rounds {
        for number in 0..orders {
            let order = format!("o-{number}");
            let event: Event = match round % 2 {
                0 => factory.order_shipped(&order, NOW + round as i64, "DHL", "JD01").into(),
                _ => factory.order_completed(&order, NOW + round as i64).into(),
            };
            sent.entry(order).or_default().push(program.publish(&event).await.offset);
        }
    }
    sent
}

/// The sequences of each order, in the order of their first arrival.
fn arrived(requests: &[Request]) -> BTreeMap<String, Vec<i64>> {
    let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for request in requests {
        let sequence = request.header("x-webhook-sequence").parse().expect("a number");
        let seen = orders.entry(request.order_id()).or_default();
        if !seen.contains(&sequence) {
            seen.push(sequence);
        }
    }
    orders
}

/// Body and webhook id by sequence and order.
fn bodies(requests: &[Request]) -> BTreeMap<(String, String), (String, Vec<u8>)> {
    let of = |request: &Request| {
        let place = (request.order_id(), request.header("x-webhook-sequence").to_owned());
        (place, (request.header("webhook-id").to_owned(), request.body.clone()))
    };
    requests.iter().map(of).collect()
}

fn all(from: Point) -> BackfillWanted {
    BackfillWanted { from, until: None, rate: None, coalesce: false }
}

/// Waits until the stage has come by so many events without an endpoint: what it has not would come live, and not count as
/// the backfill's.
async fn passed_by(program: &TestProgram, events: u64) {
    let skipped = || program.parts.env.metrics.tasks.with_label_values(&["webhook", "skipped"]).get();
    eventually("the stage has come by them", SOON, async || skipped() >= events).await;
}

async fn ended(program: &TestProgram, endpoint: &str, backfill: &str) -> BackfillShown {
    let shown = async || {
        let registrar = program.registrar();
        registrar.backfill_shown(SHOP, endpoint, backfill).await.expect("it is known")
    };
    eventually("the backfill ends", SOON, async || shown().await.state != "running").await;
    shown().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_begins_at_the_end_and_a_backfill_brings_what_was_before_in_order() {
    let mut program = TestProgram::new("backfill-late", options()).await;
    let (early, late) =
        (Receiver::start(|_| Answer::status(200)).await, Receiver::start(|_| Answer::status(200)).await);
    register(&program, &early).await;
    // Nobody has read these when the late one comes: only where it begins tells them from later ones.
    let before = publish(&program, 6, 4).await;
    let endpoint = register(&program, &late).await.endpoint.id;
    let after = publish(&program, 6, 1).await;
    program.start(&["webhook"]);
    eventually("the early one is told of all", SOON, async || early.count() == 30).await;
    eventually("the late one is told of what came later", SOON, async || late.count() >= 6).await;
    assert_eq!(arrived(&late.requests()), after, "on every partition, however old the watermark");

    let registrar = program.registrar();
    let backfill = registrar.backfill(SHOP, &endpoint, &all(Point::Time(0)), "me").await.expect("it begins");
    assert!(backfill.asked_by == "me" && !backfill.parts.is_empty(), "{backfill:?}");
    let other = registrar.backfill(("shop", Some("p-2")), &endpoint, &all(Point::Time(0)), "p-2").await;
    assert!(matches!(other, Err(WebhookError::NotFound(_))), "a partner's own alone: {other:?}");
    let told = ended(&program, &endpoint, &backfill.id).await;
    assert_eq!((told.state.as_str(), told.delivered, told.set_aside), ("done", 30, 0));
    assert!(told.parts.iter().all(|part| part.state == "done" && part.to == Some(part.at)), "{told:?}");
    let again = late.requests().split_off(6);
    let whole = before.iter().map(|(order, offsets)| {
        (order.clone(), offsets.iter().chain(&after[order]).copied().collect::<Vec<_>>())
    });
    assert_eq!(arrived(&again), whole.collect(), "each order in order, from its first event on");
    assert_eq!(bodies(&again), bodies(&early.requests()), "the bytes and ids that others got");
    let live = publish(&program, 6, 1).await;
    eventually("live ones follow", SOON, async || late.count() == 42).await;
    assert_eq!(arrived(&late.requests()[36..]), live);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_survives_a_restart_one_runs_at_a_time_and_a_cancel_ends_it() {
    let mut program = TestProgram::new("backfill-cut", options()).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    program.start(&["webhook"]);
    let sent = publish(&program, 5, 10).await;
    passed_by(&program, 50).await;
    let endpoint = register(&program, &receiver).await.endpoint.id;
    // Half a minute for all: a restart on the slowest machine is over before that.
    let slow = BackfillWanted { rate: Some(2.0), ..all(Point::Time(0)) };
    let backfill = program.registrar().backfill(SHOP, &endpoint, &slow, "me").await.expect("it begins").id;
    let second = program.registrar().backfill(SHOP, &endpoint, &slow, "me").await;
    assert!(matches!(second, Err(WebhookError::Backfilling(_))), "{second:?}");
    eventually("it is on its way", SOON, async || receiver.count() >= 3).await;
    program.restart().await;
    let done = receiver.count();
    assert!(done < 50, "{done}: it was in its middle");
    let told = ended(&program, &endpoint, &backfill).await;
    assert_eq!((told.state.as_str(), told.delivered), ("done", 50));
    assert_eq!(arrived(&receiver.requests()), sent);
    assert_eq!(receiver.count(), 50, "a drained restart repeats nothing");

    let crawl = BackfillWanted { rate: Some(0.2), ..all(Point::Time(0)) };
    let crawl = program.registrar().backfill(SHOP, &endpoint, &crawl, "me").await.expect("it begins").id;
    eventually("it begins", SOON, async || receiver.count() > 50).await;
    let cancelled = program.registrar().cancel_backfill(SHOP, &endpoint, &crawl).await.expect("it ran");
    assert_eq!(cancelled.state, "cancelled");
    let live = publish(&program, 5, 1).await;
    let missing = |orders: &BTreeMap<String, Vec<i64>>| {
        let arrived = arrived(&receiver.requests());
        orders.iter().any(|(order, offsets)| offsets.iter().any(|o| !arrived[order].contains(o)))
    };
    eventually("live ones go on at once", SOON, async || !missing(&live)).await;
    assert!(receiver.count() < 75, "{}: most of it was never delivered", receiver.count());
    eventually("its owners say so", SOON, async || {
        let shown = program.registrar().backfill_shown(SHOP, &endpoint, &crawl).await.expect("known");
        shown.parts.iter().all(|part| part.state != "running")
    })
    .await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coalescing_brings_the_newest_event_of_every_order_and_no_other() {
    let mut program = TestProgram::new("backfill-newest", options()).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    program.start(&["webhook"]);
    let sent = publish(&program, 20, 7).await;
    passed_by(&program, 140).await;
    let endpoint = register(&program, &receiver).await.endpoint.id;
    let wanted = BackfillWanted { coalesce: true, ..all(Point::Time(0)) };
    let backfill = program.registrar().backfill(SHOP, &endpoint, &wanted, "me").await.expect("it begins");
    let told = ended(&program, &endpoint, &backfill.id).await;
    assert_eq!((told.state.as_str(), told.delivered, told.coalesce), ("done", 20, true));
    let newest: BTreeMap<String, Vec<i64>> =
        sent.into_iter().map(|(order, offsets)| (order, offsets[6..].to_vec())).collect();
    assert_eq!(arrived(&receiver.requests()), newest);
    assert_eq!(receiver.count(), 20);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_the_log_comes_from_the_history_byte_for_byte_the_same() {
    let mut program = TestProgram::new("backfill-past", options()).await;
    let (early, late) =
        (Receiver::start(|_| Answer::status(200)).await, Receiver::start(|_| Answer::status(200)).await);
    register(&program, &early).await;
    program.start(&["webhook", "history"]);
    publish(&program, 6, 6).await;
    eventually("the early one is told of all", SOON, async || early.count() == 36).await;
    eventually("the history has all", SOON, async || {
        let told = positions::of_stage(&program.parts.db, "history").await.expect("the store answers");
        told.iter().map(|(_, next)| next).sum::<i64>() == 36
    })
    .await;
    let topic = program.topic("orders.events");
    let partitions: BTreeSet<i32> = program.kafka.all(&topic).await.iter().map(|r| r.partition).collect();
    for &partition in &partitions {
        let of = program.kafka.all(&topic).await.into_iter().filter(|r| r.partition == partition).count();
        program.kafka.delete_records(&topic, partition, of as i64 - 1).await;
    }
    let endpoint = register(&program, &late).await.endpoint.id;
    let backfill = program.registrar().backfill(SHOP, &endpoint, &all(Point::Time(0)), "me").await;
    let told = ended(&program, &endpoint, &backfill.expect("it begins").id).await;
    assert_eq!((told.state.as_str(), told.delivered), ("done", 36), "{told:?}");
    assert_eq!(arrived(&late.requests()), arrived(&early.requests()));
    assert_eq!(bodies(&late.requests()), bodies(&early.requests()));
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nowhere_any_more_are_gaps_that_the_owner_is_told_of_in_one_mail() {
    const AFTER: Duration = Duration::from_secs(5);
    let webhook = WebhookOptions { gap_mail_after: AFTER, ..options().webhook };
    let mut program = TestProgram::new("backfill-gap", StageOptions { webhook, ..options() }).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    program.start(&["webhook"]);
    publish(&program, 12, 4).await;
    passed_by(&program, 48).await;
    let topic = program.topic("orders.events");
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for record in program.kafka.all(&topic).await {
        ends.insert(record.partition, record.offset + 1);
    }
    let gone: Vec<i32> = ends.keys().copied().take(2).collect();
    let [one, other] = gone[..] else { panic!("twelve orders lie in several partitions: {ends:?}") };
    for partition in [one, other] {
        program.kafka.delete_records(&topic, partition, 3).await;
    }
    let endpoint = register(&program, &receiver).await.endpoint.id;
    let contact = Change { contact: Some(Some("ops@partner.example".to_owned())), ..Change::default() };
    program.registrar().change(SHOP.0, SHOP.1, &endpoint, &contact).await.expect("it is allowed");
    let from = Point::Offsets(BTreeMap::from([(one, 1), (other, 2)]));
    let backfill = program.registrar().backfill(SHOP, &endpoint, &all(from), "me").await.expect("it begins");
    let told = ended(&program, &endpoint, &backfill.id).await;
    let left = ends[&one] + ends[&other] - 6;
    assert_eq!((told.state.as_str(), told.delivered, receiver.count() as i64), ("done", left, left));

    let news = program.topic("webhooks.endpoints");
    eventually("its owner is told", SOON, async || program.kafka.all(&news).await.len() == 2).await;
    let mut reasons = Vec::new();
    for record in program.kafka.all(&news).await {
        let payload = record.payload.expect("a value");
        let gap: WebhookEndpointChanged =
            program.parts.codec.decode_record(&payload).await.expect("it is what the schema says");
        assert_eq!((gap.change.as_str(), gap.endpoint_id), ("gap", endpoint.clone()));
        assert_eq!(gap.owner.as_deref(), Some("p-1"));
        reasons.push((gap.reason, gap.changed_at));
    }
    let found = |place: &str| reasons.iter().any(|(reason, _)| reason.contains(place));
    assert!(found(&format!("offsets 1 to 2 of partition {one} ")), "{reasons:?}");
    assert!(found(&format!("offsets 2 to 2 of partition {other} ")), "{reasons:?}");

    let later = i64::MAX;
    eventually("its contact as well", SOON, async || {
        let db = &program.parts.db;
        let untold = cursor_gaps::due(db, (later, later), "", 10).await.expect("the store is there");
        untold.is_empty() && outbox::depth(db).await.expect("the store is there").0 == 0
    })
    .await;
    let mut text = String::new();
    let mails = program.kafka.all(&program.topic("notifications.outbound")).await;
    for mail in &mails {
        let payload = mail.payload.as_ref().expect("a value");
        let mail: OutboundNotification = program.parts.codec.decode_record(payload).await.expect("it is one");
        let told = (mail.template.as_str(), mail.address.as_deref());
        assert_eq!(told, ("webhook.gap", Some("ops@partner.example")));
        text.push_str(&mail.text);
    }
    for partition in [one, other] {
        assert!(text.contains(&format!("of partition {partition} of {topic}")), "{text}");
    }
    // Unless this machine took its time from the one to the other.
    if (reasons[0].1 - reasons[1].1).abs() < AFTER.as_millis() as i64 / 2 {
        assert_eq!(mails.len(), 1, "{text}");
    }
    program.end().await;
}
