//! The retry topic on a real Kafka: kept short, kept for ever, and never left by what could not be written to it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use orderflow::runtime::cursor::{
    Claimed, CursorStore, CursorWish, CursorWrite, MemoryCursors, Past, StoreAnswer,
};
use orderflow::runtime::retry::Mark;
use orderflow::runtime::{
    ErrorClass, Failure, OutRecord, Outcome, PartitionFault, PartitionState, ReadFrom, SourcePartition,
    StageSpec, TopicReader, start_effect_stage,
};
use orderflow::topology::HEADER_ROOM_BYTES;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::courier::{Courier, Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::group::committed;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);
const MEBIBYTE: usize = 1024 * 1024;

fn later(ms: u64) -> Outcome {
    Outcome::Retry {
        after: Duration::from_millis(ms),
        why: Failure::new(ErrorClass::Unavailable, "come back later"),
    }
}

fn retry(spec: &StageSpec) -> &str {
    spec.retry.as_deref().expect("set")
}

/// Parks the first attempt of every task, and lets the lane `wait.a` wait for `ms`.
fn parking(ms: u64) -> Arc<Plan> {
    Arc::new(move |lane: &str, _, attempt| match (lane, attempt) {
        ("wait.a", 1) => later(ms),
        (_, 1) => later(1),
        _ => Outcome::Done,
    })
}

/// Sends a record with so many bytes in a header that no compression shrinks.
async fn send_large(kafka: &TestKafka, spec: &StageSpec, value: &str, bytes: usize) -> OutRecord {
    let mut noise = vec![0; bytes];
    SmallRng::seed_from_u64(7).fill_bytes(&mut noise);
    let mut record = OutRecord::keyed(spec.source.as_str(), "k", value.to_owned());
    record.partition = Some(0);
    record.headers.push("noise", noise);
    kafka.producer.send(record.clone()).await.expect("acknowledged");
    record
}

/// Rule 6, and invariants 2 (order) and 6 (bounds).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_waits_long_is_carried_to_the_end_and_holds_nothing_back() {
    let kafka = TestKafka::new("carried");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::ZERO;
    let waiting = ["wait.a 0", "wait.a 1"].map(str::to_owned);
    kafka.send(&spec.source, 0, "k", &waiting).await;
    let others: Vec<String> = (0..1_200).map(|lane| format!("all.{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &others).await;
    let outside = Arc::new(Outside::default());
    let first = Member::start(&kafka, &spec, &outside, &parking(25_000));
    eventually("the others are done", SOON, async || outside.distinct() == 1_200).await;
    eventually("what is complete before the waiting lane holds nothing back", SOON, async || {
        committed(&kafka, &spec, retry(&spec), 0).await.offset > 1_000
    })
    .await;
    assert_eq!(first.handle.progress.borrow().balance.parked, 2);
    first.die().await;
    let second = Member::start(&kafka, &spec, &outside, &parking(25_000));
    second.settled().await;
    assert_eq!(outside.of("wait.a"), [0, 1]);
    assert_eq!(outside.attempts_of("wait.a", 0), 2, "the copy is not another task");
    assert_eq!(outside.attempts_of("wait.a", 1), 2, "attempted after the first, and parked itself");
    let (records, done) = (kafka.all(retry(&spec)).await, committed(&kafka, &spec, retry(&spec), 0).await);
    let copies = records.iter().filter_map(|record| Mark::read(&record.headers).ok());
    assert!(copies.filter(|mark| mark.source.offset == 0).count() >= 2, "it was copied");
    assert_eq!(done.offset, records.last().expect("not empty").offset + 1);
    outside.assert_order();
    second.leave().await;
}

/// Rule 9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_complete_is_deleted_from_the_retry_topic_and_what_waits_is_not() {
    let kafka = TestKafka::new("pruned");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::ZERO;
    spec.options.prune_interval = Duration::from_millis(200);
    let outside = Arc::new(Outside::default());
    let others: Vec<String> = (0..20).map(|lane| format!("all.{lane} 0")).collect();
    kafka.send(&spec.source, 0, "k", &others).await;
    let member = Member::start(&kafka, &spec, &outside, &parking(3_600_000));
    eventually("the others are done", SOON, async || outside.distinct() == 20).await;
    kafka.send(&spec.source, 0, "k", &["wait.a 0".to_owned()]).await;
    eventually("only what waits is left", SOON, async || {
        let left = kafka.all(retry(&spec)).await;
        matches!(left.as_slice(), [one] if one.headers.text("of-lane") == Some("wait.a"))
    })
    .await;
    member.leave_early().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_passes_over_what_was_deleted_before_it_came_there() {
    let kafka = TestKafka::new("overtaken");
    let topic = kafka.name("events");
    kafka.create(std::slice::from_ref(&topic), 1).await;
    let values: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    kafka.send(&topic, 0, "k", &values).await;
    kafka.delete_records(&topic, 0, 3).await;
    let opened = TopicReader::open(&kafka.options, &topic, None, ReadFrom::Offset(1)).await;
    let mut reader = opened.expect("the topic is there");
    let first = tokio::time::timeout(SOON, reader.next_to_end()).await.expect("it goes on");
    assert_eq!(first.map(|record| record.offset), Some(3));
}

/// The group isn't subscribed to the retry topic, so that the broker forgets positions there that stand for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_the_retry_topic_are_committed_again_though_nothing_happens() {
    let kafka = TestKafka::new("recommitted");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.recommit_interval = Duration::from_millis(300);
    let outside = Arc::new(Outside::default());
    let member = Member::start(&kafka, &spec, &outside, &parking(1));
    eventually("the marker is passed", SOON, async || {
        committed(&kafka, &spec, retry(&spec), 0).await.offset == 1
    })
    .await;
    let mut commits = TopicReader::open(&kafka.options, "__consumer_offsets", None, ReadFrom::Latest)
        .await
        .expect("the broker's own topic is there");
    let of_retry = [spec.group.as_bytes(), retry(&spec).as_bytes()];
    let mut seen = 0;
    let reading = async {
        while seen < 3 {
            let record = commits.next().await.expect("reading goes on");
            let key = record.key.unwrap_or_default();
            let names = |name: &&[u8]| key.windows(name.len()).any(|part| part == *name);
            seen += usize::from(of_retry.iter().all(names));
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("it is committed again and again");
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_positions_were_deleted_stops_by_name_and_repeats_nothing() {
    let kafka = TestKafka::new("forgotten");
    let mut spec = kafka.stage("courier", 1, true).await;
    spec.options.in_place_limit = Duration::ZERO;
    let outside = Arc::new(Outside::default());
    kafka.send(&spec.source, 0, "k", &["all.a 0".to_owned(), "wait.a 0".to_owned()]).await;
    let first = Member::start(&kafka, &spec, &outside, &parking(3_600_000));
    eventually("one is done, one waits", SOON, async || {
        outside.distinct() == 1 && first.handle.progress.borrow().balance.parked == 1
    })
    .await;
    first.leave_early().await;
    kafka.delete_group(&spec.group).await;
    let second = Member::start(&kafka, &spec, &outside, &parking(3_600_000));
    eventually("the partition stops by name", SOON, async || {
        let progress = second.handle.progress.borrow();
        matches!(progress.faults().as_slice(), [PartitionFault::PositionMissing { partition: 0, .. }])
    })
    .await;
    assert_eq!(outside.attempts_of("all.a", 0), 2, "nothing is repeated");
    second.leave_early().await;
}

/// Invariants 1 (completion) and 2 (order): what can't be parked stops its partition, so nothing overtakes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_parked_stops_its_partition_and_no_later_one_of_its_lane_runs() {
    let kafka = TestKafka::new("unparkable");
    let mut spec = kafka.spec("courier", true);
    spec.options.in_place_limit = Duration::ZERO;
    kafka.create_sized(&spec.source, 2, 2 * MEBIBYTE).await;
    kafka.create(std::slice::from_ref(&spec.dead_letters), 2).await;
    kafka.create_sized(retry(&spec), 2, MEBIBYTE / 2).await;
    let outside = Arc::new(Outside::default());
    send_large(&kafka, &spec, "all.a 0", MEBIBYTE).await;
    kafka.send(&spec.source, 0, "k", &["all.a 1".to_owned()]).await;
    kafka.send(&spec.source, 1, "k", &["all.b 0".to_owned()]).await;
    let first = Member::start(&kafka, &spec, &outside, &parking(1));
    eventually("its partition stops by name", SOON, async || {
        let progress = first.handle.progress.borrow();
        let state = progress.partitions.get(&0).map(|partition| partition.state.clone());
        matches!(state, Some(PartitionState::Stopped(PartitionFault::CannotPutAside { offset: 0, .. })))
    })
    .await;
    eventually("the other goes on", SOON, async || outside.of("all.b") == [0]).await;
    assert_eq!(outside.of("all.a"), [0u64; 0]);
    assert_eq!(committed(&kafka, &spec, &spec.source, 0).await.offset, 0);
    first.leave_early().await;
    kafka.resize(retry(&spec), 2 * MEBIBYTE + 64 * 1024).await;
    let second = Member::start(&kafka, &spec, &outside, &parking(1));
    second.settled().await;
    assert_eq!(outside.of("all.a"), [0, 1]);
    second.leave().await;
}

/// The topology gives retry topics that much more than the source: enough for what parking adds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_near_the_size_limit_is_parked_and_dead_lettered_like_any_other() {
    let kafka = TestKafka::new("large");
    let mut spec = kafka.spec("courier", true);
    spec.options.in_place_limit = Duration::ZERO;
    kafka.create_sized(&spec.source, 1, MEBIBYTE).await;
    for topic in [retry(&spec), &spec.dead_letters] {
        kafka.create_sized(topic, 1, MEBIBYTE + HEADER_ROOM_BYTES).await;
    }
    let outside = Arc::new(Outside::default());
    let plan: Arc<Plan> = Arc::new(|_: &str, _, attempt| match attempt {
        1 => Outcome::Retry {
            after: Duration::from_millis(1),
            why: Failure::new(ErrorClass::Unavailable, "x".repeat(5_000)),
        },
        _ => Outcome::Dead(Failure::new(ErrorClass::Rejected, "x".repeat(5_000))),
    });
    let sent = send_large(&kafka, &spec, "all.a 0", MEBIBYTE - 256).await;
    let member = Member::start(&kafka, &spec, &outside, &plan);
    eventually("it is dead", SOON, async || member.handle.progress.borrow().balance.dead == 1).await;
    let dead = kafka.all(&spec.dead_letters).await;
    assert_eq!(
        (&dead[0].payload, dead[0].headers.last("noise")),
        (&sent.payload, sent.headers.last("noise"))
    );
    member.settled().await;
    member.leave().await;
}

/// A store of cursors that answers for partition 0, and for the others once it is whole: a retry partition is read back
/// only when the cursors are known.
#[derive(Debug)]
struct HalfAway {
    cursors: MemoryCursors,
    whole: watch::Receiver<bool>,
}

impl CursorStore for HalfAway {
    fn claim<'a>(&'a self, at: &'a SourcePartition, epoch: i64) -> BoxFuture<'a, Result<Claimed, Failure>> {
        Box::pin(async move {
            let _ = self.whole.clone().wait_for(|whole| *whole || at.partition == 0).await;
            self.cursors.claim(at, epoch).await
        })
    }

    fn store<'a>(
        &'a self,
        at: &'a SourcePartition,
        epoch: i64,
        write: &'a CursorWrite,
    ) -> BoxFuture<'a, Result<StoreAnswer, Failure>> {
        self.cursors.store(at, epoch, write)
    }

    fn wishes<'a>(
        &'a self,
        at: &'a SourcePartition,
    ) -> BoxFuture<'a, Result<Vec<(i64, CursorWish)>, Failure>> {
        self.cursors.wishes(at)
    }

    fn ask<'a>(
        &'a self,
        at: &'a SourcePartition,
        wish: &'a CursorWish,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        self.cursors.ask(at, wish)
    }

    fn past<'a>(
        &'a self,
        at: &'a SourcePartition,
        from: i64,
        to: i64,
    ) -> BoxFuture<'a, Result<Past, Failure>> {
        self.cursors.past(at, from, to)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_tells_how_much_parked_work_is_still_to_be_read_back() {
    let kafka = TestKafka::new("unread");
    let mut spec = kafka.stage("courier", 2, true).await;
    spec.options.in_place_limit = Duration::ZERO;
    for partition in 0..2 {
        let values: Vec<String> = (0..20).map(|lane| format!("all.{partition}-{lane} 0")).collect();
        kafka.send(&spec.source, partition, "k", &values).await;
    }
    let outside = Arc::new(Outside::default());
    let putting_off: Arc<Plan> = Arc::new(|_: &str, _, _| later(3_600_000));
    let first = Member::start(&kafka, &spec, &outside, &putting_off);
    eventually("all is parked", SOON, async || first.handle.progress.borrow().balance.parked == 40).await;
    first.leave_early().await;

    let (make_whole, whole) = watch::channel(false);
    spec.cursors = Some(Arc::new(HalfAway { cursors: MemoryCursors::default(), whole }));
    let (env, stop, (_, open)) = (kafka.environment(), CancellationToken::new(), watch::channel(true));
    let metrics = Arc::clone(&env.metrics);
    let stage = Courier { outside: Arc::clone(&outside), plan: putting_off, open };
    let handle = start_effect_stage(spec.clone(), Arc::new(stage), env, stop.clone());
    let second = Member { handle, stop };
    let tells = |unread: [u64; 2]| {
        let sum: u64 = unread.iter().sum();
        let progress = second.handle.progress.borrow();
        progress.partitions.values().map(|partition| partition.unread).eq(unread)
            && metrics
                .text()
                .lines()
                .any(|line| line.ends_with(&format!("retry_unread{{stage=\"courier\"}} {sum}")))
    };
    eventually("one partition is read back", SOON, async || tells([0, 20])).await;
    let state = |partition| second.handle.progress.borrow().partitions[&partition].state.clone();
    assert_eq!([state(0), state(1)], [PartitionState::Flowing, PartitionState::Starting]);
    make_whole.send_replace(true);
    eventually("the other is, too", SOON, async || tells([0, 0])).await;
    eventually("both flow", SOON, async || {
        [state(0), state(1)].iter().all(|s| *s == PartitionState::Flowing)
    })
    .await;
    assert_eq!(second.handle.progress.borrow().balance.parked, 40);
    second.leave_early().await;
}
