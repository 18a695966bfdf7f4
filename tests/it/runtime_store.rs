//! Store stages on a real Kafka: every record's effect is stored once and in order, whatever members do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::runtime::{
    ErrorClass, Failure, PartitionFault, PartitionState, RunError, SourcePartition, StoreBatch, StoreFault,
    StoreStage, Stored, start_store_stage,
};
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};

const SOON: Duration = Duration::from_secs(40);

/// A partition's position and what was stored of it, in order.
type Stock = (Option<i64>, Vec<String>);

/// A store that several members share: per partition a position and what was stored, in order.
#[derive(Default)]
struct Shelf {
    partitions: Mutex<BTreeMap<i32, Stock>>,
    away: AtomicBool,
    /// The next batch hangs.
    hangs: AtomicBool,
}

impl Shelf {
    fn stored(&self) -> usize {
        self.partitions.lock().expect("no panic").values().map(|(_, values)| values.len()).sum()
    }
}

struct Keeper(Arc<Shelf>);

impl StoreStage for Keeper {
    fn name(&self) -> &str {
        "keeper"
    }

    async fn position(&self, at: &SourcePartition) -> Result<Option<i64>, Failure> {
        Ok(self.0.partitions.lock().expect("no panic").entry(at.partition).or_default().0)
    }

    async fn store(&self, at: &SourcePartition, batch: StoreBatch) -> Result<Stored, StoreFault> {
        if self.0.away.load(Ordering::SeqCst) {
            return Err(StoreFault::Unavailable(Failure::new(
                ErrorClass::Unavailable,
                "the shelf is locked",
            )));
        }
        if self.0.hangs.swap(false, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mut partitions = self.0.partitions.lock().expect("no panic");
        let (position, values) = partitions.entry(at.partition).or_default();
        if *position != batch.expected {
            return Err(StoreFault::PositionMoved);
        }
        values.extend(batch.records.iter().map(text));
        *position = Some(batch.next_offset);
        Ok(Stored { done: batch.records.len() as u64, ..Stored::default() })
    }
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_stored_once_and_in_order_while_members_come_go_and_die() {
    let kafka = TestKafka::new("store-members");
    let mut spec = kafka.stage("keeper", 3, false).await;
    spec.options.batch_records = 20;
    let shelf = Arc::new(Shelf::default());
    let start = || {
        let stop = CancellationToken::new();
        let stage = Arc::new(Keeper(Arc::clone(&shelf)));
        (start_store_stage(spec.clone(), stage, kafka.environment(), stop.clone()), stop)
    };
    let (first, stop_first) = start();
    let mut sent = 0;
    let mut produce = async |count: usize| {
        for partition in 0..3 {
            kafka.send(&spec.source, partition, "k", &values(sent, count)).await;
        }
        sent += count;
    };
    produce(300).await;
    eventually("some is stored", SOON, async || shelf.stored() > 100).await;
    let (second, stop_second) = start();
    produce(300).await;
    eventually("the second owns something", SOON, async || !second.progress.borrow().partitions.is_empty())
        .await;
    // The first leaves without a word, as if it had died.
    first.join.abort();
    let _ = stop_first;
    produce(300).await;
    let (third, stop_third) = start();
    eventually("all is stored", SOON, async || shelf.stored() >= 2_700).await;
    for (handle, stop) in [(second, stop_second), (third, stop_third)] {
        assert!(handle.progress.borrow().balance.holds(), "{:?}", handle.progress.borrow());
        stop.cancel();
        let ended = handle.join.await.expect("no panic").expect("no error");
        assert!(ended.drained);
        assert!(handle.progress.borrow().balance.holds(), "{:?}", handle.progress.borrow());
    }
    for (partition, (_, stored)) in shelf.partitions.lock().expect("no panic").iter() {
        assert_eq!(*stored, values(0, 900), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_hangs_is_cut_off_and_tried_again_also_in_the_background() {
    let kafka = TestKafka::new("store-hangs");
    let mut spec = kafka.stage("keeper", 1, false).await;
    spec.options.timeout = Some(Duration::from_millis(300));
    spec.options.background = true;
    let shelf = Arc::new(Shelf::default());
    shelf.hangs.store(true, Ordering::SeqCst);
    kafka.send(&spec.source, 0, "k", &values(0, 50)).await;
    let stop = CancellationToken::new();
    let stage = Arc::new(Keeper(Arc::clone(&shelf)));
    let handle = start_store_stage(spec.clone(), stage, kafka.environment(), stop.clone());
    let waits = || {
        let progress = handle.progress.borrow();
        progress.partitions.values().any(
            |partition| matches!(&partition.state, PartitionState::Waiting(why) if why.contains("300ms")),
        )
    };
    eventually("it says why it waits", SOON, async || waits()).await;
    eventually("stored", SOON, async || shelf.stored() == 50).await;
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
    assert_eq!(shelf.partitions.lock().expect("no panic")[&0].1, values(0, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_the_last_one_ended() {
    let kafka = TestKafka::new("store-restart");
    let spec = kafka.stage("keeper", 1, false).await;
    for round in 0..2 {
        // A fresh shelf: were the position not committed in Kafka, everything would be stored again.
        let shelf = Arc::new(Shelf::default());
        kafka.send(&spec.source, 0, "k", &values(round * 50, 50)).await;
        let stop = CancellationToken::new();
        let stage = Arc::new(Keeper(Arc::clone(&shelf)));
        let handle = start_store_stage(spec.clone(), stage, kafka.environment(), stop.clone());
        eventually("stored", SOON, async || shelf.stored() >= 50).await;
        stop.cancel();
        assert!(handle.join.await.expect("no panic").expect("no error").drained);
        assert_eq!(shelf.partitions.lock().expect("no panic")[&0].1, values(round * 50, 50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stored_position_wins_over_the_one_committed_in_kafka() {
    let kafka = TestKafka::new("store-truth");
    let spec = kafka.stage("keeper", 1, false).await;
    kafka.send(&spec.source, 0, "k", &values(0, 50)).await;
    for stored_before in [0, 10, 30] {
        let shelf = Arc::new(Shelf::default());
        shelf.partitions.lock().expect("no panic").insert(0, (Some(stored_before), Vec::new()));
        let stop = CancellationToken::new();
        let stage = Arc::new(Keeper(Arc::clone(&shelf)));
        let handle = start_store_stage(spec.clone(), stage, kafka.environment(), stop.clone());
        let missing = 50 - usize::try_from(stored_before).expect("small");
        eventually("what lies above it is stored", SOON, async || shelf.stored() >= missing).await;
        stop.cancel();
        assert!(handle.join.await.expect("no panic").expect("no error").drained);
        let from = usize::try_from(stored_before).expect("small");
        assert_eq!(shelf.partitions.lock().expect("no panic")[&0].1, values(from, missing));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_partitions_wait_and_go_on_by_themselves() {
    let kafka = TestKafka::new("store-away");
    let spec = kafka.stage("keeper", 1, false).await;
    let shelf = Arc::new(Shelf::default());
    shelf.away.store(true, Ordering::SeqCst);
    kafka.send(&spec.source, 0, "k", &values(0, 10)).await;
    let stop = CancellationToken::new();
    let handle = start_store_stage(
        spec.clone(),
        Arc::new(Keeper(Arc::clone(&shelf))),
        kafka.environment(),
        stop.clone(),
    );
    eventually("the partition says that it waits", SOON, async || {
        let progress = handle.progress.borrow();
        matches!(progress.partitions.get(&0).map(|at| at.state.clone()), Some(PartitionState::Waiting(_)))
    })
    .await;
    shelf.away.store(false, Ordering::SeqCst);
    eventually("caught up", SOON, async || handle.progress.borrow().is_caught_up() && shelf.stored() == 10)
        .await;
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
    assert!(kafka.all(&spec.dead_letters).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_named() {
    let kafka = TestKafka::new("store-missing");
    let mut spec = kafka.spec("keeper", false);
    spec.options.topic_timeout = Duration::from_millis(500);
    let stage = Arc::new(Keeper(Arc::default()));
    let stop = CancellationToken::new();
    let handle = start_store_stage(spec.clone(), stage, kafka.environment(), stop);
    let error = handle.join.await.expect("no panic").expect_err("refused");
    assert!(matches!(&error, RunError::TopicMissing { topic, .. } if *topic == spec.source), "{error}");
    assert!(error.to_string().contains("topology apply"));
}

/// Invariant 8 (nothing lost).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_outside_the_log_stops_its_partition_by_name_and_no_other() {
    let kafka = TestKafka::new("store-outside");
    let spec = kafka.stage("keeper", 2, false).await;
    for round in 0..2 {
        for partition in 0..2 {
            kafka.send(&spec.source, partition, "k", &values(round * 50, 50)).await;
        }
        if round == 1 {
            kafka.delete_records(&spec.source, 0, 80).await;
        }
        let shelf = Arc::new(Shelf::default());
        let stop = CancellationToken::new();
        let stage = Arc::new(Keeper(Arc::clone(&shelf)));
        let handle = start_store_stage(spec.clone(), stage, kafka.environment(), stop.clone());
        let expected = if round == 0 { 100 } else { 50 };
        eventually("the readable is stored", SOON, async || shelf.stored() >= expected).await;
        eventually("the other is named", SOON, async || {
            handle.progress.borrow().faults().len() == round && handle.progress.borrow().partitions.len() == 2
        })
        .await;
        if round == 1 {
            let progress = handle.progress.borrow();
            let outside = PartitionFault::PositionOutsideLog {
                topic: spec.source.clone(),
                partition: 0,
                committed: 50,
                low: 80,
                high: 100,
            };
            assert_eq!(progress.faults(), [&outside]);
            assert!(!progress.is_caught_up());
        }
        stop.cancel();
        assert!(handle.join.await.expect("no panic").expect("no error").drained);
    }
}
