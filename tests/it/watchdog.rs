//! What the watchdog finds and mends: a wake-up that is lost, an attempt that never ends, a record that nobody works on, a
//! batch that is never stored. (A partition that is no longer fetched is provoked inside the engine, beside its code.)

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use orderflow::runtime::{
    EffectStage, Environment, ErrorClass, Failure, Intake, Outcome, Record, SourcePartition, StageHandle,
    StageSpec, StoreBatch, StoreFault, StoreStage, Stored, Task, Tasks, Trouble, WatchdogOptions,
    start_effect_stage, start_store_stage,
};
use tokio_util::sync::CancellationToken;

use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

/// How a record's first attempt goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// It is ready the second time it is polled, and has nobody wake it.
    LosesItsWaker,
    /// It never ends.
    NeverEnds,
    /// It asks for another attempt in place, and so does each that follows.
    AsksForEver,
}

/// Every record is a task in a lane of its own; the one called `odd` goes wrong once.
struct Faulty {
    fault: Fault,
    attempts: Mutex<BTreeMap<String, u32>>,
}

impl EffectStage for Faulty {
    type Input = String;

    fn name(&self) -> &str {
        "faulty"
    }

    async fn decode(&self, record: &Record) -> Intake<String> {
        Intake::Ready(String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).into_owned())
    }

    async fn open(&self, _record: &Record, input: &String, tasks: &mut Tasks) -> Intake<()> {
        tasks.push(input, &"all".into(), 100);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<String>) -> Outcome {
        let attempt = {
            let mut attempts = self.attempts.lock().expect("no panic");
            let attempt = attempts.entry((*task.input).clone()).or_default();
            *attempt += 1;
            *attempt
        };
        // The first attempt after it was read again is its first once more.
        if self.fault == Fault::AsksForEver && *task.input == "odd" && (attempt == 1 || task.attempt > 1) {
            let why = Failure::new(ErrorClass::Unavailable, "come back later");
            return Outcome::Retry { after: Duration::from_millis(100), why };
        }
        match self.fault {
            _ if *task.input != "odd" || attempt > 1 => {}
            Fault::AsksForEver => {}
            Fault::NeverEnds => std::future::pending().await,
            Fault::LosesItsWaker => {
                let mut polled = false;
                poll_fn(|_| match std::mem::replace(&mut polled, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
            }
        }
        Outcome::Done
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        8
    }
}

fn options() -> WatchdogOptions {
    WatchdogOptions {
        stalled_after: Duration::from_secs(30),
        head_after: Duration::from_secs(2),
        attempt_after: Duration::from_secs(2),
        poll_after: Duration::from_secs(60),
    }
}

/// Runs a stage over three records, the second of which goes wrong, until all are done; gives how often each was attempted
/// and what the metrics told.
async fn run(
    tag: &str,
    fault: Fault,
    watchdog: WatchdogOptions,
) -> (BTreeMap<String, u32>, String, Vec<Trouble>) {
    let kafka = TestKafka::new(tag);
    let mut spec = kafka.stage("faulty", 1, true).await;
    spec.options.watchdog = watchdog;
    spec.options.revoke_drain = Duration::from_millis(300);
    spec.options.in_place_limit = Duration::from_secs(1);
    kafka.send(&spec.source, 0, "k", &["first".to_owned(), "odd".to_owned(), "last".to_owned()]).await;
    let stage = Arc::new(Faulty { fault, attempts: Mutex::default() });
    let (env, stop) = (kafka.environment(), CancellationToken::new());
    let metrics = Arc::clone(&env.metrics);
    let handle = start_effect_stage(spec, Arc::clone(&stage), env, stop.clone());
    let troubles = until_stored(&handle, 3).await;
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
    let attempts = stage.attempts.lock().expect("no panic").clone();
    (attempts, metrics.text(), troubles)
}

/// Waits for a position; gives the troubles that were told on the way.
async fn until_stored(handle: &StageHandle, position: i64) -> Vec<Trouble> {
    let mut progress = handle.progress.clone();
    let mut troubles = Vec::new();
    let goes_on = async {
        loop {
            progress.changed().await.expect("it runs");
            let now = progress.borrow_and_update().clone();
            let Some(at) = now.partitions.get(&0) else { continue };
            if let Some(trouble) = at.trouble.filter(|trouble| troubles.last() != Some(trouble)) {
                troubles.push(trouble);
            }
            if at.position == position && at.trouble.is_none() {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, goes_on).await.expect("it goes on");
    troubles
}

fn counts(text: &str, stage: &str, kind: &str, count: u32) {
    let line = format!("orderflow_watchdog_total{{kind=\"{kind}\",stage=\"{stage}\"}} {count}");
    assert!(text.contains(&line), "{line} is not in {text}");
}

fn once_each(attempts: &BTreeMap<String, u32>, odd: u32) {
    let expected = [("first", 1), ("last", 1), ("odd", odd)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(*attempts, BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_ready_though_nobody_woke_it_is_polled_and_counted() {
    let watchdog = WatchdogOptions { poll_after: Duration::from_millis(500), ..options() };
    let (attempts, text, troubles) = run("lost-wakeup", Fault::LosesItsWaker, watchdog).await;
    once_each(&attempts, 1);
    counts(&text, "faulty", "lost_wakeup", 1);
    assert_eq!(troubles, [], "nothing had to be taken up anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_never_ends_is_cut_off_with_its_partition_and_made_again() {
    let (attempts, text, troubles) = run("stuck-lane", Fault::NeverEnds, options()).await;
    once_each(&attempts, 2);
    counts(&text, "faulty", "stuck_lane", 1);
    assert_eq!(troubles, [Trouble::StuckLane { offset: 1 }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_keeps_the_commit_back_is_read_again() {
    let (attempts, text, troubles) = run("poisoned-head", Fault::AsksForEver, options()).await;
    assert!(attempts["odd"] > 2, "{attempts:?}");
    once_each(&attempts, attempts["odd"]);
    counts(&text, "faulty", "poisoned_head", 1);
    assert_eq!(troubles, [Trouble::PoisonedHead { offset: 1 }]);
}

/// A store whose first batch is never stored.
#[derive(Default)]
struct Sticky {
    batches: AtomicU32,
    position: Mutex<Option<i64>>,
}

impl StoreStage for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    async fn position(&self, _at: &SourcePartition) -> Result<Option<i64>, Failure> {
        Ok(*self.position.lock().expect("no panic"))
    }

    async fn store(&self, _at: &SourcePartition, batch: StoreBatch) -> Result<Stored, StoreFault> {
        if self.batches.fetch_add(1, Ordering::Relaxed) == 0 {
            std::future::pending::<()>().await;
        }
        *self.position.lock().expect("no panic") = Some(batch.next_offset);
        Ok(Stored { done: batch.records.len() as u64, ..Stored::default() })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_never_stored_is_cut_off_and_stored_again() {
    let kafka = TestKafka::new("stuck-batch");
    let mut spec: StageSpec = kafka.stage("sticky", 1, false).await;
    spec.options.watchdog = options();
    spec.options.revoke_drain = Duration::from_millis(300);
    kafka.send(&spec.source, 0, "k", &["a".to_owned(), "b".to_owned()]).await;
    let (env, stop): (Environment, _) = (kafka.environment(), CancellationToken::new());
    let metrics = Arc::clone(&env.metrics);
    let handle = start_store_stage(spec, Arc::new(Sticky::default()), env, stop.clone());
    let troubles = until_stored(&handle, 2).await;
    assert_eq!(troubles, [Trouble::PoisonedHead { offset: 0 }]);
    counts(&metrics.text(), "sticky", "poisoned_head", 1);
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
}
