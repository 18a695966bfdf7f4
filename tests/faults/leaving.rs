//! Leaving in the middle of a rebalance, which a rolling restart brings about whenever a member has died.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::plan::StoreKind;
use crate::run::conclude;
use crate::scene::Scene;

/// Long enough for the one that leaves to find its commit behind a join that waits for the dead one.
const SESSION: Duration = Duration::from_secs(5);

/// Invariant 1 (completion): what a member did before it left is committed, though the group is between generations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute; see docs/testing.md"]
async fn a_member_that_leaves_while_the_group_waits_for_a_dead_one_commits_what_it_did() {
    let began = Instant::now();
    let mut broker = Broker::start().await;
    let mut scene = Scene::open(&mut broker, 0, StoreKind::Postgres, SESSION).await;
    scene.join(false);
    scene.join(false);
    scene.start_traffic();
    scene.resumes("the start", 0, Duration::from_secs(20)).await;
    scene.kill_in_silence(1).await;
    // The newcomer's wish to join begins the rebalance; it can't end before the dead one's session does.
    scene.join(false);
    scene.members[1].is_up().await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let leaving = scene.members.remove(0);
    let (id, from) = (leaving.id, scene.outside.now_ms());
    leaving.ask_to_leave();
    scene.tell(format!("member {id} is asked to leave"));
    let status = leaving.left().await.expect("it leaves");
    scene.tell(format!("member {id} left: {status:?}"));
    scene.resumes("it left", from, SESSION * 2 + Duration::from_secs(5)).await;
    let report = conclude(scene, vec!["leaving in a rebalance".to_owned()], began).await;
    let timeline = report.timeline.join("\n");
    eprintln!("{timeline}");
    assert_eq!(status.drained, Some(true));
    assert!(report.problems.is_empty());
}
