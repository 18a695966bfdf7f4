//! What surrounds a handler: its time-out, and the hooks before an attempt, after it, and when its task is given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use orderflow::runtime::{ErrorClass, Failure, Outcome, PartitionFault};
use tokio::sync::watch;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};

const SOON: Duration = Duration::from_secs(60);

/// Invariant 3 (isolation): nobody waits for a handler that hangs; what it hung at is tried again, then given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_beyond_the_time_out_is_cut_off_and_tried_again_and_at_last_given_up() {
    for kafka in [TestKafka::new("timeout"), TestKafka::embedded("timeout")] {
        let mut spec = kafka.stage("courier", 1, true).await;
        spec.options.timeout = Some(Duration::from_millis(200));
        let outside = Arc::new(Outside::default());
        let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
        let values = ["slow.a 0", "slow.a 1", "all.b 0", "all.b 1"].map(str::to_owned);
        kafka.send(&spec.source, 0, "k", &values).await;
        let (open, hangs) = watch::channel(false);
        let member = Member::start_with(&kafka, &spec, &outside, &plan, hangs);
        eventually("the other lane goes on", SOON, async || outside.of("all.b") == [0, 1]).await;
        eventually("it is tried again", SOON, async || outside.attempts_of("slow.a", 0) == 2).await;
        eventually("it is given up after three retries", SOON, async || {
            kafka.all(&spec.dead_letters).await.len() == 1
        })
        .await;
        open.send(true).expect("it is listened to");
        member.settled().await;
        assert_eq!(outside.attempts_of("slow.a", 0), 4);
        assert_eq!(outside.of("slow.a"), [1], "what came behind it went on");
        let dead = kafka.all(&spec.dead_letters).await;
        assert_eq!(text(&dead[0]), "slow.a 0");
        assert_eq!(dead[0].headers.text("of-error-class"), Some("exhausted"));
        let error = dead[0].headers.text("of-error").unwrap_or_default();
        assert!(error.contains("longer than 200ms and was cut off"), "{error}");
        let told = outside.given_up.lock().expect("no panic").clone();
        assert_eq!(told, [("slow.a".to_owned(), 0, ErrorClass::Exhausted)]);
        let (begun, ended) = (outside.begun.load(Ordering::SeqCst), outside.ended.load(Ordering::SeqCst));
        assert!(begun >= 7 && begun == ended, "{begun} attempts were begun, and {ended} ended");
        member.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_task_is_cut_off_like_any_other() {
    let kafka = TestKafka::new("timeout-parked");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.timeout = Some(Duration::from_millis(200));
    // Every retry waits in the retry topic, and is read back from there.
    spec.options.in_place_limit = Duration::ZERO;
    spec.options.max_parked_bytes = 0;
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    kafka.send(&spec.source, 0, "k", &["slow.a 0".to_owned()]).await;
    let (open, hangs) = watch::channel(false);
    let member = Member::start_with(&kafka, &spec, &outside, &plan, hangs);
    eventually("it is tried again", SOON, async || outside.attempts_of("slow.a", 0) == 3).await;
    open.send(true).expect("it is listened to");
    member.settled().await;
    assert_eq!(outside.of("slow.a"), [0]);
    assert!(outside.given_up.lock().expect("no panic").is_empty());
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_stops_by_name_when_its_stage_can_not_bear_to_give_up() {
    let kafka = TestKafka::new("clings");
    let spec = kafka.stage("courier", 1, true).await;
    let outside = Arc::new(Outside::default());
    outside.clings.store(true, Ordering::SeqCst);
    let plan: Arc<Plan> =
        Arc::new(|_: &str, _, _| Outcome::Dead(Failure::new(ErrorClass::Rejected, "never")));
    kafka.send(&spec.source, 0, "k", &["all.a 0".to_owned()]).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("it stops", SOON, async || {
        let progress = member.handle.progress.borrow();
        progress.faults().iter().any(
            |fault| matches!(fault, PartitionFault::Fatal { offset: 0, why, .. } if why.contains("nobody can be told")),
        )
    })
    .await;
    assert!(kafka.all(&spec.dead_letters).await.is_empty());
    member.leave_early().await;
}
