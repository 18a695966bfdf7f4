//! Replays: what the dry run tells is what repeats, whether members run or not; lanes that wait are let go on or skipped.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::admin::lanes::{Ask, Lanes};
use orderflow::admin::replay::{Replay, Target, Way};
use orderflow::admin::webhooks::Registration;
use orderflow::admin::{OfStage, audit};
use orderflow::clock::Clock;
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::store::history;

use super::redrive::operator;
use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;
const ORDERS: usize = 30;

fn options() -> StageOptions {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    StageOptions { webhook, ..StageOptions::default() }
}

async fn register(program: &TestProgram, receiver: &Receiver, attempts: i64, delay_ms: i64) {
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(attempts),
        retry_delay: Some(delay_ms),
        timeout: Some(2_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
}

async fn publish(program: &TestProgram, from: usize, count: usize) {
    let factory = Factory::new("shop", "it");
    for order in from..from + count {
        let order = format!("o-{order}");
        let shipped: Event = factory.order_shipped(&order, NOW, "DHL", "JD01").into();
        let completed: Event = factory.order_completed(&order, NOW).into();
        program.publish(&shipped).await;
        program.publish(&completed).await;
    }
}

fn replay<'a>(program: &'a TestProgram, clock: &'a Clock, stage: &str) -> Replay<'a> {
    Replay {
        of: OfStage {
            kafka: &program.kafka.options,
            db: &program.parts.db,
            clock,
            cluster_id: Arc::clone(&program.parts.cluster_id),
            stage: program.parts.topology.stage(stage).expect("declared"),
        },
        partition: None,
        patience: Duration::from_secs(60),
    }
}

fn told(ways: &[Way]) -> (u64, BTreeMap<String, u64>) {
    let mut repeats = BTreeMap::new();
    for (kind, count) in ways.iter().flat_map(|way| &way.repeats) {
        *repeats.entry(kind.clone()).or_insert(0) += count;
    }
    (ways.iter().map(|way| way.records).sum(), repeats)
}

/// So many orders were shipped and completed.
fn kinds(orders: u64) -> BTreeMap<String, u64> {
    ["order.completed", "order.shipped"].map(|kind| (kind.to_owned(), orders)).into()
}

/// The dry run of a replay equals what then repeats: for an effect stage requests, one each and in order per order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dry_run_tells_is_what_then_repeats_through_the_owners_and_without_any() {
    let mut program = TestProgram::new("ops-replay", options()).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    register(&program, &receiver, 3, 100).await;
    publish(&program, 0, ORDERS).await;
    program.start(&["webhook"]);
    eventually("all are told", SOON, || ready(receiver.count() == 2 * ORDERS)).await;
    eventually("it is caught up", SOON, || ready(program.is_caught_up("webhook"))).await;
    let between = Clock::system().now_ms();
    publish(&program, ORDERS, 10).await;
    eventually("these as well", SOON, || ready(receiver.count() == 2 * (ORDERS + 10))).await;
    eventually("it is caught up", SOON, || ready(program.is_caught_up("webhook"))).await;

    let (clock, by) = (Clock::system(), operator("ann"));
    let desk = replay(&program, &clock, "webhook");
    for (target, expected) in [(Target::Time(between), 10), (Target::Offset(0), ORDERS + 10)] {
        let before = receiver.count();
        // Positions are committed a few times a second.
        eventually("the dry run sees all of it", SOON, async || {
            let ways = desk.dry(target, &program.parts.codec).await.expect("it is read");
            told(&ways).0 == 2 * expected as u64
        })
        .await;
        let dry = desk.dry(target, &program.parts.codec).await.expect("it is read");
        assert_eq!(told(&dry).1, kinds(expected as u64), "{dry:?}");
        assert_eq!(receiver.count(), before, "a dry run does nothing");
        let ways = desk.run(target, &by).await.expect("it is done");
        assert!(ways.iter().all(|way| way.done), "{ways:?}");
        assert_eq!(told(&ways).0, told(&dry).0);
        eventually("they are told again", SOON, || ready(receiver.count() == before + 2 * expected)).await;
        eventually("it is caught up", SOON, || ready(program.is_caught_up("webhook"))).await;
        let again = receiver.requests().split_off(before);
        let ids: std::collections::BTreeSet<_> =
            again.iter().map(|request| request.header("webhook-id").to_owned()).collect();
        assert_eq!(ids.len(), 2 * expected, "each once, under its own name");
        let known = receiver.requests();
        let known = &known[..before];
        assert!(again.iter().all(|request| {
            known.iter().any(|first| {
                first.body == request.body
                    && first.header("x-webhook-sequence") == request.header("x-webhook-sequence")
            })
        }));
    }

    // Without a member the position is moved directly.
    let before = receiver.count();
    program.halt().await;
    let ways = replay(&program, &clock, "webhook").run(Target::Time(between), &by).await.expect("it is done");
    assert!(ways.iter().all(|way| way.done), "{ways:?}");
    program.restarted(&["webhook"]);
    eventually("they are told once more", SOON, || ready(receiver.count() == before + 20)).await;
    eventually("it is caught up", SOON, || ready(program.is_caught_up("webhook"))).await;
    assert_eq!(receiver.count(), before + 20);
    let audited = audit(&program.parts.db, Some("webhook"), None, 10).await.expect("it is read");
    let actions: Vec<_> = audited.iter().map(|entry| (entry.action.as_str(), entry.actor.as_str())).collect();
    assert_eq!(actions, [("stage.replay", "ann"); 3]);
    program.end().await;
}

/// For a store stage the stored position is moved; nothing between is left out, and nothing is stored twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_stage_that_is_moved_back_while_it_works_leaves_nothing_out() {
    let mut program = TestProgram::new("ops-replay-store", StageOptions::default()).await;
    publish(&program, 0, ORDERS).await;
    program.start(&["history"]);
    eventually("all is kept", SOON, || ready(program.is_caught_up("history"))).await;
    let (clock, by) = (Clock::system(), operator("ann"));
    let desk = replay(&program, &clock, "history");
    let records = |program: &TestProgram| {
        let text = program.parts.env.metrics.text();
        let line =
            text.lines().find(|line| line.starts_with("orderflow_records_in_total{stage=\"history\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let dry = desk.dry(Target::Offset(0), &program.parts.codec).await.expect("it is read");
    assert_eq!(told(&dry).0, 2 * ORDERS as u64);
    let before = records(&program);
    let (ways, ()) = tokio::join!(desk.run(Target::Offset(0), &by), publish(&program, ORDERS, 20));
    assert!(ways.as_ref().expect("it is done").iter().all(|way| way.done), "{ways:?}");
    let expected = before + 2 * (ORDERS as u64 + 20);
    eventually("all is read again, and the new", SOON, || ready(records(&program) >= expected)).await;
    eventually("all is kept", SOON, || ready(program.is_caught_up("history"))).await;
    for order in 0..ORDERS + 20 {
        let order = format!("o-{order}");
        let kept = history::count(&program.parts.db, "shop", &order, &Default::default()).await;
        assert_eq!(kept.expect("it is read"), 2, "{order}");
    }
    program.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_lanes_are_listed_let_go_on_and_skipped() {
    let mut program = TestProgram::new("ops-lanes", options()).await;
    let healthy = Arc::new(AtomicBool::new(false));
    let is_healthy = Arc::clone(&healthy);
    let receiver =
        Receiver::start(move |_| Answer::status(if is_healthy.load(Ordering::SeqCst) { 200 } else { 500 }))
            .await;
    // The first retry is due in an hour: it is parked.
    register(&program, &receiver, 5, 3_600_000).await;
    program.start(&["webhook"]);
    let factory = Factory::new("shop", "it");
    for order in ["o-1", "o-2"] {
        for carrier in ["DHL", "UPS"] {
            program.publish(&factory.order_shipped(order, NOW, carrier, "JD01").into()).await;
        }
    }
    let clock = Clock::system();
    let of = replay(&program, &clock, "webhook").of;
    let desk = Lanes { of, patience: Duration::from_secs(60) };
    eventually("both lanes wait", SOON, async || {
        let lanes = desk.list().await.expect("it is read");
        lanes.len() == 2 && lanes.iter().all(|lane| lane.tasks == 2)
    })
    .await;
    let lanes = desk.list().await.expect("it is read");
    assert!(lanes.iter().all(|lane| lane.attempts == 1 && lane.due.is_some() && !lane.held), "{lanes:?}");
    let lane =
        |order: &str| lanes.iter().find(|lane| lane.lane.contains(order)).expect("it waits").lane.clone();
    healthy.store(true, Ordering::SeqCst);
    let by = operator("ann");
    let released = desk.ask(&lane("o-1"), Ask::Release, &by).await.expect("it is asked");
    assert!(released.iter().all(|answered| answered.done), "{released:?}");
    let skipped = desk.ask(&lane("o-2"), Ask::Skip, &by).await.expect("it is asked");
    assert!(skipped.iter().all(|answered| answered.done), "{skipped:?}");
    let delivered =
        |order: &str| receiver.requests().iter().filter(|r| r.status == 200 && r.order_id() == order).count();
    eventually("one lane is told both, the other its second", SOON, || {
        ready(delivered("o-1") == 2 && delivered("o-2") == 1)
    })
    .await;
    eventually("nothing waits", SOON, async || desk.list().await.expect("it is read").is_empty()).await;
    let refused = desk.ask("no-such-lane", Ask::Skip, &by).await.expect_err("there is none").to_string();
    assert!(refused.contains("no lane"), "{refused}");
    let audited = audit(&program.parts.db, Some("webhook"), None, 10).await.expect("it is read");
    let mut actions: Vec<_> = audited.iter().map(|entry| entry.action.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["lane.release", "lane.skip"]);
    program.end().await;
}
