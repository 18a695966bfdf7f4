//! Targets that can't keep up, on a real Kafka: served from a position of their own, in order, delaying nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::runtime::cursor::{Claimed, CursorState, CursorStore, CursorWish, MemoryCursors, Wish};
use orderflow::runtime::{ErrorClass, Failure, Outcome, SourcePartition, StageSpec, TargetState, cluster_id};

use tokio_util::sync::CancellationToken;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3_600);

pub(crate) struct Scene {
    pub(crate) kafka: TestKafka,
    pub(crate) spec: StageSpec,
    pub(crate) outside: Arc<Outside>,
    pub(crate) cursors: MemoryCursors,
    pub(crate) at: SourcePartition,
}

impl Scene {
    /// One partition; a target may have 25 tasks waiting.
    pub(crate) async fn new(subject: &str) -> Self {
        let kafka = TestKafka::new(subject);
        let mut spec = kafka.stage("courier", 1, true).await;
        spec.options.max_buffered_records = 100;
        spec.options.concurrency = 20;
        let cursors = MemoryCursors::default();
        spec.cursors = Some(Arc::new(cursors.clone()));
        let topic: Arc<str> = spec.source.as_str().into();
        let env = kafka.environment();
        let never = CancellationToken::new();
        let cluster_id = cluster_id(&env.kafka, Some(SOON), &env.clock, &never);
        let cluster_id = cluster_id.await.expect("kafka answers").expect("not stopped");
        let at = SourcePartition { cluster_id, topic: Arc::clone(&topic), topic_id: topic, partition: 0 };
        Self { kafka, spec, outside: Arc::new(Outside::default()), cursors, at }
    }

    pub(crate) fn start(&self) -> Member {
        let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
        Member::start(&self.kafka, &self.spec, &self.outside, &plan)
    }

    /// Sends the numbers `from..to` to each of `lanes` lanes of each target.
    pub(crate) async fn send(&self, targets: &[&str], lanes: u64, from: u64, to: u64) {
        let mut values = Vec::new();
        for number in from..to {
            for lane in 0..lanes {
                values.extend(targets.iter().map(|target| format!("{target}.{lane} {number}")));
            }
        }
        self.kafka.send(&self.spec.source, 0, "k", &values).await;
    }

    /// How many numbers took effect in the lanes of `target`.
    pub(crate) fn effects(&self, target: &str) -> usize {
        let effects = self.outside.effects.lock().expect("no panic");
        let of = effects.iter().filter(|(lane, _)| lane.split('.').next() == Some(target));
        of.map(|(_, numbers)| numbers.len()).sum()
    }

    pub(crate) async fn position(&self, member: &Member, position: i64) {
        eventually("the source is complete", SOON, async || {
            let progress = member.handle.progress.borrow();
            progress.partitions.get(&0).is_some_and(|at| at.position == position)
        })
        .await;
    }

    pub(crate) async fn ask(&self, target: &str, wish: Wish) {
        self.cursors.ask(&self.at, &CursorWish { target: target.into(), wish }).await.expect("there");
        eventually("the wish is granted", SOON, async || {
            self.cursors.wishes(&self.at).await.expect("there").is_empty()
        })
        .await;
    }

    /// Nothing is left behind: no cursor, no copy in another topic, nothing repeated or overtaken.
    async fn assert_clean(&self) {
        eventually("no cursor is left", SOON, async || self.cursors.rows(&self.at).is_empty()).await;
        self.outside.assert_order();
        let attempts = self.outside.attempts.lock().expect("no panic");
        let repeated: Vec<_> = attempts.iter().filter(|(_, attempts)| **attempts != 1).collect();
        assert!(repeated.is_empty(), "{repeated:?}");
    }

    pub(crate) async fn copies(&self) -> usize {
        let retry = self.kafka.all(self.spec.retry.as_deref().expect("set")).await;
        retry.iter().filter(|record| record.headers.text("of-marker").is_none()).count()
    }
}

/// Invariants 1 (completion), 2 (order), 3 (isolation), 6 (bounds) and 7 (balance).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_takes_a_task_a_minute_of_a_fast_stream_delays_nobody_and_loses_nothing() {
    let scene = Scene::new("cursor-slow").await;
    scene.outside.set_pace("crawl", Some(Duration::from_secs(60)));
    let member = scene.start();
    let most = std::cell::Cell::new(0);
    for round in 0..20 {
        scene.send(&["crawl", "quick"], 10, round, round + 1).await;
        let wanted = usize::try_from(round + 1).expect("small") * 10;
        eventually("the quick target is served at once", Duration::from_secs(30), async || {
            let balance = member.handle.progress.borrow().balance;
            most.set(most.get().max(balance.in_flight));
            assert!(balance.holds(), "{balance:?}");
            scene.effects("quick") >= wanted
        })
        .await;
    }
    // All but its share is neither in memory nor in another topic, and the source doesn't wait for it.
    scene.position(&member, 400).await;
    assert!(most.get() <= 100, "{most:?} tasks in memory");
    assert!(scene.effects("crawl") < 60, "it is slow");
    assert_eq!(scene.copies().await, 0);
    assert!(matches!(scene.cursors.rows(&scene.at)[..], [ref row] if row.state == CursorState::Detached));
    scene.outside.set_pace("crawl", None);
    eventually("the slow target got all", SOON, async || scene.effects("crawl") == 200).await;
    member.settled().await;
    scene.assert_clean().await;
    member.leave().await;
    assert_eq!(scene.copies().await, 0);
}

/// Invariant 3 (isolation): a cursor is for those who would hold others up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_has_the_stream_to_itself_needs_no_cursor_until_it_is_slow() {
    let scene = Scene::new("cursor-alone").await;
    scene.outside.set_pace("alone", Some(Duration::from_millis(1)));
    scene.send(&["alone"], 20, 0, 50).await;
    let member = scene.start();
    eventually("it has got most", SOON, async || scene.effects("alone") >= 600).await;
    assert_eq!(member.handle.progress.borrow().balance.handed, 0);
    scene.outside.set_pace("alone", Some(LONG));
    scene.send(&["other"], 10, 0, 1).await;
    eventually("what comes behind it is served", SOON, async || scene.effects("other") == 10).await;
    assert!(matches!(scene.cursors.rows(&scene.at)[..], [ref row] if row.state == CursorState::Detached));
    scene.outside.set_pace("alone", None);
    eventually("it has got all", SOON, async || scene.effects("alone") == 1_000).await;
    member.settled().await;
    scene.assert_clean().await;
    member.leave().await;
}

/// Invariants 1 (completion) and 2 (order).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_for_a_long_backlog_is_caught_up_in_order_across_restarts() {
    let scene = Scene::new("cursor-down").await;
    scene.outside.set_pace("down", Some(LONG));
    scene.send(&["down", "up"], 20, 0, 30).await;
    let mut spec = scene.spec.clone();
    spec.options.shutdown_drain = Duration::from_millis(500);
    let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let first = Member::start(&scene.kafka, &spec, &scene.outside, &plan);
    eventually("the other target is served", SOON, async || scene.effects("up") == 600).await;
    first.stop.cancel();
    first.handle.join.await.expect("no panic").expect("no error");
    // The task that ran was cut off, and may be tried again.
    scene.outside.attempts.lock().expect("no panic").clear();
    let second = scene.start();
    scene.send(&["down", "up"], 20, 30, 35).await;
    eventually("the other target is served", SOON, async || scene.effects("up") == 700).await;
    assert_eq!(scene.effects("down"), 0);
    scene.outside.set_pace("down", None);
    eventually("it is caught up", SOON, async || scene.effects("down") == 700).await;
    second.settled().await;
    scene.assert_clean().await;
    second.leave().await;
}

/// Invariant 1 (completion): a row goes only when the source can't bring its records again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_right_after_attaching_with_an_old_watermark_repeats_nothing_that_is_finished() {
    let mut scene = Scene::new("cursor-attach").await;
    // Without the map everything above the watermark comes by again.
    scene.spec.options.completed_runs_map = false;
    scene.outside.set_pace("stuck", Some(LONG));
    scene.outside.set_pace("late", Some(LONG));
    scene.send(&["stuck"], 1, 0, 1).await;
    scene.send(&["late"], 10, 0, 20).await;
    let first = scene.start();
    eventually("it is detached", SOON, async || {
        first.handle.progress.borrow().partitions.get(&0).is_some_and(|at| at.detached == 1)
    })
    .await;
    scene.outside.set_pace("late", None);
    eventually("all of it is attached and stored", SOON, async || {
        let rows = scene.cursors.rows(&scene.at);
        scene.effects("late") == 200
            && matches!(&rows[..], [row] if row.until == Some(201) && row.next == 201)
    })
    .await;
    assert_eq!(first.handle.progress.borrow().partitions[&0].position, 0, "the watermark is old");
    first.die().await;
    scene.outside.attempts.lock().expect("no panic").remove(&("stuck.0".to_owned(), 0));
    scene.outside.set_pace("stuck", None);
    let second = scene.start();
    eventually("the stuck one is done", SOON, async || scene.effects("stuck") == 1).await;
    second.settled().await;
    scene.position(&second, 201).await;
    scene.assert_clean().await;
    assert_eq!(scene.effects("late"), 200, "none of it was done again");
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_a_paused_target_is_kept_for_it_until_it_is_resumed() {
    let scene = Scene::new("cursor-pause").await;
    scene.send(&["shop", "other"], 5, 0, 4).await;
    let first = scene.start();
    eventually("they are served", SOON, async || scene.effects("shop") + scene.effects("other") == 40).await;
    scene.outside.set_state("shop", TargetState::Held("paused by its owner".into()));
    scene.send(&["shop", "other"], 5, 4, 20).await;
    eventually("the other is served", SOON, async || scene.effects("other") == 100).await;
    scene.position(&first, 200).await;
    assert_eq!(scene.effects("shop"), 20);
    let held = CursorState::Held("paused by its owner".into());
    eventually(
        "it is held where it was",
        SOON,
        async || matches!(&scene.cursors.rows(&scene.at)[..], [row] if row.state == held && row.next == 40),
    )
    .await;
    first.leave().await;
    let second = scene.start();
    scene.send(&["other"], 1, 20, 21).await;
    eventually("the other is served", SOON, async || scene.effects("other") == 101).await;
    assert_eq!(scene.effects("shop"), 20, "still paused");
    scene.outside.set_state("shop", TargetState::Flowing);
    eventually("it got what was kept", SOON, async || scene.effects("shop") == 100).await;
    second.settled().await;
    scene.assert_clean().await;
    second.leave().await;
}

/// Invariant 4 (identity), where one copy came to the live stream and the other is the cursor's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_written_again_behind_the_place_where_its_target_was_detached_takes_effect_once() {
    let scene = Scene::new("cursor-repeat").await;
    let member = scene.start();
    scene.send(&["shop"], 1, 0, 2).await;
    eventually("it is served", SOON, async || scene.effects("shop") == 2).await;
    scene.outside.set_state("shop", TargetState::Held("paused by its owner".into()));
    scene.send(&["shop"], 1, 2, 3).await;
    eventually("it is detached", SOON, async || scene.cursors.rows(&scene.at).len() == 1).await;
    // The first once more, the first with other bytes, and one that is new.
    let again = ["shop.0 0", "shop.0 00", "shop.0 3"].map(str::to_owned);
    scene.kafka.send(&scene.spec.source, 0, "k", &again).await;
    scene.position(&member, 6).await;
    let balance = member.handle.progress.borrow().balance;
    assert_eq!((balance.skipped, balance.dead), (1, 1), "the live stream knows both");
    scene.outside.set_state("shop", TargetState::Flowing);
    eventually("it got the new ones", SOON, async || scene.outside.of("shop.0").contains(&3)).await;
    member.settled().await;
    scene.assert_clean().await;
    assert_eq!(scene.outside.of("shop.0"), [0, 1, 2, 3]);
    member.leave().await;
}

/// Invariants 1 (completion), 2 (order) and 6 (bounds).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_is_read_and_stored_once_however_often_it_is_probed() {
    let scene = Scene::new("cursor-away").await;
    scene.outside.set_state("away", TargetState::Away("nobody answers".into()));
    let is_back = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_back);
    let plan: Arc<Plan> = Arc::new(move |lane: &str, _, _| {
        if lane.starts_with("away") && !answers.load(Ordering::SeqCst) {
            return Outcome::Postponed(Failure::new(ErrorClass::Unavailable, "nobody answers"));
        }
        Outcome::Done
    });
    scene.send(&["away", "there"], 20, 0, 30).await;
    let member = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    eventually("the other is served", SOON, async || scene.effects("there") == 600).await;
    scene.position(&member, 1_200).await;
    let tried = || -> u32 {
        let attempts = scene.outside.attempts.lock().expect("no panic");
        attempts.iter().filter(|((lane, _), _)| lane.starts_with("away")).map(|(_, tries)| *tries).sum()
    };
    let first = || tried() > 0 && scene.cursors.rows(&scene.at).len() == 1;
    eventually("it alone is detached, and was tried", SOON, async || first()).await;
    let decoded = || scene.outside.decoded.load(Ordering::SeqCst);
    let (decoded_before, written_before) = (decoded(), scene.cursors.written(&scene.at));
    for probe in 1..=10 {
        scene.outside.set_shut("away", true);
        let before = tried();
        scene.outside.set_shut("away", false);
        eventually("it is probed", SOON, async || tried() > before).await;
        assert!(member.handle.progress.borrow().balance.in_flight <= 1, "after {probe} probes");
    }
    let written = scene.cursors.written(&scene.at) - written_before;
    assert!(written <= 1, "what the reader passed over, and no probe: {written} rows for ten probes");
    assert!(matches!(&scene.cursors.rows(&scene.at)[..], [row] if row.state == CursorState::Detached));
    assert_eq!(decoded() - decoded_before, 0, "nothing is read again for a probe");
    is_back.store(true, Ordering::SeqCst);
    scene.outside.set_state("away", TargetState::Flowing);
    eventually("it is caught up", SOON, async || scene.effects("away") == 600).await;
    member.settled().await;
    eventually("no cursor is left", SOON, async || scene.cursors.rows(&scene.at).is_empty()).await;
    scene.outside.assert_order();
    assert_eq!(scene.copies().await, 0);
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_deleted_gets_nothing_more_and_keeps_nothing_back() {
    let scene = Scene::new("cursor-gone").await;
    scene.outside.set_state("shop", TargetState::Held("paused".into()));
    scene.send(&["shop"], 5, 0, 10).await;
    let member = scene.start();
    scene.position(&member, 50).await;
    assert_eq!(scene.cursors.rows(&scene.at).len(), 1);
    scene.outside.set_state("shop", TargetState::Gone);
    member.settled().await;
    scene.assert_clean().await;
    assert_eq!(scene.effects("shop"), 0);
    member.leave().await;
}

/// Invariant 8 (nothing lost): what has left the log is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_the_log_before_a_cursor_read_it_is_a_recorded_gap() {
    let scene = Scene::new("cursor-gap").await;
    scene.outside.set_state("shop", TargetState::Held("paused".into()));
    scene.send(&["shop"], 1, 0, 30).await;
    let member = scene.start();
    scene.position(&member, 30).await;
    scene.kafka.delete_records(&scene.spec.source, 0, 20).await;
    scene.outside.set_state("shop", TargetState::Flowing);
    eventually("it got what is left", SOON, async || scene.effects("shop") == 10).await;
    eventually("the gap is recorded", SOON, async || !scene.cursors.gaps(&scene.at).is_empty()).await;
    let gaps = scene.cursors.gaps(&scene.at);
    assert!(matches!(&gaps[..], [gap] if (gap.from, gap.to) == (0, 20)), "{gaps:?}");
    eventually("no cursor is left", SOON, async || scene.cursors.rows(&scene.at).is_empty()).await;
    member.leave().await;
}

/// Invariant 3 (isolation): records that are opened ahead for the sake of urgent ones make no target look slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_opened_ahead_takes_no_target_to_a_cursor() {
    let mut scene = Scene::new("cursor-ahead").await;
    scene.spec.options.concurrency = 4;
    scene.outside.has_priorities.store(true, std::sync::atomic::Ordering::SeqCst);
    scene.send(&["a", "b"], 50, 0, 10).await;
    let member = scene.start();
    scene.position(&member, 1_000).await;
    member.settled().await;
    assert_eq!(member.handle.progress.borrow().balance.handed, 0);
    scene.assert_clean().await;
    member.leave().await;
}

/// Somebody claims the cursors with that number while their owner works on the partition. Gives what came of it, and how often
/// the partition was taken up.
async fn claimed_beside(subject: &str, number: i64) -> (Claimed, usize) {
    let scene = Scene::new(subject).await;
    scene.outside.set_state("shop", TargetState::Held("paused".into()));
    let member = scene.start();
    scene.send(&["shop", "fast"], 3, 0, 10).await;
    eventually("one is told, the other has a cursor", SOON, async || {
        scene.effects("fast") == 30 && !scene.cursors.rows(&scene.at).is_empty()
    })
    .await;
    let claimed = scene.cursors.claim(&scene.at, number).await.expect("there");
    scene.outside.set_state("shop", TargetState::Flowing);
    scene.send(&["shop", "fast"], 3, 10, 20).await;
    eventually("both are told", SOON, async || scene.outside.distinct() == 120).await;
    scene.position(&member, 120).await;
    eventually("no cursor is left", SOON, async || scene.cursors.rows(&scene.at).is_empty()).await;
    scene.outside.assert_order();
    member.leave().await;
    let retry = scene.kafka.all(scene.spec.retry.as_deref().expect("set")).await;
    (claimed, retry.iter().filter(|record| record.headers.text("of-marker").is_some()).count())
}

/// A member that froze on its way to claim the cursors, and does so when another one works on the partition, takes nothing
/// from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_claim_of_the_cursors_is_refused() {
    assert_eq!(claimed_beside("cursors-late", 1).await, (Claimed::Above(1), 1));
}

/// Positions that were reset by hand, or a program that numbers otherwise: the true owner takes the partition up anew and
/// claims above that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_claim_of_the_cursors_leaves_the_partition_to_its_owner() {
    let (claimed, times) = claimed_beside("cursors-higher", 50).await;
    assert!(matches!(claimed, Claimed::Ours(_)), "{claimed:?}");
    assert_eq!(times, 2);
}
