//! Scenarios with a size of their own: two hundred rebalances, and how long a take-over lasts with much parked. Ignored
//! by default, because they take minutes; docs/testing.md has the commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orderflow::runtime::OutRecord;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::broker::Broker;
use crate::harness::eventually;
use crate::member::Member;
use crate::outside::{FIRST_LATE_LANE, PARTITIONS};
use crate::plan::{Fault, StoreKind};
use crate::results;
use crate::run::conclude;
use crate::scene::Scene;
use crate::traffic::task_record;

/// The smallest that a broker allows by default.
const SESSION: Duration = Duration::from_secs(6);

fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Two hundred rebalances in ten minutes under load: nothing lost, nothing stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes up to ten minutes; see docs/testing.md"]
async fn two_hundred_rebalances_under_load_lose_nothing_and_leave_nothing_stuck() {
    let count = asked("ORDERFLOW_FAULTS_REBALANCES", 200);
    let began = Instant::now();
    eprintln!("commit {}", results::commit());
    let mut broker = Broker::start().await;
    let mut scene = Scene::open(&mut broker, 0, StoreKind::Postgres, Duration::from_secs(3)).await;
    let mut random = SmallRng::seed_from_u64(0);
    scene.join(false);
    scene.start_traffic();
    scene.resumes("the start", 0, Duration::from_secs(20)).await;
    for at in 0..count {
        let leaves = scene.members.len() > 3 || scene.members.len() > 1 && random.random_bool(0.5);
        let from = scene.outside.now_ms();
        if leaves {
            let which = random.random_range(0..scene.members.len());
            let member = scene.members.remove(which);
            member.ask_to_leave();
            scene.leaves(member).await;
        } else {
            scene.join(false);
            let newest: &mut Member = scene.members.last_mut().expect("just joined");
            newest.is_up().await;
            let mut status = newest.status.clone();
            // With more members than partitions one of them gets none.
            let gets = status.wait_for(|status| status.partitions > 0);
            let _ = tokio::time::timeout(Duration::from_secs(2), gets).await;
        }
        scene.resumes(&format!("rebalance {at}"), from, Duration::from_secs(8)).await;
        scene.look_after_members();
    }
    let seconds = began.elapsed().as_secs_f64();
    let report = conclude(scene, vec![format!("{count} rebalances")], began).await;
    let slowest = report.resumed_ms.iter().map(|(_, took)| *took).max();
    results::append(&json!({
        "scenario": "rebalances", "rebalances": count, "seconds": seconds, "verdict": report.verdict,
        "counts": report.counts, "rows": report.rows, "rows_lost": report.rows_lost,
        "rows_doubled": report.rows_doubled, "slowest_resume_ms": slowest, "problems": report.problems,
    }));
    assert!(report.problems.is_empty(), "{}", report.timeline.join("\n"));
}

/// Progress resumes within session time-out + 5 s after the SIGKILL of a member, and within 5 s of the broker's return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; see docs/testing.md"]
async fn with_ten_thousand_parked_a_take_over_is_as_quick_as_promised() {
    take_over(false).await;
}

/// The same for members with names (`kafka.group_instance_id`), for whom a group doesn't wait after a long outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; see docs/testing.md"]
async fn with_ten_thousand_parked_named_members_go_on_soon_after_a_long_outage() {
    take_over(true).await;
}

async fn take_over(is_static: bool) {
    let parked = asked("ORDERFLOW_FAULTS_PARKED", 10_000);
    eprintln!("commit {}", results::commit());
    let mut broker = Broker::start().await;
    let mut scene = Scene::open(&mut broker, 0, StoreKind::Postgres, SESSION).await;
    scene.is_static = is_static;
    scene.join(false);
    scene.join(false);
    let source: Arc<str> = scene.spec.source.as_str().into();
    let late = FIRST_LATE_LANE..FIRST_LATE_LANE + u32::try_from(parked).expect("a number of lanes");
    let records: Vec<OutRecord> = late.map(|lane| task_record(&source, lane, 0)).collect();
    let producer = scene.kafka.producer.clone();
    for records in records.chunks(1_000) {
        for sent in
            futures_util::future::join_all(records.iter().map(|record| producer.send(record.clone()))).await
        {
            sent.expect("acknowledged");
        }
    }
    eventually("all of it is parked", Duration::from_secs(120), async || {
        scene.members.iter().map(|member| member.status.borrow().parked).sum::<u64>() == parked
    })
    .await;
    scene.start_traffic();
    let from = scene.outside.now_ms();
    scene.resumes("all was parked", from, Duration::from_secs(20)).await;
    scene.inject(&Fault::KillMember { which: 0, away: Duration::ZERO }).await;
    eventually("all is read back", Duration::from_secs(60), async || {
        let states = || scene.members.iter().map(|member| member.status.borrow());
        states().map(|status| status.partitions).sum::<usize>() == PARTITIONS as usize
            && states().map(|status| status.parked).sum::<u64>() >= parked
    })
    .await;
    scene.inject(&Fault::KillBroker { away: Duration::ZERO }).await;
    scene.inject(&Fault::KillBroker { away: SESSION }).await;
    scene.stop_traffic().await;
    scene.end_members().await;
    results::append(&json!({
        "scenario": "take-over", "parked": parked, "named_members": is_static, "session_ms": SESSION.as_millis() as u64,
        "verdict": if scene.problems.is_empty() { "ok" } else { "failed" },
        "resumed_ms": scene.resumed, "problems": scene.problems,
    }));
    let (problems, timeline) = (std::mem::take(&mut scene.problems), scene.timeline.join("\n"));
    scene.store.end().await;
    assert!(problems.is_empty(), "{timeline}");
}
