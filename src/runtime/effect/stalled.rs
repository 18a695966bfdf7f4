//! A partition that the client holds back behind everybody's back, on librdkafka's own broker: the watchdog takes it up anew.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::runtime::{
    Intake, KafkaOptions, OutRecord, Outcome, Producer, Record, RuntimeOptions, StartAt, Task, Tasks,
    WatchdogOptions,
};
use crate::task;
use crate::telemetry::Metrics;

/// Each record is a task, which is done at once.
struct Doer;

impl EffectStage for Doer {
    type Input = ();

    fn name(&self) -> &str {
        "doer"
    }

    async fn decode(&self, _record: &Record) -> Intake<()> {
        Intake::Ready(())
    }

    async fn open(&self, record: &Record, _input: &(), tasks: &mut Tasks) -> Intake<()> {
        tasks.push(format_args!("{}", record.offset), &"all".into(), 100);
        Intake::Ready(())
    }

    async fn run(&self, _task: &Task<()>) -> Outcome {
        Outcome::Done
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        8
    }
}

fn spec() -> StageSpec {
    let watchdog =
        WatchdogOptions { stalled_after: Duration::from_millis(800), ..WatchdogOptions::default() };
    StageSpec {
        stage: "doer".to_owned(),
        group: "g".to_owned(),
        source: "s".to_owned(),
        retry: Some("s.doer.retry".to_owned()),
        dead_letters: "s.doer.dlq".to_owned(),
        start: StartAt::Earliest,
        options: RuntimeOptions { watchdog, ..RuntimeOptions::default() },
        control: Default::default(),
        cursors: None,
    }
}

async fn reaches(progress: &mut watch::Receiver<Progress>, position: i64) {
    let there = progress.wait_for(|now| now.partitions.get(&0).is_some_and(|at| at.position == position));
    tokio::time::timeout(Duration::from_secs(30), there).await.expect("in time").expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_no_longer_fetched_though_there_is_more_is_taken_up_anew() {
    let cluster = MockCluster::new(1).expect("it starts");
    let spec = spec();
    for topic in [&spec.source, &spec.dead_letters, spec.retry.as_ref().expect("set")] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let kafka = KafkaOptions {
        bootstrap_servers: cluster.bootstrap_servers(),
        session_timeout: Duration::from_millis(3_000),
        heartbeat_interval: Duration::from_millis(200),
        ..KafkaOptions::default()
    };
    let producer = Producer::new(&kafka).expect("settings are accepted");
    let (metrics, clock) = (Metrics::new(), Clock::system());
    let env = Environment { kafka, producer: producer.clone(), metrics: Arc::clone(&metrics), clock };
    let send = async |number: u8| {
        producer.send(OutRecord::keyed(spec.source.as_str(), vec![number], vec![number])).await.expect("sent")
    };
    send(0).await;
    let member = consumer::join(&spec, &env.kafka, &metrics, &env.clock).await.expect("it joins");
    let desk = Arc::clone(&member.desk);
    let (sender, mut progress) = watch::channel(Progress::default());
    let stop = CancellationToken::new();
    let retry = spec.retry.as_deref().expect("set").into();
    let (ours, stopped) = (spec.clone(), stop.clone());
    let engine = task::on_own_thread("engine-doer".to_owned(), move || {
        run_member(ours, retry, Arc::new(Doer), env, stopped, sender, member)
    });
    let running = task::spawn("stage", engine);
    reaches(&mut progress, 1).await;
    desk.hush(0);
    // The client's word that it holds nothing back is from before; nobody counts on a record in between.
    tokio::time::timeout(Duration::from_secs(5), async {
        while desk.is_to_be_hushed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the poll thread goes round");
    send(1).await;
    reaches(&mut progress, 2).await;
    let text = metrics.text();
    let acted = text.lines().find(|line| line.contains("watchdog_total{kind=\"stalled_partition\""));
    assert!(acted.is_some_and(|line| !line.ends_with(" 0")), "{text}");
    progress.wait_for(|now| now.partitions[&0].trouble.is_none()).await.expect("it is over");
    stop.cancel();
    let ended = running.await.expect("no panic").expect("a thread");
    assert!(ended.expect("no error").drained);
}
