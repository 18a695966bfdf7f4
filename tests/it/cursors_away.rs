//! Thousands of targets that can't be reached at once, on a real Kafka: they take a bounded part of the memory, however
//! many they are, and delay nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::runtime::{ErrorClass, Failure, Outcome, TargetState};

use crate::cursors::Scene;
use crate::harness::courier::{Member, Plan};
use crate::harness::eventually;

const SOON: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(3_600);
/// Two and a half times as many as tasks may wait on the partition.
const TARGETS: usize = 2_000;
const BOUND: usize = 800;
/// What of them may be kept in memory while nobody tries it: half of a target's share, which is a quarter of the bound.
const KEPT: u64 = 100;

/// Invariants 1 (completion), 2 (order), 3 (isolation) and 6 (bounds).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_targets_that_are_away_at_once_delay_nobody_and_are_caught_up_in_order() {
    let mut scene = Scene::new("cursor-many").await;
    scene.spec.options.max_buffered_records = BOUND;
    scene.spec.options.concurrency = 100;
    let names: Vec<String> = (0..TARGETS).map(|number| format!("down{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (is_back, outside) = (Arc::new(AtomicBool::new(false)), Arc::clone(&scene.outside));
    let (answers, states) = (Arc::clone(&is_back), Arc::clone(&scene.outside));
    let plan: Arc<Plan> = Arc::new(move |lane: &str, _, _| {
        if !lane.starts_with("down") || answers.load(Ordering::SeqCst) {
            return Outcome::Done;
        }
        let why = Failure::new(ErrorClass::Unavailable, "nobody answers");
        match states.is_away(lane.split('.').next().expect("there is always one")) {
            true => Outcome::Postponed(why),
            false => Outcome::Retry { after: Duration::from_secs(4), why },
        }
    });
    outside.set_pause(LONG);
    scene.send(&names, 1, 0, 1).await;
    let member = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    let in_flight = || member.handle.progress.borrow().balance.in_flight;
    eventually("what failed fills the memory", SOON, async || in_flight() >= BOUND as u64).await;
    for name in &names {
        outside.set_state(name, TargetState::Away("nobody answers".into()));
    }
    scene.send(&names, 1, 1, 2).await;
    scene.send(&["there"], 10, 0, 10).await;
    let all = 2 * TARGETS as i64 + 100;
    eventually("the one that is there is served", SOON, async || scene.effects("there") == 100).await;
    scene.position(&member, all).await;
    eventually("each was probed", SOON, async || outside.probed() == TARGETS).await;

    // Nobody is to be probed for long: nothing is read.
    let mut read = Vec::new();
    for round in 0..6 {
        scene.send(&["there"], 1, 10 + round, 11 + round).await;
        scene.position(&member, all + 1 + round as i64).await;
        read.push(outside.decoded.load(Ordering::SeqCst) - round);
        assert!(round < 2 || in_flight() <= KEPT, "{} in memory", in_flight());
    }
    assert!(read[2..].windows(2).all(|pair| pair[0] == pair[1]), "read over and over: {read:?}");

    // All of them are probed, in vain, whether what they are probed with is at hand or not.
    outside.set_pause(LONG);
    eventually("each was probed again", SOON, async || {
        assert!(in_flight() <= 2 * KEPT, "{} in memory", in_flight());
        outside.probed() == TARGETS
    })
    .await;
    scene.send(&["there"], 1, 16, 36).await;
    eventually("the one that is there is served", SOON, async || scene.effects("there") == 126).await;

    is_back.store(true, Ordering::SeqCst);
    for name in &names {
        outside.set_state(name, TargetState::Flowing);
    }
    let caught_up = || names.iter().all(|name| outside.of(&format!("{name}.0")) == [0, 1]);
    eventually("all are caught up, in order and once", SOON, async || caught_up()).await;
    member.settled().await;
    eventually("no cursor is left", SOON, async || scene.cursors.rows(&scene.at).is_empty()).await;
    outside.assert_order();
    assert_eq!(scene.copies().await, 0);
    member.leave().await;
}

/// Invariant 3 (isolation).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_probes_that_hang_leave_most_slots_to_those_who_are_there() {
    let mut scene = Scene::new("cursor-hang").await;
    scene.spec.options.max_buffered_records = BOUND;
    scene.spec.options.concurrency = 20;
    scene.outside.has_priorities.store(true, Ordering::SeqCst);
    let names: Vec<String> = (0..300).map(|number| format!("down{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        scene.outside.set_state(name, TargetState::Away("nobody answers".into()));
        scene.outside.set_pace(name, Some(LONG));
    }
    scene.send(&names, 1, 0, 2).await;
    let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let member = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    let probed = || scene.outside.probed();
    eventually("probes hang", SOON, async || probed() >= 5).await;
    scene.send(&["there"], 10, 0, 100).await;
    eventually("the one that is there is served", SOON, async || scene.effects("there") == 1_000).await;
    assert_eq!(probed(), 5, "a quarter of the slots");
    for name in &names {
        scene.outside.set_pace(name, None);
        scene.outside.set_state(name, TargetState::Flowing);
    }
    eventually("all are served", SOON, async || names.iter().all(|name| scene.effects(name) == 2)).await;
    member.settled().await;
    scene.outside.assert_order();
    member.leave().await;
}
