//! Paused stages: nothing new starts, nothing is lost, the members stay; by command, or because most of it dies.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::control::{StageReport, Wishes};
use orderflow::runtime::{BreakerOptions, Control, ErrorClass, Failure, Outcome};

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

fn wish(control: &Control, paused: Option<&str>, version: i64) {
    control.wish(Wishes { paused: paused.map(Into::into), version, ..Wishes::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_stage_starts_nothing_and_goes_on_where_it_was() {
    for kafka in [TestKafka::new("ops-pause"), TestKafka::embedded("ops-pause")] {
        let mut spec = kafka.stage("courier", 1, true).await;
        let (control, of_stage) = Control::new();
        spec.control = of_stage;
        let outside = Arc::new(Outside::default());
        let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
        let values: Vec<String> = (0..50).map(|number| format!("all.a {number}")).collect();
        kafka.send(&spec.source, 0, "k", &values).await;
        let member = Member::start(&kafka, &spec, &outside, &plan);
        let seen = || member.handle.progress.borrow().clone();
        eventually("its lag is told", SOON, async || seen().lag() == 50).await;
        assert!(seen().paused.is_some(), "it is not known yet what is wished");
        assert_eq!(outside.distinct(), 0);
        wish(&control, None, 1);
        eventually("it runs", SOON, async || outside.distinct() == 50).await;
        wish(&control, Some("ann: maintenance"), 2);
        eventually("it is paused", SOON, async || seen().paused.as_deref() == Some("ann: maintenance")).await;
        let values: Vec<String> = (50..80).map(|number| format!("all.a {number}")).collect();
        kafka.send(&spec.source, 0, "k", &values).await;
        eventually("its lag is told", SOON, async || seen().lag() == 30).await;
        assert_eq!(outside.distinct(), 50, "nothing new was started");
        assert!(!seen().partitions.is_empty(), "it is still a member");
        wish(&control, None, 3);
        member.settled().await;
        assert_eq!(outside.distinct(), 80);
        outside.assert_order();
        member.leave().await;
    }
}

/// 60 % poison pauses the stage, and whatever it had not begun waits for the resume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_whose_work_mostly_dies_pauses_itself_and_loses_nothing() {
    let kafka = TestKafka::new("ops-breaker");
    let mut spec = kafka.stage("courier", 3, true).await;
    spec.options.breaker = BreakerOptions { share: 0.5, at_least: 20, ..BreakerOptions::default() };
    spec.options.concurrency = 4;
    let (mut control, of_stage) = Control::new();
    spec.control = of_stage;
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|lane: &str, _, _| {
        // Lanes 0, 1, 2 of every five are poison.
        let number: u64 = lane.trim_start_matches("all.").parse().expect("a number");
        match number % 5 < 3 {
            true => Outcome::Dead(Failure::new(ErrorClass::Rejected, "poison")),
            false => Outcome::Done,
        }
    });
    const ALL: usize = 6_000;
    for partition in 0..3 {
        let lanes = (0..ALL).filter(|lane| lane % 3 == partition as usize);
        let values: Vec<String> = lanes.map(|lane| format!("all.{lane} 0")).collect();
        kafka.send(&spec.source, partition, "k", &values).await;
    }
    wish(&control, None, 0);
    let member = Member::start(&kafka, &spec, &outside, &plan);
    let mut tripped = None;
    eventually("it trips", SOON, || {
        tripped = tripped.take().or_else(|| control.report());
        ready(tripped.is_some())
    })
    .await;
    let Some(StageReport::Tripped { reason }) = tripped else { panic!("a trip, not {tripped:?}") };
    assert!(reason.contains("were dead-lettered"), "{reason}");
    let seen = || member.handle.progress.borrow().clone();
    eventually("what ran has ended", SOON, async || {
        let progress = seen();
        progress.paused.is_some() && progress.balance.dead as usize + outside.distinct() < ALL
    })
    .await;
    member.assert_balance();
    // As the store would tell: paused by the stage itself, then resumed by somebody; again for every trip.
    let mut version = 0;
    wish(&control, Some(&reason), 1);
    eventually("everything ended", SOON, || {
        if control.report().is_some() || version == 0 {
            version += 2;
            wish(&control, None, version);
        }
        ready(member.handle.progress.borrow().is_caught_up())
    })
    .await;
    assert!(version > 2, "poison trips it again");
    assert_eq!(outside.distinct(), ALL * 2 / 5);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.len(), ALL * 3 / 5, "every poisonous record is a dead letter, none twice");
    member.leave().await;
}

/// The dead letter of a held task counts for the breaker, though its task is still waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_holds_its_lanes_pauses_itself_as_well() {
    let kafka = TestKafka::new("ops-breaker-held");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.breaker = BreakerOptions { share: 0.5, at_least: 20, ..BreakerOptions::default() };
    spec.options.holds_lanes = true;
    let (mut control, of_stage) = Control::new();
    spec.control = of_stage;
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> =
        Arc::new(|_: &str, _, _| Outcome::Dead(Failure::new(ErrorClass::Rejected, "poison")));
    let values: Vec<String> = (0..40).map(|lane| format!("all.{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &values).await;
    wish(&control, None, 0);
    let member = Member::start(&kafka, &spec, &outside, &plan);
    let mut tripped = None;
    eventually("it trips", SOON, || {
        tripped = tripped.take().or_else(|| control.report());
        ready(tripped.is_some())
    })
    .await;
    let Some(StageReport::Tripped { reason }) = tripped else { panic!("a trip, not {tripped:?}") };
    assert!(reason.contains("were dead-lettered"), "{reason}");
    member.leave_early().await;
}
