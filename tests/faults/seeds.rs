//! Runs by seed: a few with every `cargo test`, as many as one likes by command.

use std::ops::RangeInclusive;

use crate::broker::Broker;
use crate::plan::Plan;
use crate::results;
use crate::run::{Report, Verdict, run};

/// A few seeds that together kill, freeze and cut.
const SHORT: [u64; 2] = [1, 4];

/// Runs leave their topics behind, and a broker that was killed looks through all of them when it starts again.
const A_BROKER_FOR: usize = 8;

/// Says what happened in a run that found a fault, in order.
fn tell(report: &Report) {
    let seconds = report.seconds;
    eprintln!("seed {}: {:?} in {seconds} s, {:?}", report.seed, report.verdict, report.counts);
    if report.verdict == Verdict::Failed {
        eprintln!("{}\nagain: ORDERFLOW_FAULTS_SEEDS={}", report.timeline.join("\n"), report.seed);
    }
}

/// Invariants 1 (completion), 2 (order), 5 (ownership), 7 (balance) and 8 (nothing lost).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_seeds_of_faults_lose_nothing_and_keep_every_order() {
    let mut broker = Broker::start().await;
    for seed in SHORT {
        let report = run(&mut broker, &Plan::of(seed)).await;
        tell(&report);
        assert!(report.problems.is_empty(), "seed {seed}: {:#?}", report.problems);
    }
}

/// `ORDERFLOW_FAULTS_SEEDS=1..100` (both ends included); `ORDERFLOW_FAULTS_AGAIN=1` runs also those that passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as there are seeds; see docs/testing.md"]
async fn many_seeds_of_faults_lose_nothing_and_keep_every_order() {
    let seeds = asked_for(&std::env::var("ORDERFLOW_FAULTS_SEEDS").unwrap_or_else(|_| "1..100".to_owned()));
    let again = std::env::var_os("ORDERFLOW_FAULTS_AGAIN").is_some();
    let passed = if again { Vec::new() } else { results::passed() };
    eprintln!("commit {}", results::commit());
    let mut broker = Broker::start().await;
    let mut failed = Vec::new();
    for (at, seed) in seeds.filter(|seed| !passed.contains(seed)).enumerate() {
        if at > 0 && at.is_multiple_of(A_BROKER_FOR) {
            broker = Broker::start().await;
        }
        let report = run(&mut broker, &Plan::of(seed)).await;
        tell(&report);
        results::append(&report);
        if report.verdict == Verdict::Failed {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds that found a fault: {failed:?}");
}

/// `7`, or `1..100` with both ends.
fn asked_for(text: &str) -> RangeInclusive<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is not a seed"));
    match text.split_once("..") {
        Some((first, last)) => number(first)..=number(last),
        None => number(text)..=number(text),
    }
}
