//! SIGKILL while a thousand tasks are under way and three lanes of ten are parked: what the next member repeats is what
//! was not yet committed, and nothing else; without the map of completed runs it is nearly everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::Delivered;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::broker::Broker;
use crate::harness::eventually;
use crate::harness::group::{Committed, committed};
use crate::outside::{Answer, FIRST_HELD_LANE, FIRST_LATE_LANE, FIRST_PLAIN_LANE, PARTITIONS};
use crate::plan::StoreKind;
use crate::results;
use crate::scene::Scene;
use crate::traffic::task_record;

const SOON: Duration = Duration::from_secs(60);
/// Tasks that are under way when the member dies.
const HELD: u32 = 1_000;
/// Lanes that are parked then: three tenths of all.
const LATE: u32 = 1_700;
/// Tasks that take effect at once.
const PLAIN: u32 = 3_000;
/// Those of them that are over, and told of where there is a map, before the others come; it dies in the middle of these.
const EARLY: u32 = 2_000;

/// Sends one record of each of these lanes and says where they are.
async fn send(scene: &Scene<'_>, lanes: std::ops::Range<u32>) -> BTreeMap<u32, Delivered> {
    let source: Arc<str> = scene.spec.source.as_str().into();
    let producer = &scene.kafka.producer;
    let sends = lanes.clone().map(|lane| producer.send(task_record(&source, lane, 0)));
    let sent = futures_util::future::join_all(sends).await;
    lanes.zip(sent.into_iter().map(|sent| sent.expect("acknowledged"))).collect()
}

/// What is committed of each partition.
async fn told(scene: &Scene<'_>) -> Vec<Committed> {
    let mut told = Vec::new();
    for partition in 0..PARTITIONS.cast_signed() {
        told.push(committed(&scene.kafka, &scene.spec, &scene.spec.source, partition).await);
    }
    told
}

fn is_told(told: &[Committed], place: &Delivered) -> bool {
    let committed = &told[usize::try_from(place.partition).expect("small")];
    place.offset < committed.offset || committed.above.contains(&place.offset)
}

/// Kills once; gives how many finished tasks were not committed then, and how many were repeated, of which how many
/// had been committed.
async fn repeated(broker: &mut Broker, seed: u64, with_map: bool) -> (usize, usize, usize) {
    let mut scene = Scene::open(broker, seed, StoreKind::Postgres, Duration::from_secs(3)).await;
    // A target gets at most half of the slots.
    (scene.with_map, scene.concurrency, scene.patience) = (with_map, 2_500, Duration::from_secs(600));
    scene.outside.hold(true);
    scene.join(false);
    send(&scene, FIRST_HELD_LANE..FIRST_HELD_LANE + HELD).await;
    eventually("a thousand are under way", SOON, async || scene.outside.running(0) >= HELD).await;
    send(&scene, FIRST_LATE_LANE..FIRST_LATE_LANE + LATE).await;
    eventually("three lanes of ten are parked", SOON, async || {
        scene.members[0].status.borrow().parked == u64::from(LATE)
    })
    .await;
    let early = send(&scene, FIRST_PLAIN_LANE..FIRST_PLAIN_LANE + EARLY).await;
    eventually("the first of them are done", SOON, async || scene.outside.ended() >= EARLY as usize).await;
    eventually("what is done is told", SOON, async || {
        let known = told(&scene).await;
        !with_map || early.values().all(|place| is_told(&known, place))
    })
    .await;
    let dies_after = SmallRng::seed_from_u64(seed).random_range(EARLY..PLAIN) as usize;
    let dying = async {
        while scene.outside.ended() < dies_after {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let late = FIRST_PLAIN_LANE + EARLY..FIRST_PLAIN_LANE + PLAIN;
    let (mut places, ()) = tokio::join!(send(&scene, late), dying);
    places.extend(early);
    scene.kill_in_silence(0).await;
    // Nobody takes over before the session ends: this is what the next member will know.
    let known = told(&scene).await;
    let lanes = |attempts: Vec<crate::outside::Attempt>| -> Vec<u32> {
        let done = attempts.into_iter().filter(|attempt| attempt.answer == Answer::Done);
        done.map(|attempt| attempt.lane).collect()
    };
    let done: BTreeSet<u32> = lanes(scene.outside.attempts()).into_iter().collect();
    let is_known = |lane: &u32| is_told(&known, &places[lane]);
    let uncommitted = done.iter().filter(|lane| !is_known(lane)).count();
    scene.outside.hold(false);
    scene.join(true);
    eventually("everything is done", SOON, async || scene.outside.ended() == (HELD + PLAIN) as usize).await;
    scene.end_members().await;
    assert!(scene.problems.is_empty(), "{}", scene.timeline.join("\n"));
    let mut seen = BTreeSet::new();
    let again: Vec<u32> =
        lanes(scene.outside.attempts()).into_iter().filter(|lane| !seen.insert(*lane)).collect();
    let needless = again.iter().filter(|lane| is_known(lane)).count();
    scene.store.end().await;
    (uncommitted, again.len(), needless)
}

/// Invariant 1 (completion), beyond the watermark, at several instants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see docs/testing.md"]
async fn a_kill_among_a_thousand_tasks_repeats_at_most_what_was_not_committed() {
    eprintln!("commit {}", results::commit());
    let mut broker = Broker::start().await;
    let mut most = 0;
    for seed in 1..=5 {
        let (uncommitted, repeated, needless) = repeated(&mut broker, seed, true).await;
        eprintln!("seed {seed}: {uncommitted} done but not committed, {repeated} repeated");
        results::append(&json!({
            "scenario": "sigkill", "instant": seed, "map": true, "under_way": HELD, "parked": LATE,
            "uncommitted": uncommitted, "repeated": repeated, "repeated_though_committed": needless,
        }));
        assert_eq!(needless, 0, "repeated though committed");
        assert!(repeated <= uncommitted);
        most = most.max(repeated);
    }
    let (uncommitted, without_map, _) = repeated(&mut broker, 1, false).await;
    results::append(&json!({
        "scenario": "sigkill", "instant": 1, "map": false, "under_way": HELD, "parked": LATE,
        "uncommitted": uncommitted, "repeated": without_map,
    }));
    assert!(without_map > 2 * most, "{without_map} without the map, at most {most} with it");
}
