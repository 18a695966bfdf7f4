//! What a restart repeats: positions, completed-runs maps and parked work on a real Kafka.

use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::retry::{Mark, TaskOf};
use orderflow::runtime::{ErrorClass, Failure, OutRecord, Outcome, StageSpec};
use tokio::sync::watch;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::group::committed;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

fn later(ms: u64) -> Outcome {
    Outcome::Retry {
        after: Duration::from_millis(ms),
        why: Failure::new(ErrorClass::Unavailable, "come back later"),
    }
}

/// Records of a thousand lanes: a tenth hangs, three tenths are parked, the rest takes effect at once.
fn lane(at: u64) -> String {
    let kind = match at % 10 {
        0 => "slow",
        1..=3 => "late",
        _ => "quick",
    };
    format!("{kind}.{at}")
}

/// A member dies while the first record of all hangs; gives how many finished records the next one repeats.
async fn repeated_after_death(with_map: bool) -> usize {
    let kafka = TestKafka::new("protocol-map");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    spec.options.completed_runs_map = with_map;
    let values: Vec<String> = (0..1_000).map(|at| format!("{} 0", lane(at))).collect();
    kafka.send(&spec.source, 0, "k", &values).await;
    let outside = Arc::new(Outside::default());
    let parking: Arc<Plan> =
        Arc::new(|lane: &str, _, _| if lane.starts_with("late") { later(3_600_000) } else { Outcome::Done });
    let (_shut, hangs) = watch::channel(false);
    let first = Member::start_with(&kafka, &spec, &outside, &parking, hangs);
    eventually("all that does not hang is done or parked", SOON, async || {
        let progress = first.handle.progress.borrow();
        outside.distinct() == 600 && progress.balance.parked == 300
    })
    .await;
    eventually("and committed", SOON, async || {
        let source = committed(&kafka, &spec, &spec.source, 0).await;
        assert_eq!(source.offset, 0, "the first record of all hangs");
        source.above.len() == if with_map { 900 } else { 0 }
    })
    .await;
    first.die().await;
    let done: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let second = Member::start(&kafka, &spec, &outside, &done);
    eventually("what hung is done", SOON, async || {
        (0..1_000).step_by(10).all(|at| !outside.of(&lane(at)).is_empty())
    })
    .await;
    eventually("the source is complete", SOON, async || {
        second.handle.progress.borrow().partitions.get(&0).is_some_and(|at| at.position == 1_000)
    })
    .await;
    assert!(
        (0..1_000).filter(|at| at % 10 > 3).all(|at| !outside.of(&lane(at)).is_empty()),
        "nothing is lost"
    );
    second.assert_balance();
    second.leave_early().await;
    (0..1_000).filter(|at| at % 10 > 3).filter(|&at| outside.attempts_of(&lane(at), 0) > 1).count()
}

/// Invariant 1 (completion), beyond the watermark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_repeats_what_was_unfinished_and_nothing_else() {
    assert_eq!(repeated_after_death(true).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_map_of_completed_runs_a_restart_repeats_everything_above_the_position() {
    assert_eq!(repeated_after_death(false).await, 600);
}

/// Rule 5: an owner that froze between parking and its acknowledgement, whose append lands when the next one has long
/// finished that task, and then that one crashes as well. Invariant 2 (order).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_owner_parked_too_late_is_void_for_every_later_owner() {
    let kafka = TestKafka::new("protocol-zombie");
    let spec = kafka.stage("courier", 1, true).await;
    let retry = spec.retry.clone().expect("set");
    kafka.send(&spec.source, 0, "k", &["slow.a 0".to_owned(), "slow.a 1".to_owned()]).await;
    let outside = Arc::new(Outside::default());
    let done: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let (_shut, hangs) = watch::channel(false);
    let frozen = Member::start_with(&kafka, &spec, &outside, &done, hangs);
    eventually("it runs", SOON, async || outside.attempts_of("slow.a", 0) == 1).await;
    frozen.die().await;
    let marker = kafka.all(&retry).await.pop().expect("the owner's marker");
    assert_eq!((marker.headers.text("of-marker"), &marker.key), (Some("true"), &None));
    let epoch = marker.headers.text("of-epoch").expect("an epoch").to_owned();

    let second = Member::start(&kafka, &spec, &outside, &done);
    second.settled().await;
    assert_eq!(outside.of("slow.a"), [0, 1]);
    append_late(&kafka, &spec, 0, epoch).await;
    eventually("the void record is passed over", SOON, async || {
        committed(&kafka, &spec, &retry, 0).await.offset == 3
    })
    .await;
    second.die().await;
    let third = Member::start(&kafka, &spec, &outside, &done);
    third.settled().await;
    assert_eq!(outside.of("slow.a"), [0, 1], "nothing ran again behind what came later");
    third.leave().await;
}

/// The same when the next owner is gone before that append lands, and left something open below its marker: of that marker
/// the map says that it is complete, and it counts all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_that_is_complete_still_makes_void_what_a_frozen_owner_wrote_behind_it() {
    let kafka = TestKafka::new("protocol-marker");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    let retry = spec.retry.clone().expect("set");
    let values = ["late.b 0", "slow.a 0", "slow.a 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let outside = Arc::new(Outside::default());
    let parking: Arc<Plan> =
        Arc::new(|lane: &str, _, _| if lane.starts_with("late") { later(3_600_000) } else { Outcome::Done });
    let (_shut, hangs) = watch::channel(false);
    let frozen = Member::start_with(&kafka, &spec, &outside, &parking, hangs);
    eventually("one is parked, one runs", SOON, async || {
        frozen.handle.progress.borrow().balance.parked == 1 && outside.attempts_of("slow.a", 0) == 1
    })
    .await;
    frozen.die().await;
    let epoch = kafka.all(&retry).await.swap_remove(0).headers.text("of-epoch").expect("an epoch").to_owned();

    let second = Member::start(&kafka, &spec, &outside, &parking);
    eventually("the rest is done", SOON, async || outside.of("slow.a") == [0, 1]).await;
    eventually("its marker is complete above what waits", SOON, async || {
        let at = committed(&kafka, &spec, &retry, 0).await;
        (at.offset, at.above.as_slice()) == (1, &[2])
    })
    .await;
    second.die().await;
    append_late(&kafka, &spec, 1, epoch).await;
    let third = Member::start(&kafka, &spec, &outside, &parking);
    eventually("the late record is complete", SOON, async || {
        let at = committed(&kafka, &spec, &retry, 0).await;
        (at.offset, at.above.as_slice()) == (1, &[2, 3, 4])
    })
    .await;
    assert_eq!(outside.of("slow.a"), [0, 1], "nothing ran again behind what came later");
    third.leave_early().await;
}

/// What an owner of `epoch` parked of the source record at `at` reaches the broker only now.
async fn append_late(kafka: &TestKafka, spec: &StageSpec, at: usize, epoch: String) {
    let retry = spec.retry.as_deref().expect("set");
    let source = kafka.all(&spec.source).await.swap_remove(at);
    let task = TaskOf { lane: "slow.a".into(), target: "slow".into(), priority: 100 };
    let mark = Mark { task: Some(task), attempt: 1, epoch, ..Mark::of(&source, &"courier".into(), "") };
    let parked = OutRecord {
        partition: Some(0),
        headers: mark.write(&source.headers),
        ..OutRecord::keyed(retry, source.key.expect("a key"), source.payload.expect("a value"))
    };
    kafka.producer.send(parked).await.expect("acknowledged");
}
