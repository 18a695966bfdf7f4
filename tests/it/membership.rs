//! Members that Kafka throws out, and positions that leave the log: told, and gone on from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::runtime::{
    Failure, KafkaOptions, Outcome, PartitionFault, SourcePartition, StoreBatch, StoreFault, StoreStage,
    Stored, start_effect_stage, start_store_stage,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::courier::{Courier, Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

/// Two processes were given one name. Kafka fences the one that was there first, whose client is then dead for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_name_another_one_takes_says_so_and_is_back_when_that_one_is_gone() {
    let kafka = TestKafka::new("fenced");
    let spec = kafka.stage("courier", 1, true).await;
    let named = KafkaOptions { group_instance_id: Some("one".to_owned()), ..kafka.options.clone() };
    let outside = Arc::new(Outside::default());
    let done: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
    let start = || {
        let (_, open) = watch::channel(true);
        let stage = Courier { outside: Arc::clone(&outside), plan: Arc::clone(&done), open };
        let mut env = kafka.environment();
        env.kafka = named.clone();
        let (metrics, stop) = (Arc::clone(&env.metrics), CancellationToken::new());
        let handle = start_effect_stage(spec.clone(), Arc::new(stage), env, stop.clone());
        (Member { handle, stop }, metrics)
    };
    let (first, metrics) = start();
    kafka.send(&spec.source, 0, "k", &["a 0".to_owned()]).await;
    eventually("the first one works", SOON, async || outside.distinct() == 1).await;
    let mut told = first.handle.progress.clone();
    let (second, _) = start();
    let outcast = told.wait_for(|progress| progress.outside.is_some());
    let outcast = tokio::time::timeout(SOON, outcast).await.expect("in time").expect("it runs").troubles();
    assert!(outcast.iter().any(|trouble| trouble.contains("outside of its group")), "{outcast:?}");
    second.stop.cancel();
    second.handle.join.await.expect("no panic").expect("no error");
    kafka.send(&spec.source, 0, "k", &["a 1".to_owned(), "a 2".to_owned()]).await;
    eventually("the first one is back", SOON, async || outside.distinct() == 3).await;
    eventually("and says so", SOON, async || first.handle.progress.borrow().outside.is_none()).await;
    outside.assert_order();
    let text = metrics.text();
    let rebuilt = text
        .lines()
        .find_map(|line| line.strip_prefix("orderflow_member_rebuilds_total{stage=\"courier\"} "));
    assert!(rebuilt.is_some_and(|count| count != "0"), "{rebuilt:?}");
    first.stop.cancel();
    first.handle.join.await.expect("no panic").expect("no error");
}

/// A store that doesn't say where it stands before it may.
struct Shy {
    may_tell: watch::Receiver<bool>,
    stored: Mutex<Vec<(i32, i64)>>,
}

impl StoreStage for Shy {
    fn name(&self) -> &str {
        "shy"
    }

    async fn position(&self, _at: &SourcePartition) -> Result<Option<i64>, Failure> {
        let _ = self.may_tell.clone().wait_for(|may| *may).await;
        Ok(None)
    }

    async fn store(&self, _at: &SourcePartition, batch: StoreBatch) -> Result<Stored, StoreFault> {
        let offsets = batch.records.iter().map(|record| (record.partition, record.offset));
        self.stored.lock().expect("no panic").extend(offsets);
        Ok(Stored { done: batch.records.len() as u64, ..Stored::default() })
    }
}

/// Invariant 8: the position was in the log when the partition was taken up, and isn't when it is fetched first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_leaves_the_log_before_the_first_fetch_is_a_named_fault() {
    let kafka = TestKafka::new("left-the-log");
    let spec = kafka.stage("shy", 2, false).await;
    for partition in 0..2 {
        let values: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        kafka.send(&spec.source, partition, "k", &values).await;
    }
    let (tell, may_tell) = watch::channel(false);
    let stage = Arc::new(Shy { may_tell, stored: Mutex::default() });
    let stop = CancellationToken::new();
    let handle = start_store_stage(spec.clone(), Arc::clone(&stage), kafka.environment(), stop.clone());
    eventually("it owns both", SOON, async || handle.progress.borrow().partitions.len() == 2).await;
    kafka.delete_records(&spec.source, 0, 3).await;
    tell.send_replace(true);
    eventually("the fault is named", SOON, async || !handle.progress.borrow().faults().is_empty()).await;
    let fault = handle.progress.borrow().faults()[0].clone();
    let PartitionFault::PositionOutsideLog { partition: 0, committed: 0, low: 3, high: 5, .. } = fault else {
        panic!("{fault}");
    };
    eventually("the other partition goes on", SOON, async || {
        handle.progress.borrow().partitions.get(&1).is_some_and(|at| at.position == 5)
    })
    .await;
    let mut stored = stage.stored.lock().expect("no panic").clone();
    stored.sort_unstable();
    // Nothing was jumped over in silence.
    assert_eq!(stored, [0, 1, 2, 3, 4].map(|offset| (1, offset)));
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
}
