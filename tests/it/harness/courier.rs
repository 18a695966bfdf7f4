//! An effect stage for tests, and the outside world that it acts on: who took effect, in which order, how often.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::runtime::{
    EffectStage, ErrorClass, Failure, Intake, Outcome, Record, SkipReason, StageHandle, StageSpec,
    TargetState, Task, Tasks, start_effect_stage,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::eventually;
use super::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

/// What the handlers did, as an outside system would have seen it. Shared by all members.
#[derive(Default)]
pub(crate) struct Outside {
    /// Lane → numbers in the order in which they took effect.
    pub(crate) effects: Mutex<BTreeMap<String, Vec<u64>>>,
    pub(crate) attempts: Mutex<BTreeMap<(String, u64), u32>>,
    /// Lanes in which two tasks ran at once, or a later one before an earlier one.
    pub(crate) violations: Mutex<Vec<String>>,
    running: Mutex<BTreeSet<String>>,
    /// Targets that take one task at a time, each for so long.
    pace: Mutex<BTreeMap<String, Duration>>,
    /// Lanes in the order in which their tasks took effect.
    pub(crate) sequence: Mutex<Vec<String>>,
    /// Lanes that end in `urgent` or `low` are that: more are opened ahead then.
    pub(crate) has_priorities: AtomicBool,
    /// What the hooks were told: attempts begun and ended, and who was given up because of what.
    pub(crate) begun: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) given_up: Mutex<Vec<(String, u64, ErrorClass)>>,
    /// Nothing may be given up.
    pub(crate) clings: AtomicBool,
    /// Records that were decoded, also again.
    pub(crate) decoded: AtomicU64,
    /// Targets of which nothing may start.
    shut: Mutex<BTreeSet<String>>,
    /// Targets that aren't served, or are gone.
    states: Mutex<BTreeMap<String, TargetState>>,
    /// How long a target that is away is left alone after a probe, and until when which one is, in epoch milliseconds.
    probes: Mutex<(Duration, BTreeMap<String, i64>)>,
}

impl Outside {
    pub(crate) fn set_pace(&self, target: &str, pace: Option<Duration>) {
        let mut paces = self.pace.lock().expect("no panic");
        match pace {
            Some(pace) => paces.insert(target.to_owned(), pace),
            None => paces.remove(target),
        };
    }

    pub(crate) fn set_state(&self, target: &str, state: TargetState) {
        self.states.lock().expect("no panic").insert(target.to_owned(), state);
    }

    /// Whether nothing of `target` may start; it is asked about again a little later.
    pub(crate) fn set_shut(&self, target: &str, shut: bool) {
        let mut all = self.shut.lock().expect("no panic");
        if shut {
            all.insert(target.to_owned())
        } else {
            all.remove(target)
        };
    }

    /// From now on a target that is away is probed, and then left alone for so long.
    pub(crate) fn set_pause(&self, pause: Duration) {
        *self.probes.lock().expect("no panic") = (pause, BTreeMap::new());
    }

    /// How many targets that are away were probed since.
    pub(crate) fn probed(&self) -> usize {
        self.probes.lock().expect("no panic").1.len()
    }

    fn note_probe(&self, target: &str, now_ms: i64) {
        if self.is_away(target) {
            let mut probes = self.probes.lock().expect("no panic");
            let until_ms = now_ms + i64::try_from(probes.0.as_millis()).expect("small");
            probes.1.insert(target.to_owned(), until_ms);
        }
    }

    fn left_alone_until(&self, target: &str) -> Option<i64> {
        let is_away = self.is_away(target);
        let probes = self.probes.lock().expect("no panic");
        probes.1.get(target).copied().filter(|_| is_away)
    }

    pub(crate) fn is_away(&self, target: &str) -> bool {
        matches!(self.state_of(target), TargetState::Away(_))
    }

    fn state_of(&self, target: &str) -> TargetState {
        self.states.lock().expect("no panic").get(target).cloned().unwrap_or(TargetState::Flowing)
    }

    fn pace_of(&self, target: &str) -> Option<Duration> {
        self.pace.lock().expect("no panic").get(target).copied()
    }

    /// Waits as long as `target` takes for one task, or until it takes no longer.
    async fn keep_pace(&self, target: &str) {
        let begun = tokio::time::Instant::now();
        while self.pace_of(target).is_some_and(|pace| begun.elapsed() < pace) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn take_effect(&self, lane: &str, number: u64) {
        self.sequence.lock().expect("no panic").push(lane.to_owned());
        let mut effects = self.effects.lock().expect("no panic");
        let seen = effects.entry(lane.to_owned()).or_default();
        // Repeats are allowed (at least once), overtaking is not: all earlier ones must be there.
        let earlier: BTreeSet<u64> = seen.iter().copied().filter(|seen| *seen < number).collect();
        if earlier.len() as u64 != number {
            self.violations.lock().expect("no panic").push(format!("{lane}: {number} after {seen:?}"));
        }
        seen.push(number);
    }

    pub(crate) fn distinct(&self) -> usize {
        let effects = self.effects.lock().expect("no panic");
        effects.values().map(|numbers| numbers.iter().collect::<BTreeSet<_>>().len()).sum()
    }

    pub(crate) fn of(&self, lane: &str) -> Vec<u64> {
        self.effects.lock().expect("no panic").get(lane).cloned().unwrap_or_default()
    }

    pub(crate) fn attempts_of(&self, lane: &str, number: u64) -> u32 {
        let attempts = self.attempts.lock().expect("no panic");
        attempts.get(&(lane.to_owned(), number)).copied().unwrap_or(0)
    }

    pub(crate) fn assert_order(&self) {
        let violations = self.violations.lock().expect("no panic");
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// A task that runs, until it ends or its member dies.
struct Running<'a> {
    outside: &'a Outside,
    lane: &'a str,
}

impl<'a> Running<'a> {
    fn begin(outside: &'a Outside, lane: &'a str) -> Self {
        if !outside.running.lock().expect("no panic").insert(lane.to_owned()) {
            outside.violations.lock().expect("no panic").push(format!("two of {lane} at once"));
        }
        Self { outside, lane }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.outside.running.lock().expect("no panic").remove(self.lane);
    }
}

/// How a task of `lane` with that number and attempt (from 1) ends.
pub(crate) type Plan = dyn Fn(&str, u64, u32) -> Outcome + Send + Sync;

/// Records are `lane number`, and that pair is their event; a lane's target is the part of its name before the dot.
pub(crate) struct Courier {
    pub(crate) outside: Arc<Outside>,
    pub(crate) plan: Arc<Plan>,
    /// Targets called `slow` hang until this is true.
    pub(crate) open: watch::Receiver<bool>,
}

impl EffectStage for Courier {
    type Input = (String, u64);

    fn name(&self) -> &str {
        "courier"
    }

    async fn decode(&self, record: &Record) -> Intake<Self::Input> {
        self.outside.decoded.fetch_add(1, Ordering::SeqCst);
        let malformed = || Intake::Dead(Failure::new(ErrorClass::Decode, "not a lane and a number"));
        let Some(payload) = record.payload.as_ref() else {
            return Intake::Skipped(SkipReason::Tombstone);
        };
        let Ok(text) = std::str::from_utf8(payload) else { return malformed() };
        let Some((lane, number)) = text.split_once(' ') else { return malformed() };
        match number.parse() {
            Ok(number) => Intake::Ready((lane.to_owned(), number)),
            Err(_) => malformed(),
        }
    }

    async fn open(&self, _record: &Record, (lane, _): &Self::Input, tasks: &mut Tasks) -> Intake<()> {
        let target = lane.split('.').next().unwrap_or("all");
        let priority = match lane {
            urgent if urgent.ends_with("urgent") => 10,
            low if low.ends_with("low") => 200,
            _ => 100,
        };
        tasks.push(lane, &target.into(), priority);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<Self::Input>) -> Outcome {
        let (lane, number) = &*task.input;
        *self.outside.attempts.lock().expect("no panic").entry((lane.clone(), *number)).or_default() += 1;
        if &*task.target == "slow" {
            let mut open = self.open.clone();
            let _ = open.wait_for(|open| *open).await;
        }
        self.outside.keep_pace(&task.target).await;
        let _running = Running::begin(&self.outside, lane);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let outcome = (self.plan)(lane, *number, task.attempt);
        if outcome == Outcome::Done {
            self.outside.take_effect(lane, *number);
        }
        outcome
    }

    fn has_priorities(&self) -> bool {
        self.outside.has_priorities.load(Ordering::SeqCst)
    }

    fn before(&self, _task: &Task<Self::Input>) {
        self.outside.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn after(&self, _task: &Task<Self::Input>, _outcome: &Outcome) {
        self.outside.ended.fetch_add(1, Ordering::SeqCst);
    }

    async fn given_up(&self, task: &Task<Self::Input>, why: &Failure) -> Result<(), Failure> {
        if self.outside.clings.load(Ordering::SeqCst) {
            return Err(Failure::new(ErrorClass::Internal, "nobody can be told"));
        }
        let (lane, number) = &*task.input;
        self.outside.given_up.lock().expect("no panic").push((lane.clone(), *number, why.class));
        Ok(())
    }

    fn identity(&self) -> Option<fn(&Self::Input) -> u128> {
        Some(|(lane, number)| {
            let mut hasher = DefaultHasher::new();
            lane.hash(&mut hasher);
            u128::from(hasher.finish()) << 64 | u128::from(*number)
        })
    }

    fn target_concurrency(&self, target: &str) -> usize {
        if self.outside.pace_of(target).is_some() { 1 } else { 8 }
    }

    fn not_before(&self, target: &str, now_ms: i64) -> Option<i64> {
        let is_shut = self.outside.shut.lock().expect("no panic").contains(target);
        is_shut.then_some(now_ms + 20).max(self.outside.left_alone_until(target))
    }

    fn starting(&self, target: &str, now_ms: i64) {
        self.outside.note_probe(target, now_ms);
    }

    fn target_state(&self, target: &str) -> TargetState {
        self.outside.state_of(target)
    }
}

pub(crate) struct Member {
    pub(crate) handle: StageHandle,
    pub(crate) stop: CancellationToken,
}

impl Member {
    pub(crate) fn start(
        kafka: &TestKafka,
        spec: &StageSpec,
        outside: &Arc<Outside>,
        plan: &Arc<Plan>,
    ) -> Self {
        let (_, open) = watch::channel(true);
        Self::start_with(kafka, spec, outside, plan, open)
    }

    pub(crate) fn start_with(
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

    /// Dies without a word. The engine has a thread of its own, which may be in the middle of something: it is gone
    /// when nobody tells of its progress any more.
    pub(crate) async fn die(&self) {
        self.handle.join.abort();
        let mut progress = self.handle.progress.clone();
        while progress.changed().await.is_ok() {}
    }

    pub(crate) async fn settled(&self) {
        eventually("caught up", SOON, async || self.handle.progress.borrow().is_caught_up()).await;
        self.assert_balance();
    }

    pub(crate) fn assert_balance(&self) {
        let progress = self.handle.progress.borrow();
        assert!(progress.balance.holds(), "{:?}", progress.balance);
    }

    pub(crate) async fn leave(self) {
        self.stop.cancel();
        let ended = self.handle.join.await.expect("no panic").expect("no error");
        assert!(ended.drained);
        let progress = self.handle.progress.borrow();
        assert!(progress.balance.holds(), "{:?}", progress.balance);
        assert_eq!((progress.balance.in_flight, progress.balance.parked), (0, 0));
    }

    /// Leaves while work is parked or waiting: that is given up to the others.
    pub(crate) async fn leave_early(self) {
        self.stop.cancel();
        assert!(self.handle.join.await.expect("no panic").expect("no error").drained);
        assert!(self.handle.progress.borrow().balance.holds());
    }
}
