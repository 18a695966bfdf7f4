//! Effect stages on a real Kafka: per lane in order through failures, restarts and rebalances; nothing lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::retry::Mark;
use orderflow::runtime::{ErrorClass, Failure, Outcome, RunError, StageSpec};
use tokio::sync::watch;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};

const SOON: Duration = Duration::from_secs(60);

fn later(ms: u64) -> Outcome {
    Outcome::Retry {
        after: Duration::from_millis(ms),
        why: Failure::new(ErrorClass::Unavailable, "come back later"),
    }
}

fn always_done() -> Arc<Plan> {
    Arc::new(|_: &str, _, _| Outcome::Done)
}

/// Fails about every third attempt, in place or by parking, the same for the same seed.
fn unreliable(seed: u64) -> Arc<Plan> {
    Arc::new(move |lane: &str, number, attempt| {
        let mut hasher = DefaultHasher::new();
        (seed, lane, number, attempt).hash(&mut hasher);
        match hasher.finish() % 6 {
            0 => later(5),
            1 => later(150),
            _ => Outcome::Done,
        }
    })
}

async fn send_lanes(kafka: &TestKafka, spec: &StageSpec, lanes: u64, from: u64, count: u64) {
    for number in from..from + count {
        for partition in 0..3 {
            let values: Vec<String> = (0..lanes)
                .filter(|lane| lane % 3 == partition)
                .map(|lane| format!("all.{lane} {number}"))
                .collect();
            kafka.send(&spec.source, partition as i32, "k", &values).await;
        }
    }
}

/// Invariants 1 (completion), 2 (order), 5 (ownership) and 7 (balance).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_keep_their_order_while_handlers_fail_and_members_come_go_and_die() {
    members_come_go_and_die(&TestKafka::new("effect-order"), seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_keep_their_order_on_the_broker_inside_the_process_as_well() {
    members_come_go_and_die(&TestKafka::embedded("effect-order"), seed()).await;
}

/// Another seed can be named to look for a fault.
fn seed() -> u64 {
    std::env::var("ORDERFLOW_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

async fn members_come_go_and_die(kafka: &TestKafka, seed: u64) {
    let mut spec = kafka.stage("courier", 3, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    let outside = Arc::new(Outside::default());
    let plan = unreliable(seed);
    let first = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 0, 10).await;
    eventually("some took effect", SOON, async || outside.distinct() > 60).await;
    let second = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 10, 10).await;
    eventually("shared", SOON, async || !second.handle.progress.borrow().partitions.is_empty()).await;
    first.leave_early().await;
    send_lanes(kafka, &spec, 30, 20, 5).await;
    eventually("most took effect", SOON, async || outside.distinct() > 400).await;
    // The second dies without a word; whatever it had begun is repeated by the third.
    second.die().await;
    let third = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 25, 5).await;
    eventually("all took effect", SOON, async || outside.distinct() == 900).await;
    third.settled().await;
    third.leave().await;
    outside.assert_order();
    assert!(kafka.all(&spec.dead_letters).await.is_empty());
    let retry = kafka.all(spec.retry.as_deref().expect("set")).await;
    assert!(retry.iter().any(|record| record.payload.is_some()), "something was parked");
}

/// Invariants 2 (order) and 3 (isolation).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_waits_keeps_its_order_and_delays_no_other() {
    let kafka = TestKafka::new("effect-parked");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> =
        Arc::new(
            |lane: &str, number, attempt| {
                if lane == "all.a" && number == 0 && attempt <= 3 { later(700) } else { Outcome::Done }
            },
        );
    let values = ["all.a 0", "all.a 1", "all.b 0", "all.a 2", "all.b 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the other lane is done", SOON, async || outside.of("all.b") == [0, 1]).await;
    assert_eq!(outside.of("all.a"), [0u64; 0], "the first of the waiting lane is still to come");
    kafka.send(&spec.source, 0, "k", &["all.a 3".to_owned()]).await;
    eventually("the source is complete", SOON, async || {
        let progress = member.handle.progress.borrow();
        progress.partitions.get(&0).is_some_and(|at| at.position == 6 && at.parked > 0)
    })
    .await;
    member.settled().await;
    assert_eq!(outside.of("all.a"), [0, 1, 2, 3]);
    assert_eq!(outside.attempts_of("all.a", 0), 4);
    assert_eq!(outside.attempts_of("all.a", 1), 1, "parked behind, unattempted");
    outside.assert_order();
    member.leave().await;
}

/// Invariants 1 (completion) and 6 (bounds).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_work_outlives_the_member_that_parked_it_also_when_it_no_longer_fits_in_memory() {
    for in_memory in [true, false] {
        let kafka = TestKafka::new("effect-restart");
        let mut spec = kafka.stage("courier", 1, true).await;
        spec.options.in_place_limit = Duration::ZERO;
        if !in_memory {
            spec.options.max_parked_bytes = 0;
        }
        let outside = Arc::new(Outside::default());
        let values: Vec<String> = (0..5).map(|number| format!("all.a {number}")).collect();
        kafka.send(&spec.source, 0, "k", &values).await;
        let refusing: Arc<Plan> = Arc::new(|_: &str, _, _| later(1_500));
        let first = Member::start(&kafka, &spec, &outside, &refusing);
        eventually("all is parked", SOON, async || {
            first.handle.progress.borrow().partitions.get(&0).is_some_and(|at| at.parked == 5)
        })
        .await;
        first.leave_early().await;
        let second = Member::start(&kafka, &spec, &outside, &always_done());
        eventually("all took effect", SOON, async || outside.distinct() == 5).await;
        second.settled().await;
        assert_eq!(outside.of("all.a"), [0, 1, 2, 3, 4]);
        outside.assert_order();
        second.leave().await;
        // And nothing of it is done again.
        let third = Member::start(&kafka, &spec, &outside, &always_done());
        third.settled().await;
        assert_eq!(outside.of("all.a"), [0, 1, 2, 3, 4]);
        third.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_attempt_the_record_is_dead_lettered_and_its_lane_goes_on() {
    let kafka = TestKafka::new("effect-dead");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(10);
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, number, attempt| match (number, attempt) {
        (1, 1) => later(1),
        (1, 2) => later(100),
        (1, _) => Outcome::Dead(Failure::new(ErrorClass::Exhausted, "no more attempts")),
        _ => Outcome::Done,
    });
    let values: Vec<String> = (0..4).map(|number| format!("all.a {number}")).collect();
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    member.settled().await;
    assert_eq!(outside.of("all.a"), [0, 2, 3]);
    assert_eq!(outside.attempts_of("all.a", 1), 3);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["all.a 1"]);
    let mark = Mark::read(&dead[0].headers).expect("well-formed");
    assert_eq!((mark.source.offset, mark.attempt), (1, 3));
    assert_eq!(mark.error.expect("a reason").class, ErrorClass::Exhausted);
    member.leave().await;
}

/// Invariant 8 (nothing lost).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_dead_lettered_byte_for_byte_and_the_rest_goes_on() {
    let kafka = TestKafka::new("effect-decode");
    let spec = kafka.stage("courier", 2, true).await;
    let outside = Arc::new(Outside::default());
    let sent = [vec![0xde, 0xad, 0xbe, 0xef], vec![]].map(|payload| {
        let mut odd =
            orderflow::runtime::OutRecord::keyed(spec.source.as_str(), vec![0xff, 0x00, 0x01], payload);
        odd.partition = Some(1);
        odd.headers.push("mine", vec![0x00, 0xff]);
        odd
    });
    for odd in &sent {
        kafka.producer.send(odd.clone()).await.expect("acknowledged");
    }
    kafka.send(&spec.source, 1, "k", &["all.a 0".to_owned()]).await;
    let member = Member::start(&kafka, &spec, &outside, &always_done());
    eventually("the rest goes on", SOON, async || outside.of("all.a") == [0]).await;
    eventually("they are dead", SOON, async || member.handle.progress.borrow().balance.dead == 2).await;
    let mut dead = kafka.all(&spec.dead_letters).await;
    dead.sort_by_key(|dead| dead.headers.text("of-source-offset").map(str::to_owned));
    assert_eq!(dead.len(), 2, "{dead:?}");
    for ((offset, dead), odd) in ["0", "1"].into_iter().zip(&dead).zip(&sent) {
        assert_eq!((&dead.key, &dead.payload), (&odd.key, &odd.payload));
        assert_eq!(dead.partition, 1);
        assert_eq!(dead.headers.last("mine"), odd.headers.last("mine"));
        assert_eq!(dead.headers.text("of-error-class"), Some("decode"));
        assert_eq!(dead.headers.text("of-source-offset"), Some(offset));
    }
    member.leave().await;
}

/// Invariant 3 (isolation).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_hangs_delays_no_other() {
    let kafka = TestKafka::new("effect-hang");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.max_buffered_records = 60;
    spec.options.concurrency = 12;
    let outside = Arc::new(Outside::default());
    let slow: Vec<String> = (0..200).map(|lane| format!("slow.{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &slow).await;
    let quick: Vec<String> = (0..100).map(|number| format!("quick.a {number}")).collect();
    kafka.send(&spec.source, 0, "k", &quick).await;
    let (gate, open) = watch::channel(false);
    let member = Member::start_with(&kafka, &spec, &outside, &always_done(), open);
    eventually("the quick target is served", SOON, async || outside.of("quick.a").len() == 100).await;
    assert_eq!(outside.distinct(), 100, "the slow one still hangs");
    gate.send_replace(true);
    eventually("the slow one is served too", SOON, async || outside.distinct() == 300).await;
    member.settled().await;
    outside.assert_order();
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_do_not_fit_together_are_named() {
    let kafka = TestKafka::new("effect-topics");
    let mut spec = kafka.spec("courier", true);
    spec.options.topic_timeout = Duration::ZERO;
    let retry = spec.retry.clone().expect("set");
    kafka.create(&[spec.source.clone(), spec.dead_letters.clone()], 2).await;
    let outside = Arc::new(Outside::default());
    let missing = Member::start(&kafka, &spec, &outside, &always_done());
    let error = missing.handle.join.await.expect("no panic").expect_err("refused");
    assert!(matches!(&error, RunError::TopicMissing { topic, .. } if *topic == retry), "{error}");
    kafka.create(std::slice::from_ref(&retry), 3).await;
    let uneven = Member::start(&kafka, &spec, &outside, &always_done());
    let error = uneven.handle.join.await.expect("no panic").expect_err("refused");
    assert!(
        matches!(error, RunError::PartitionCounts { partitions: 3, source_partitions: 2, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_costs_its_own_task_and_nothing_else() {
    let kafka = TestKafka::new("effect-panic");
    let spec = kafka.stage("courier", 1, true).await;
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|lane: &str, number, _| {
        assert!(lane != "all.a" || number != 0, "a bug in a handler");
        Outcome::Done
    });
    let values = ["all.a 0", "all.b 0", "all.a 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the others go on", SOON, async || outside.of("all.a") == [1] && outside.of("all.b") == [0])
        .await;
    member.settled().await;
    assert_eq!(outside.attempts_of("all.a", 0), 3);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].headers.text("of-error-class"), Some("internal"));
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_that_cannot_drain_says_so_and_the_work_is_repeated() {
    let kafka = TestKafka::new("effect-deadline");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.shutdown_drain = Duration::from_millis(300);
    let outside = Arc::new(Outside::default());
    kafka.send(&spec.source, 0, "k", &["slow.a 0".to_owned(), "all.b 0".to_owned()]).await;
    let (_gate, shut) = watch::channel(false);
    let stuck = Member::start_with(&kafka, &spec, &outside, &always_done(), shut);
    eventually("it hangs", SOON, async || outside.attempts_of("slow.a", 0) == 1).await;
    eventually("the other is done", SOON, async || outside.of("all.b") == [0]).await;
    stuck.stop.cancel();
    assert!(!stuck.handle.join.await.expect("no panic").expect("no error").drained);
    assert_eq!(stuck.handle.progress.borrow().balance.given_up, 1);
    let next = Member::start(&kafka, &spec, &outside, &always_done());
    eventually("it is repeated", SOON, async || outside.of("slow.a") == [0]).await;
    next.settled().await;
    next.leave().await;
}
