//! One run of a plan, from the first member to the last, and what it came to.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::checks::{Counts, check};
use crate::plan::Plan;
use crate::scene::Scene;

/// Short, so that a run is short; a broker of ours allows it.
const SESSION: Duration = Duration::from_secs(3);
/// After the last fault everything has to end within this.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// A run's line in the results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) verdict: Verdict,
    pub(crate) faults: Vec<String>,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) rows: usize,
    pub(crate) rows_lost: usize,
    pub(crate) rows_doubled: usize,
    /// Fault, and milliseconds until every partition had gone on.
    pub(crate) resumed_ms: Vec<(String, u64)>,
    pub(crate) seconds: f64,
    pub(crate) problems: Vec<String>,
    /// What happened, in order.
    #[serde(skip)]
    pub(crate) timeline: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Failed,
}

/// Runs the plan on this broker.
pub(crate) async fn run(broker: &mut Broker, plan: &Plan) -> Report {
    let began = Instant::now();
    let mut scene = Scene::open(broker, plan.seed, plan.store, SESSION).await;
    scene.join(false);
    scene.join(false);
    scene.start_traffic();
    scene.resumes("the start", 0, Duration::from_secs(20)).await;
    for fault in &plan.faults {
        scene.inject(fault).await;
    }
    conclude(scene, plan.faults.iter().map(|fault| format!("{fault:?}")).collect(), began).await
}

/// Lets everything end, and checks.
pub(crate) async fn conclude(mut scene: Scene<'_>, faults: Vec<String>, began: Instant) -> Report {
    let sent = scene.settle(SETTLES_WITHIN).await;
    scene.end_members().await;
    let dead_letters = scene.dead_letters().await;
    let attempts = scene.outside.attempts();
    let (counts, wrong) = check(scene.seed, &sent, &attempts, &dead_letters, &scene.windows);
    let (rows_lost, rows_doubled) = scene.store.differences().await;
    if rows_lost + rows_doubled > 0 {
        scene.complain(format!("rows: {rows_lost} lost, {rows_doubled} doubled or out of order"));
    }
    for line in wrong.iter().take(20) {
        scene.complain(line.clone());
    }
    let rows = scene.store.publisher.count();
    let verdict = if scene.problems.is_empty() { Verdict::Ok } else { Verdict::Failed };
    if verdict == Verdict::Failed {
        // What members logged is kept to look into.
        let kept = std::mem::replace(&mut scene.folder, tempfile::tempdir().expect("a folder")).keep();
        scene.tell(format!("the members' logs are in {}", kept.display()));
        let lines: Vec<String> = attempts.iter().map(|attempt| format!("{attempt:?}\n")).collect();
        std::fs::write(kept.join("attempts"), lines.concat()).expect("the folder is there");
        std::fs::write(kept.join("timeline"), scene.timeline.join("\n")).expect("the folder is there");
    }
    scene.store.end().await;
    Report {
        seed: scene.seed,
        verdict,
        faults,
        counts,
        rows,
        rows_lost,
        rows_doubled,
        resumed_ms: scene.resumed,
        seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        problems: scene.problems,
        timeline: scene.timeline,
    }
}
