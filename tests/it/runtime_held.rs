//! What becomes of a lane whose first task was given up: it goes on, or it is held until somebody decides.

use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::redrive::DeadLetter;
use orderflow::runtime::retry::Mark;
use orderflow::runtime::{ErrorClass, Failure, Outcome};

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};

const SOON: Duration = Duration::from_secs(60);

fn refused() -> Outcome {
    Outcome::Dead(Failure::new(ErrorClass::Rejected, "never"))
}

/// Rule 7, and invariant 2 (order) in full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lane_waits_through_a_restart_until_its_dead_letter_is_redriven() {
    let kafka = TestKafka::new("held");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.holds_lanes = true;
    let retry: Arc<str> = spec.retry.as_deref().expect("set").into();
    let outside = Arc::new(Outside::default());
    let refusing: Arc<Plan> = Arc::new(|lane: &str, number, _| match (lane, number) {
        ("all.a", 0) => refused(),
        _ => Outcome::Done,
    });
    let values = ["all.a 0", "all.a 1", "all.b 0", "all.a 2"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let first = Member::start(&kafka, &spec, &outside, &refusing);
    eventually("the lane is held, with what follows", SOON, async || {
        first.handle.progress.borrow().balance.parked == 3
    })
    .await;
    assert_eq!(outside.of("all.b"), [0], "no other lane waits");
    first.assert_balance();
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["all.a 0"]);
    let held = kafka.all(&retry).await.into_iter().filter_map(|record| Mark::read(&record.headers).ok());
    assert_eq!(held.filter(|mark| mark.held).map(|mark| mark.source.offset).collect::<Vec<_>>(), [0]);
    first.leave_early().await;

    let done: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let second = Member::start(&kafka, &spec, &outside, &done);
    kafka.send(&spec.source, 0, "k", &["all.a 3".to_owned()]).await;
    eventually("the later one waits too", SOON, async || second.handle.progress.borrow().balance.parked == 4)
        .await;
    assert_eq!(outside.of("all.a"), [0u64; 0]);
    let letter = DeadLetter::read(dead[0].clone()).expect("ours");
    kafka.producer.send(letter.to_retry(&retry, "by-hand")).await.expect("acknowledged");
    eventually("the lane goes on", SOON, async || outside.of("all.a").len() == 4).await;
    second.settled().await;
    assert_eq!(outside.of("all.a"), [0, 1, 2, 3]);
    second.leave().await;
}

/// The policy says which failures are worth another attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_retryable_is_given_up_at_once_and_the_rest_is_tried_again() {
    let kafka = TestKafka::new("not-retryable");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.not_retryable = [ErrorClass::Rejected].into();
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, number, attempt| {
        let class = if number == 0 { ErrorClass::Rejected } else { ErrorClass::Timeout };
        match attempt {
            1 => Outcome::Retry { after: Duration::ZERO, why: Failure::new(class, "no") },
            _ => Outcome::Done,
        }
    });
    kafka.send(&spec.source, 0, "k", &["all.a 0".to_owned(), "all.a 1".to_owned()]).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the lane goes on", SOON, async || outside.of("all.a") == [1]).await;
    member.settled().await;
    assert_eq!((outside.attempts_of("all.a", 0), outside.attempts_of("all.a", 1)), (1, 2));
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!((dead.len(), dead[0].headers.text("of-error-class")), (1, Some("rejected")));
    let told = outside.given_up.lock().expect("no panic").clone();
    assert_eq!(told, [("all.a".to_owned(), 0, ErrorClass::Rejected)], "its stage was told");
    member.leave().await;
}

/// Rule 7: a lane has an age limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_grew_too_old_is_given_up_before_its_attempts_are_used_up() {
    let kafka = TestKafka::new("too-old");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::ZERO;
    // The first delay fits into it and no second one does, however late the second attempt begins.
    spec.options.age_limit = Some(Duration::from_secs(3));
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, number, _| match number {
        0 => Outcome::Retry {
            after: Duration::from_secs(2),
            why: Failure::new(ErrorClass::Unavailable, "come back later"),
        },
        _ => Outcome::Done,
    });
    kafka.send(&spec.source, 0, "k", &["all.a 0".to_owned(), "all.a 1".to_owned()]).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the lane goes on", SOON, async || outside.of("all.a") == [1]).await;
    member.settled().await;
    assert_eq!(outside.attempts_of("all.a", 0), 2);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead[0].headers.text("of-error-class"), Some("exhausted"));
    let told = outside.given_up.lock().expect("no panic").clone();
    assert_eq!(told, [("all.a".to_owned(), 0, ErrorClass::Exhausted)], "its stage was told");
    member.leave().await;
}
