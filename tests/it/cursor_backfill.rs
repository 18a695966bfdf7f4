//! Backfills on a real Kafka: a target gets a stretch of the log once more, as fast and as much of it as was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orderflow::runtime::cursor::{Backfill, BackfillProgress, BackfillState, CursorState, Wish};
use orderflow::runtime::{ErrorClass, Failure, Outcome, Record, TargetState};

use crate::cursors::Scene;
use crate::harness::courier::{Member, Plan};
use crate::harness::eventually;

const SOON: Duration = Duration::from_secs(60);

fn backfill(id: &str, from: i64, to: Option<i64>) -> Backfill {
    Backfill { id: id.into(), from, to, every: None, newest_only: false }
}

impl Scene {
    /// How far the backfill called `id` is, once it has ended.
    async fn ended(&self, id: &str) -> BackfillProgress {
        eventually("the backfill ends", SOON, async || {
            self.cursors.backfill(&self.at, id).is_some_and(|told| told.state != BackfillState::Running)
        })
        .await;
        self.cursors.backfill(&self.at, id).expect("told")
    }

    async fn no_cursor_is_left(&self) {
        eventually("no cursor is left", SOON, async || self.cursors.rows(&self.at).is_empty()).await;
        self.outside.assert_order();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_is_delivered_again_and_nothing_around_it() {
    let scene = Scene::new("backfill-stretch").await;
    let member = scene.start();
    scene.send(&["shop", "other"], 1, 0, 50).await;
    eventually("they are served", SOON, async || scene.effects("shop") + scene.effects("other") == 100).await;
    member.settled().await;
    // Offsets are even for the shop: its numbers 10 to 29.
    scene.ask("shop", Wish::Backfill(backfill("b", 20, Some(60)))).await;
    let told = scene.ended("b").await;
    assert_eq!((told.state, told.from, told.at, told.to), (BackfillState::Done, 20, 60, 60));
    assert_eq!((told.delivered, told.set_aside), (20, 0));
    scene.no_cursor_is_left().await;
    let times = |number| scene.outside.attempts_of("shop.0", number);
    assert_eq!(
        (0..50).map(times).collect::<Vec<_>>(),
        [[1; 10], [2; 10], [2; 10], [1; 10], [1; 10]].concat()
    );
    assert_eq!(scene.effects("other"), 50, "nobody else's");
    member.settled().await;
    // Where there is nothing to go back to, it is over at once.
    scene.ask("shop", Wish::Backfill(backfill("c", 100, None))).await;
    assert_eq!(scene.ended("c").await.state, BackfillState::Done);
    scene.outside.set_state("other", TargetState::Gone);
    scene.ask("other", Wish::Backfill(backfill("d", 0, None))).await;
    assert_eq!(scene.ended("d").await.state, BackfillState::Cancelled);
    assert_eq!((scene.effects("shop"), scene.effects("other")), (70, 50));
    member.leave().await;
}

/// Invariant 2 (order): live events wait behind a backfill, also across a restart in its middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_goes_on_where_it_was_after_a_restart_and_live_events_wait_behind_it() {
    let scene = Scene::new("backfill-restart").await;
    let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let first = scene.start();
    scene.send(&["shop"], 4, 0, 50).await;
    eventually("it is served", SOON, async || scene.effects("shop") == 200).await;
    first.settled().await;
    scene.outside.effects.lock().expect("no panic").clear();
    scene.outside.set_pace("shop", Some(Duration::from_millis(10)));
    scene.ask("shop", Wish::Backfill(backfill("b", 0, None))).await;
    scene.send(&["shop"], 4, 50, 55).await;
    eventually("it is on its way", SOON, async || {
        scene.effects("shop") >= 60 && scene.cursors.rows(&scene.at).iter().any(|row| row.next >= 40)
    })
    .await;
    let told = scene.cursors.backfill(&scene.at, "b").expect("told");
    assert!(told.at >= 40 && told.delivered >= 40, "{told:?}");
    // Leaving may take its time: what is left would need half a minute.
    scene.outside.set_pace("shop", Some(Duration::from_secs(1)));
    first.leave().await;
    let done = scene.effects("shop");
    assert!(done < 200, "{done}: it was in its middle");
    let second = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    scene.outside.set_pace("shop", None);
    let told = scene.ended("b").await;
    assert_eq!((told.state, told.at, told.delivered), (BackfillState::Done, 200, 200), "each counted once");
    eventually("live ones came behind", SOON, async || scene.effects("shop") == 220).await;
    second.settled().await;
    scene.no_cursor_is_left().await;
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_backfill_leaves_the_target_where_it_was() {
    let scene = Scene::new("backfill-cancel").await;
    let member = scene.start();
    scene.send(&["new"], 1, 0, 50).await;
    eventually("it is served", SOON, async || scene.effects("new") == 50).await;
    member.settled().await;
    scene.outside.set_pace("new", Some(Duration::from_secs(1)));
    scene.ask("new", Wish::Backfill(backfill("b", 10, None))).await;
    eventually("it goes back", SOON, async || scene.outside.attempts_of("new.0", 12) == 2).await;
    scene.ask("new", Wish::CancelBackfill("other".into())).await;
    eventually("it goes on", SOON, async || scene.outside.attempts_of("new.0", 14) == 2).await;
    scene.ask("new", Wish::CancelBackfill("b".into())).await;
    let told = scene.ended("b").await;
    assert_eq!((told.state, told.to), (BackfillState::Cancelled, 50));
    assert!((12..45).contains(&told.at), "{told:?}");
    scene.outside.set_pace("new", None);
    scene.send(&["new"], 1, 50, 55).await;
    eventually("the new ones arrive", SOON, async || scene.outside.of("new.0").contains(&54)).await;
    member.settled().await;
    assert_eq!(scene.outside.attempts_of("new.0", 9), 1, "before the backfill");
    assert_eq!(scene.outside.attempts_of("new.0", 45), 1, "cancelled before it came so far");
    scene.no_cursor_is_left().await;
    member.leave().await;
}

/// Invariant 1 (completion): what waited in the retry topic before a backfill began is delivered, whatever becomes of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_before_a_backfill_outlives_its_pause_and_its_cancel() {
    let mut scene = Scene::new("backfill-parked").await;
    scene.spec.options.in_place_limit = Duration::ZERO;
    let plan: Arc<Plan> = Arc::new(|lane: &str, number, attempt| match (lane, number, attempt) {
        ("shop.3", 1, 1) => Outcome::Retry {
            after: Duration::from_secs(15),
            why: Failure::new(ErrorClass::Unavailable, "come back later"),
        },
        _ => Outcome::Done,
    });
    let first = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    scene.send(&["shop"], 10, 0, 3).await;
    eventually("all but one lane is served", SOON, async || scene.effects("shop") == 28).await;
    eventually("the rest waits", SOON, async || first.handle.progress.borrow().balance.parked == 2).await;
    // Slow enough that the backfill is in its middle.
    scene.outside.set_pace("shop", Some(Duration::from_millis(200)));
    scene.ask("shop", Wish::Backfill(backfill("b", 0, None))).await;
    scene.outside.set_state("shop", TargetState::Held("paused by its owner".into()));
    eventually("it is held", SOON, async || {
        scene.cursors.rows(&scene.at).iter().any(|row| matches!(row.state, CursorState::Held(_)))
    })
    .await;
    first.leave().await;
    let second = Member::start(&scene.kafka, &scene.spec, &scene.outside, &plan);
    scene.ask("shop", Wish::CancelBackfill("b".into())).await;
    scene.outside.set_pace("shop", None);
    scene.outside.set_state("shop", TargetState::Flowing);
    eventually("what was parked is delivered", SOON, async || {
        let of = scene.outside.of("shop.3");
        of.contains(&1) && of.contains(&2)
    })
    .await;
    second.settled().await;
    scene.no_cursor_is_left().await;
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_bounds_a_backfill_and_nothing_else() {
    let scene = Scene::new("backfill-rate").await;
    let member = scene.start();
    scene.send(&["shop"], 10, 0, 12).await;
    eventually("it is served", SOON, async || scene.effects("shop") == 120).await;
    member.settled().await;
    let every = Some(Duration::from_millis(100));
    let begun = Instant::now();
    scene.ask("shop", Wish::Backfill(Backfill { every, ..backfill("b", 0, None) })).await;
    scene.send(&["quick"], 1, 0, 20).await;
    eventually("others are served", SOON, async || scene.effects("quick") == 20).await;
    assert!(scene.effects("shop") < 240, "while the backfill takes its time");
    scene.send(&["shop"], 10, 12, 20).await;
    scene.ended("b").await;
    // The first comes at once, and what was late is made up for within a second.
    assert!(begun.elapsed() >= Duration::from_millis(100 * 119 - 1_000), "{:?}", begun.elapsed());
    eventually("then the rest comes", SOON, async || scene.effects("shop") == 320).await;
    scene.no_cursor_is_left().await;
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_newest_of_each_lane_is_delivered_when_that_is_asked_for() {
    let scene = Scene::new("backfill-newest").await;
    let member = scene.start();
    scene.send(&["shop"], 20, 0, 30).await;
    // The last of one lane was written twice.
    scene.send(&["shop"], 1, 29, 30).await;
    eventually("it is served", SOON, async || scene.effects("shop") == 600).await;
    member.settled().await;
    let asked = Backfill { newest_only: true, ..backfill("b", 0, None) };
    scene.ask("shop", Wish::Backfill(asked)).await;
    let told = scene.ended("b").await;
    assert_eq!((told.state, told.delivered), (BackfillState::Done, 20));
    scene.send(&["shop"], 20, 30, 31).await;
    eventually("live ones follow", SOON, async || scene.effects("shop") == 640).await;
    for lane in 0..20 {
        let seen = scene.outside.of(&format!("shop.{lane}"));
        assert_eq!(seen[30..], [29, 30], "lane {lane}");
    }
    member.settled().await;
    scene.no_cursor_is_left().await;
    member.leave().await;
}

/// Invariant 8 (nothing lost): what has left the log comes from where it is kept, and what is nowhere is a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_left_the_log_is_delivered_from_where_it_is_kept() {
    let scene = Scene::new("backfill-past").await;
    scene.send(&["shop"], 2, 0, 300).await;
    let member = scene.start();
    eventually("it is served", SOON, async || scene.effects("shop") == 600).await;
    member.settled().await;
    let log: Vec<Record> = scene.kafka.all(&scene.spec.source).await;
    for record in log.into_iter().filter(|record| record.offset >= 100) {
        scene.cursors.keep(&scene.at, record);
    }
    scene.kafka.delete_records(&scene.spec.source, 0, 500).await;
    scene.ask("shop", Wish::Backfill(backfill("b", 0, None))).await;
    let told = scene.ended("b").await;
    assert_eq!((told.state, told.delivered), (BackfillState::Done, 500));
    let gaps = scene.cursors.gaps(&scene.at);
    assert!(matches!(&gaps[..], [gap] if (gap.from, gap.to) == (0, 100)), "{gaps:?}");
    let again = |number| scene.outside.attempts_of("shop.1", number);
    assert_eq!([again(49), again(50), again(299)], [1, 2, 2]);
    scene.no_cursor_is_left().await;
    member.leave().await;
}

/// Invariant 3 (isolation): a target that takes no time off its own backfill takes none off another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_target_holds_up_no_others_backfill_of_the_newest() {
    let scene = Scene::new("backfill-slow").await;
    let member = scene.start();
    let targets = ["a", "b", "c", "d", "e", "f"];
    scene.send(&targets, 5, 0, 6).await;
    eventually("all are served", SOON, async || targets.map(|target| scene.effects(target)) == [30; 6]).await;
    member.settled().await;
    scene.outside.set_pace("a", Some(Duration::from_secs(3_600)));
    for target in targets {
        let asked = Backfill { newest_only: true, ..backfill(target, 0, None) };
        scene.ask(target, Wish::Backfill(asked)).await;
    }
    for target in &targets[1..] {
        assert_eq!(scene.ended(target).await.delivered, 5, "{target}");
    }
    assert_eq!(scene.effects("a"), 30, "it hangs");
    scene.outside.set_pace("a", None);
    assert_eq!(scene.ended("a").await.delivered, 5);
    scene.no_cursor_is_left().await;
    member.leave().await;
}
