//! A whole member on librdkafka's own broker, where faults can be brought about that a real one seldom shows.

mod anew;
mod copies;
mod faults;
mod restless;
mod stalled;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::runtime::{
    Intake, KafkaOptions, OutRecord, Outcome, Producer, Record, RuntimeOptions, StartAt, Task,
};
use crate::task;
use crate::telemetry::Metrics;

const WITHIN: Duration = Duration::from_secs(30);

/// Where the stage waits for the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// Before a record's tasks are told.
    ToTasks,
    /// Before an attempt ends.
    ToEnds,
    /// The same for the first record's, which is woken all the time.
    Restless,
}

/// How the attempt with that number at the record of that offset ends.
type Plan = fn(i64, u32) -> Outcome;

/// Each record is one task, in the lane of its key.
struct Doer {
    plan: Plan,
    gate: watch::Receiver<Gate>,
    seen: Arc<Seen>,
}

/// What the stage came to.
#[derive(Default)]
struct Seen {
    /// Offsets in the order in which they took effect.
    effects: Mutex<Vec<i64>>,
    /// How often it stood before a closed gate.
    stood: AtomicU32,
}

impl Doer {
    async fn pass(&self, gate: Gate) {
        let mut now = self.gate.clone();
        if *now.borrow() == gate {
            self.seen.stood.fetch_add(1, Ordering::SeqCst);
        }
        let _ = now.wait_for(|now| *now != gate).await;
    }

    async fn be_restless(&self) {
        let rests = std::future::poll_fn(|context| match *self.gate.borrow() {
            Gate::Restless => {
                self.seen.stood.store(1, Ordering::SeqCst);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Gate::Open | Gate::ToTasks | Gate::ToEnds => Poll::Ready(()),
        });
        rests.await;
    }
}

impl EffectStage for Doer {
    type Input = ();

    fn name(&self) -> &str {
        "doer"
    }

    async fn decode(&self, _record: &Record) -> Intake<()> {
        Intake::Ready(())
    }

    async fn open(&self, record: &Record, _input: &(), tasks: &mut Tasks) -> Intake<()> {
        self.pass(Gate::ToTasks).await;
        tasks.push(format_args!("{:?}", record.key), &"all".into(), 100);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<()>) -> Outcome {
        self.pass(Gate::ToEnds).await;
        if task.record.offset == 0 {
            self.be_restless().await;
        }
        let outcome = (self.plan)(task.record.offset, task.attempt);
        if outcome == Outcome::Done {
            self.seen.effects.lock().expect("no panic").push(task.record.offset);
        }
        outcome
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        8
    }
}

fn spec(options: RuntimeOptions) -> StageSpec {
    StageSpec {
        stage: "doer".to_owned(),
        group: "g".to_owned(),
        source: "s".to_owned(),
        retry: Some("s.doer.retry".to_owned()),
        dead_letters: "s.doer.dlq".to_owned(),
        start: StartAt::Earliest,
        options,
        control: Default::default(),
        cursors: None,
    }
}

/// The member, its broker, and a producer of the test's own.
struct Scene {
    cluster: MockCluster<'static, DefaultProducerContext>,
    spec: StageSpec,
    kafka: KafkaOptions,
    producer: Producer,
    desk: Arc<consumer::Desk>,
    metrics: Arc<Metrics>,
    gate: watch::Sender<Gate>,
    seen: Arc<Seen>,
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    running: JoinHandle<Result<Result<Ended, RunError>, task::ThreadFault>>,
}

impl Scene {
    async fn start(partitions: i32, options: RuntimeOptions, plan: Plan) -> Self {
        let cluster = MockCluster::new(1).expect("it starts");
        let spec = spec(options);
        let retry = spec.retry.clone().expect("set");
        for topic in [&spec.source, &spec.dead_letters, &retry] {
            cluster.create_topic(topic, partitions, 1).expect("a topic");
        }
        let kafka = KafkaOptions {
            bootstrap_servers: cluster.bootstrap_servers(),
            session_timeout: Duration::from_millis(3_000),
            heartbeat_interval: Duration::from_millis(200),
            ..KafkaOptions::default()
        };
        let producer = || Producer::new(&kafka).expect("settings are accepted");
        let (metrics, clock) = (Metrics::new(), Clock::system());
        let env = Environment {
            kafka: kafka.clone(),
            producer: producer(),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
        };
        let member = consumer::join(&spec, &kafka, &metrics, &clock).await.expect("it joins");
        let desk = Arc::clone(&member.desk);
        let (sender, progress) = watch::channel(Progress::default());
        let (gate, gate_out) = watch::channel(Gate::Open);
        let (seen, stop) = (Arc::<Seen>::default(), CancellationToken::new());
        let stage = Arc::new(Doer { plan, gate: gate_out, seen: Arc::clone(&seen) });
        let (ours, stopped) = (spec.clone(), stop.clone());
        let engine = task::on_own_thread("engine-doer".to_owned(), move || {
            run_member(ours, retry.into(), stage, env, stopped, sender, member)
        });
        let running = task::spawn("stage", engine);
        let producer = producer();
        Self { cluster, spec, kafka, producer, desk, metrics, gate, seen, progress, stop, running }
    }

    /// Writes a record to partition 0 of the source.
    async fn send(&self, key: &'static str) {
        let record = OutRecord::keyed(self.spec.source.as_str(), key, "v");
        self.producer.send(OutRecord { partition: Some(0), ..record }).await.expect("sent");
    }

    async fn reaches(&mut self, position: i64) {
        let there =
            self.progress.wait_for(|now| now.partitions.get(&0).is_some_and(|at| at.position == position));
        tokio::time::timeout(WITHIN, there).await.expect("in time").expect("it runs");
    }

    /// Waits until somebody stands before the closed gate.
    async fn stands(&self) {
        eventually("it stands before the gate", || self.seen.stood.load(Ordering::SeqCst) == 1).await;
    }

    fn effects(&self) -> Vec<i64> {
        self.seen.effects.lock().expect("no panic").clone()
    }

    async fn leave(self) {
        self.stop.cancel();
        let ended = self.running.await.expect("no panic").expect("a thread");
        assert!(ended.expect("no error").drained);
    }
}

/// Waits until something holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let holds = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, holds).await.is_ok(), "not in time: {what}");
}
