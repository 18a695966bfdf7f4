//! Effect stages on a real Kafka: per lane in order through failures, restarts and rebalances; nothing lost.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::runtime::retry::Mark;
use orderflow::runtime::{
    EffectStage, ErrorClass, Failure, Intake, Outcome, Record, RunError, StageHandle, StageSpec, Task,
    TaskSpec, start_effect_stage,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};

const SOON: Duration = Duration::from_secs(60);

/// What the handlers did, as an outside system would have seen it. Shared by all members.
#[derive(Default)]
struct Outside {
    /// Lane → numbers in the order in which they took effect.
    effects: Mutex<BTreeMap<String, Vec<u64>>>,
    attempts: Mutex<BTreeMap<(String, u64), u32>>,
    /// Lanes in which two tasks ran at once, or a later one before an earlier one.
    violations: Mutex<Vec<String>>,
    running: Mutex<BTreeSet<String>>,
}

impl Outside {
    fn take_effect(&self, lane: &str, number: u64) {
        let mut effects = self.effects.lock().expect("no panic");
        let seen = effects.entry(lane.to_owned()).or_default();
        // Repeats are allowed (at least once), overtaking is not: all earlier ones must be there.
        let earlier: BTreeSet<u64> = seen.iter().copied().filter(|seen| *seen < number).collect();
        if earlier.len() as u64 != number {
            self.violations.lock().expect("no panic").push(format!("{lane}: {number} after {seen:?}"));
        }
        seen.push(number);
    }

    fn distinct(&self) -> usize {
        let effects = self.effects.lock().expect("no panic");
        effects.values().map(|numbers| numbers.iter().collect::<BTreeSet<_>>().len()).sum()
    }

    fn of(&self, lane: &str) -> Vec<u64> {
        self.effects.lock().expect("no panic").get(lane).cloned().unwrap_or_default()
    }

    fn attempts_of(&self, lane: &str, number: u64) -> u32 {
        let attempts = self.attempts.lock().expect("no panic");
        attempts.get(&(lane.to_owned(), number)).copied().unwrap_or(0)
    }

    fn assert_order(&self) {
        let violations = self.violations.lock().expect("no panic");
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// How a task of `lane` with that number and attempt (from 1) ends.
type Plan = dyn Fn(&str, u64, u32) -> Outcome + Send + Sync;

/// Records are `lane number`; a lane's target is the part of its name before the dot.
struct Courier {
    outside: Arc<Outside>,
    plan: Arc<Plan>,
    /// Targets called `slow` hang until this is true.
    open: watch::Receiver<bool>,
}

impl EffectStage for Courier {
    type Input = (String, u64);

    fn name(&self) -> &str {
        "courier"
    }

    async fn decode(&self, record: &Record) -> Intake<Self::Input> {
        let malformed = || Intake::Dead(Failure::new(ErrorClass::Decode, "not a lane and a number"));
        let Some(payload) = record.payload.as_ref() else {
            return Intake::Skipped(orderflow::runtime::SkipReason::Tombstone);
        };
        let Ok(text) = std::str::from_utf8(payload) else { return malformed() };
        let Some((lane, number)) = text.split_once(' ') else { return malformed() };
        match number.parse() {
            Ok(number) => Intake::Ready((lane.to_owned(), number)),
            Err(_) => malformed(),
        }
    }

    async fn open(&self, _record: &Record, (lane, _): &Self::Input) -> Intake<Vec<TaskSpec>> {
        let target = lane.split('.').next().unwrap_or("all");
        Intake::Ready(vec![TaskSpec { lane: lane.as_str().into(), target: target.into(), priority: 100 }])
    }

    async fn run(&self, task: Task<Self::Input>) -> Outcome {
        let (lane, number) = &*task.input;
        *self.outside.attempts.lock().expect("no panic").entry((lane.clone(), *number)).or_default() += 1;
        if &*task.target == "slow" {
            let mut open = self.open.clone();
            let _ = open.wait_for(|open| *open).await;
        }
        if !self.outside.running.lock().expect("no panic").insert(lane.clone()) {
            self.outside.violations.lock().expect("no panic").push(format!("two of {lane} at once"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let outcome = (self.plan)(lane, *number, task.attempt);
        if outcome == Outcome::Done {
            self.outside.take_effect(lane, *number);
        }
        self.outside.running.lock().expect("no panic").remove(lane);
        outcome
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        8
    }
}

struct Member {
    handle: StageHandle,
    stop: CancellationToken,
}

impl Member {
    fn start(kafka: &TestKafka, spec: &StageSpec, outside: &Arc<Outside>, plan: &Arc<Plan>) -> Self {
        let (_, open) = watch::channel(true);
        Self::start_with(kafka, spec, outside, plan, open)
    }

    fn start_with(
        kafka: &TestKafka,
        spec: &StageSpec,
        outside: &Arc<Outside>,
        plan: &Arc<Plan>,
        open: watch::Receiver<bool>,
    ) -> Self {
        let stage = Courier { outside: Arc::clone(outside), plan: Arc::clone(plan), open };
        let stop = CancellationToken::new();
        let handle = start_effect_stage(spec.clone(), Arc::new(stage), kafka.environment(), stop.clone());
        Self { handle, stop }
    }

    async fn settled(&self) {
        eventually("caught up", SOON, async || self.handle.progress.borrow().is_caught_up()).await;
        self.assert_balance();
    }

    fn assert_balance(&self) {
        let progress = self.handle.progress.borrow();
        assert!(progress.balance.holds(), "{:?}", progress.balance);
    }

    async fn leave(self) {
        self.stop.cancel();
        let ended = self.handle.join.await.expect("no panic").expect("no error");
        assert!(ended.drained);
        let progress = self.handle.progress.borrow();
        assert!(progress.balance.holds(), "{:?}", progress.balance);
        assert_eq!((progress.balance.in_flight, progress.balance.parked), (0, 0));
    }
}

fn later(ms: u64) -> Outcome {
    Outcome::Retry {
        after: Duration::from_millis(ms),
        why: Failure::new(ErrorClass::Unavailable, "come back later"),
    }
}

fn always_done() -> Arc<Plan> {
    Arc::new(|_: &str, _, _| Outcome::Done)
}

/// Fails about every third attempt, in place or by parking, the same for the same seed.
fn unreliable(seed: u64) -> Arc<Plan> {
    Arc::new(move |lane: &str, number, attempt| {
        let mut hasher = DefaultHasher::new();
        (seed, lane, number, attempt).hash(&mut hasher);
        match hasher.finish() % 6 {
            0 => later(5),
            1 => later(150),
            _ => Outcome::Done,
        }
    })
}

async fn send_lanes(kafka: &TestKafka, spec: &StageSpec, lanes: u64, from: u64, count: u64) {
    for number in from..from + count {
        for partition in 0..3 {
            let values: Vec<String> = (0..lanes)
                .filter(|lane| lane % 3 == partition)
                .map(|lane| format!("all.{lane} {number}"))
                .collect();
            kafka.send(&spec.source, partition as i32, "k", &values).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_keep_their_order_while_handlers_fail_and_members_come_go_and_die() {
    members_come_go_and_die(&TestKafka::new("effect-order"), seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_keep_their_order_on_the_broker_inside_the_process_as_well() {
    members_come_go_and_die(&TestKafka::embedded("effect-order"), seed()).await;
}

/// Another seed can be named to look for a fault.
fn seed() -> u64 {
    std::env::var("ORDERFLOW_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

async fn members_come_go_and_die(kafka: &TestKafka, seed: u64) {
    let mut spec = kafka.stage("courier", 3, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    let outside = Arc::new(Outside::default());
    let plan = unreliable(seed);
    let first = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 0, 10).await;
    eventually("some took effect", SOON, async || outside.distinct() > 60).await;
    let second = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 10, 10).await;
    eventually("shared", SOON, async || !second.handle.progress.borrow().partitions.is_empty()).await;
    first.leave_early().await;
    send_lanes(kafka, &spec, 30, 20, 5).await;
    eventually("most took effect", SOON, async || outside.distinct() > 400).await;
    // The second dies without a word; whatever it had begun is repeated by the third.
    second.handle.join.abort();
    outside.running.lock().expect("no panic").clear();
    let third = Member::start(kafka, &spec, &outside, &plan);
    send_lanes(kafka, &spec, 30, 25, 5).await;
    eventually("all took effect", SOON, async || outside.distinct() == 900).await;
    third.settled().await;
    third.leave().await;
    outside.assert_order();
    assert!(kafka.all(&spec.dead_letters).await.is_empty());
    assert!(!kafka.all(spec.retry.as_deref().expect("set")).await.is_empty(), "something was parked");
}

impl Member {
    /// Leaves while work is parked or waiting: that is given up to the others.
    async fn leave_early(self) {
        self.stop.cancel();
        assert!(self.handle.join.await.expect("no panic").expect("no error").drained);
        assert!(self.handle.progress.borrow().balance.holds());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_waits_keeps_its_order_and_delays_no_other() {
    let kafka = TestKafka::new("effect-parked");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(20);
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> =
        Arc::new(
            |lane: &str, number, attempt| {
                if lane == "all.a" && number == 0 && attempt <= 3 { later(700) } else { Outcome::Done }
            },
        );
    let values = ["all.a 0", "all.a 1", "all.b 0", "all.a 2", "all.b 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the other lane is done", SOON, async || outside.of("all.b") == [0, 1]).await;
    assert_eq!(outside.of("all.a"), [0u64; 0], "the first of the waiting lane is still to come");
    kafka.send(&spec.source, 0, "k", &["all.a 3".to_owned()]).await;
    eventually("the source is complete", SOON, async || {
        let progress = member.handle.progress.borrow();
        progress.partitions.get(&0).is_some_and(|at| at.position == 6 && at.parked > 0)
    })
    .await;
    member.settled().await;
    assert_eq!(outside.of("all.a"), [0, 1, 2, 3]);
    assert_eq!(outside.attempts_of("all.a", 0), 4);
    assert_eq!(outside.attempts_of("all.a", 1), 1, "parked behind, unattempted");
    outside.assert_order();
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_work_outlives_the_member_that_parked_it_also_when_it_no_longer_fits_in_memory() {
    for in_memory in [true, false] {
        let kafka = TestKafka::new("effect-restart");
        let mut spec = kafka.stage("courier", 1, true).await;
        spec.options.in_place_limit = Duration::ZERO;
        if !in_memory {
            spec.options.max_parked_bytes = 0;
        }
        let outside = Arc::new(Outside::default());
        let values: Vec<String> = (0..5).map(|number| format!("all.a {number}")).collect();
        kafka.send(&spec.source, 0, "k", &values).await;
        let refusing: Arc<Plan> = Arc::new(|_: &str, _, _| later(1_500));
        let first = Member::start(&kafka, &spec, &outside, &refusing);
        eventually("all is parked", SOON, async || {
            first.handle.progress.borrow().partitions.get(&0).is_some_and(|at| at.parked == 5)
        })
        .await;
        first.leave_early().await;
        let second = Member::start(&kafka, &spec, &outside, &always_done());
        eventually("all took effect", SOON, async || outside.distinct() == 5).await;
        second.settled().await;
        assert_eq!(outside.of("all.a"), [0, 1, 2, 3, 4]);
        outside.assert_order();
        second.leave().await;
        // And nothing of it is done again.
        let third = Member::start(&kafka, &spec, &outside, &always_done());
        third.settled().await;
        assert_eq!(outside.of("all.a"), [0, 1, 2, 3, 4]);
        third.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_attempt_the_record_is_dead_lettered_and_its_lane_goes_on() {
    let kafka = TestKafka::new("effect-dead");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::from_millis(10);
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, number, attempt| match (number, attempt) {
        (1, 1) => later(1),
        (1, 2) => later(100),
        (1, _) => Outcome::Dead(Failure::new(ErrorClass::Exhausted, "no more attempts")),
        _ => Outcome::Done,
    });
    let values: Vec<String> = (0..4).map(|number| format!("all.a {number}")).collect();
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    member.settled().await;
    assert_eq!(outside.of("all.a"), [0, 2, 3]);
    assert_eq!(outside.attempts_of("all.a", 1), 3);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["all.a 1"]);
    let mark = Mark::read(&dead[0].headers).expect("well-formed");
    assert_eq!((mark.source.offset, mark.attempt), (1, 3));
    assert_eq!(mark.error.expect("a reason").class, ErrorClass::Exhausted);
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_dead_lettered_byte_for_byte_and_the_rest_goes_on() {
    let kafka = TestKafka::new("effect-decode");
    let spec = kafka.stage("courier", 2, true).await;
    let outside = Arc::new(Outside::default());
    let mut odd = orderflow::runtime::OutRecord::keyed(
        spec.source.as_str(),
        vec![0xff, 0x00, 0x01],
        vec![0xde, 0xad, 0xbe, 0xef],
    );
    odd.partition = Some(1);
    odd.headers.push("mine", vec![0x00, 0xff]);
    kafka.producer.send(odd.clone()).await.expect("acknowledged");
    kafka.send(&spec.source, 1, "k", &["all.a 0".to_owned()]).await;
    let member = Member::start(&kafka, &spec, &outside, &always_done());
    eventually("the rest goes on", SOON, async || outside.of("all.a") == [0]).await;
    eventually("it is dead", SOON, async || member.handle.progress.borrow().balance.dead == 1).await;
    let dead = kafka.all(&spec.dead_letters).await;
    let [dead] = dead.as_slice() else { panic!("one, not {dead:?}") };
    assert_eq!((&dead.key, &dead.payload), (&odd.key, &odd.payload));
    assert_eq!(dead.partition, 1);
    assert_eq!(dead.headers.last("mine"), odd.headers.last("mine"));
    assert_eq!(dead.headers.text("of-error-class"), Some("decode"));
    assert_eq!(dead.headers.text("of-source-offset"), Some("0"));
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_hangs_delays_no_other() {
    let kafka = TestKafka::new("effect-hang");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.max_buffered_records = 60;
    spec.options.concurrency = 12;
    let outside = Arc::new(Outside::default());
    let slow: Vec<String> = (0..200).map(|lane| format!("slow.{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &slow).await;
    let quick: Vec<String> = (0..100).map(|number| format!("quick.a {number}")).collect();
    kafka.send(&spec.source, 0, "k", &quick).await;
    let (gate, open) = watch::channel(false);
    let member = Member::start_with(&kafka, &spec, &outside, &always_done(), open);
    eventually("the quick target is served", SOON, async || outside.of("quick.a").len() == 100).await;
    assert_eq!(outside.distinct(), 100, "the slow one still hangs");
    gate.send_replace(true);
    eventually("the slow one is served too", SOON, async || outside.distinct() == 300).await;
    member.settled().await;
    outside.assert_order();
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_do_not_fit_together_are_named() {
    let kafka = TestKafka::new("effect-topics");
    let spec = kafka.spec("courier", true);
    let retry = spec.retry.clone().expect("set");
    kafka.create(&[spec.source.clone(), spec.dead_letters.clone()], 2).await;
    let outside = Arc::new(Outside::default());
    let missing = Member::start(&kafka, &spec, &outside, &always_done());
    let error = missing.handle.join.await.expect("no panic").expect_err("refused");
    assert!(matches!(&error, RunError::TopicMissing { topic, .. } if *topic == retry), "{error}");
    kafka.create(std::slice::from_ref(&retry), 3).await;
    let uneven = Member::start(&kafka, &spec, &outside, &always_done());
    let error = uneven.handle.join.await.expect("no panic").expect_err("refused");
    assert!(
        matches!(error, RunError::PartitionCounts { partitions: 3, source_partitions: 2, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_costs_its_own_task_and_nothing_else() {
    let kafka = TestKafka::new("effect-panic");
    let spec = kafka.stage("courier", 1, true).await;
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|lane: &str, number, _| {
        assert!(lane != "all.a" || number != 0, "a bug in a handler");
        Outcome::Done
    });
    let values = ["all.a 0", "all.b 0", "all.a 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &values).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("the others go on", SOON, async || outside.of("all.a") == [1] && outside.of("all.b") == [0])
        .await;
    member.settled().await;
    assert_eq!(outside.attempts_of("all.a", 0), 3);
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].headers.text("of-error-class"), Some("internal"));
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_that_cannot_drain_says_so_and_the_work_is_repeated() {
    let kafka = TestKafka::new("effect-deadline");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.shutdown_drain = Duration::from_millis(300);
    let outside = Arc::new(Outside::default());
    kafka.send(&spec.source, 0, "k", &["slow.a 0".to_owned(), "all.b 0".to_owned()]).await;
    let (_gate, shut) = watch::channel(false);
    let stuck = Member::start_with(&kafka, &spec, &outside, &always_done(), shut);
    eventually("it hangs", SOON, async || outside.attempts_of("slow.a", 0) == 1).await;
    eventually("the other is done", SOON, async || outside.of("all.b") == [0]).await;
    stuck.stop.cancel();
    assert!(!stuck.handle.join.await.expect("no panic").expect("no error").drained);
    assert_eq!(stuck.handle.progress.borrow().balance.given_up, 1);
    let next = Member::start(&kafka, &spec, &outside, &always_done());
    eventually("it is repeated", SOON, async || outside.of("slow.a") == [0]).await;
    next.settled().await;
    next.leave().await;
}
