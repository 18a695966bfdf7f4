//! Urgent lanes on a real Kafka: they go first however many wait before them, and starve nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use orderflow::runtime::Outcome;
use tokio::sync::watch;

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

/// Lets all of `lanes` wait behind one that has the only slot, and gives the order in which they then took effect.
async fn served(subject: &str, lanes: Vec<String>) -> Vec<String> {
    let kafka = TestKafka::new(subject);
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.concurrency = 1;
    let outside = Arc::new(Outside::default());
    outside.has_priorities.store(true, Ordering::SeqCst);
    let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let values: Vec<String> = lanes.iter().map(|lane| format!("{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &["slow.gate 0".to_owned()]).await;
    kafka.send(&spec.source, 0, "k", &values).await;
    let (open, gate) = watch::channel(false);
    let member = Member::start_with(&kafka, &spec, &outside, &plan, gate);
    let waiting = lanes.len() as u64 + 1;
    eventually("all of them wait", SOON, async || {
        member.handle.progress.borrow().balance.in_flight == waiting
    })
    .await;
    open.send(true).expect("it is listened to");
    member.settled().await;
    outside.assert_order();
    member.leave().await;
    let sequence = outside.sequence.lock().expect("no panic");
    sequence.iter().filter(|lane| *lane != "slow.gate").cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispute_behind_five_thousand_waiting_lanes_starts_before_nearly_all_of_them() {
    let lanes = (0..5_000).map(|lane| format!("t{}.{lane}", lane % 8)).chain(["t3.urgent".to_owned()]);
    let served = served("urgent", lanes.collect()).await;
    assert_eq!(served.len(), 5_001);
    let before = served.iter().position(|lane| lane == "t3.urgent").expect("it took effect");
    assert!(before <= 50, "{before} of 5,000 came before it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lowest_priority_gets_its_share_while_urgent_ones_wait() {
    let lanes = (0..3_000).map(|lane| match lane % 3 {
        0 => format!("t.{lane}-urgent"),
        1 => format!("t.{lane}"),
        _ => format!("t.{lane}-low"),
    });
    let served = served("lowest", lanes.collect()).await;
    // As long as urgent ones wait.
    let last = served.iter().rposition(|lane| lane.ends_with("urgent")).expect("they took effect");
    let low = served[..last].iter().filter(|lane| lane.ends_with("low")).count();
    assert!(low * 20 >= last, "{low} of {last} starts");
    assert!(low * 5 <= last, "{low} of {last} starts: the urgent go first");
}
