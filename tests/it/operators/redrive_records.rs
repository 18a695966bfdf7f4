//! Dead letters that never came to be tasks: opened anew by effect stages, and taken by one store stage alone.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::admin::OfStage;
use orderflow::admin::dead_letters::{DeadLetters, Filter, Tools, Wanted};
use orderflow::clock::Clock;
use orderflow::runtime::retry::{Mark, REDRIVE_ID, TaskOf};
use orderflow::runtime::{
    EffectStage, ErrorClass, Failure, Intake, OutRecord, Outcome, Record, StageSpec, Task, Tasks,
    start_effect_stage,
};
use orderflow::stages::StageOptions;
use tokio_util::sync::CancellationToken;

use super::redrive::{declared, operator};
use crate::harness::eventually;
use crate::harness::group::committed;
use crate::harness::kafka::{TestKafka, text};
use crate::harness::program::TestProgram;
use crate::harness::schema::TestSchema;

const SOON: Duration = Duration::from_secs(60);

/// Reads nothing until it is mended; then every record goes to two targets.
#[derive(Default)]
struct Picky {
    mended: AtomicBool,
    seen: Mutex<Vec<(i64, String)>>,
}

impl EffectStage for Picky {
    type Input = String;

    fn name(&self) -> &str {
        "picky"
    }

    async fn decode(&self, record: &Record) -> Intake<String> {
        match self.mended.load(Ordering::SeqCst) {
            true => Intake::Ready(text(record)),
            false => Intake::Dead(Failure::new(ErrorClass::Decode, "not mended yet")),
        }
    }

    async fn open(&self, _: &Record, _: &String, tasks: &mut Tasks) -> Intake<()> {
        for target in ["a", "b"] {
            tasks.push(target, &target.into(), 100);
        }
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<String>) -> Outcome {
        let done = (task.record.offset, format!("{} {}", task.target, *task.input));
        self.seen.lock().expect("no panic").push(done);
        Outcome::Done
    }

    fn target_concurrency(&self, _: &str) -> usize {
        4
    }
}

fn everything() -> Wanted {
    Wanted { filter: Filter::default(), limit: 100, rate: None, most_redrives: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_could_not_be_read_is_opened_anew_under_its_own_offset() {
    let kafka = TestKafka::new("ops-redrive-record");
    let spec = kafka.stage("picky", 1, true).await;
    let values: Vec<String> = (0..3).map(|number| number.to_string()).collect();
    kafka.send(&spec.source, 0, "k", &values).await;
    let stage = Arc::new(Picky::default());
    let stop = CancellationToken::new();
    let member = start_effect_stage(spec.clone(), Arc::clone(&stage), kafka.environment(), stop.clone());
    let dead = || member.progress.borrow().balance.dead;
    eventually("they are dead", SOON, || ready(dead() == 3)).await;

    let schema = TestSchema::create().await;
    let db = schema.database(&crate::harness::service("ORDERFLOW_TEST_POSTGRES"));
    db.migrate().await.expect("it migrates");
    let (clock, declared, by) = (Clock::system(), declared(&spec), operator("ann"));
    let desk = DeadLetters {
        of: OfStage {
            kafka: &kafka.options,
            db: &db,
            clock: &clock,
            cluster_id: "a-cluster".into(),
            stage: &declared,
        },
    };
    let tools = Tools { producer: &kafka.producer, by: &by };
    // Still broken: they die again, and remember that they were redriven.
    assert_eq!(desk.redrive(&everything(), &tools).await.expect("it is done").sent, 3);
    eventually("they are dead again", SOON, || ready(dead() == 6)).await;
    stage.mended.store(true, Ordering::SeqCst);
    let refused = desk.redrive(&everything(), &tools).await.expect("it is done");
    assert_eq!((refused.sent, refused.refused), (0, 3), "{refused:?}");
    let forced = Wanted { most_redrives: 9, ..everything() };
    assert_eq!(desk.redrive(&forced, &tools).await.expect("it is done").sent, 3);
    eventually("both targets have all", SOON, || ready(stage.seen.lock().expect("no panic").len() == 6))
        .await;
    for target in ["a", "b"] {
        let seen = stage.seen.lock().expect("no panic").clone();
        let of: Vec<_> = seen.into_iter().filter(|(_, what)| what.starts_with(target)).collect();
        let expected: Vec<_> = (0..3).map(|number| (number, format!("{target} {number}"))).collect();
        assert_eq!(of, expected, "in order, under the source's offsets");
    }
    eventually("it is caught up", SOON, || ready(member.progress.borrow().is_caught_up())).await;
    assert!(member.progress.borrow().balance.holds());
    stop.cancel();
    assert!(member.join.await.expect("no panic").expect("no error").drained);
    db.close().await;
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_stages_dead_letter_goes_back_through_the_source_for_that_stage_alone() {
    let mut program = TestProgram::new("ops-redrive-store", StageOptions::default()).await;
    program.start(&["history", "dispute"]);
    program.send_raw(Some(b"o-1"), Some(b"not an event")).await;
    let history = program.topic("orders.events.history.dlq");
    let dispute = program.topic("orders.events.dispute.dlq");
    eventually("both gave it up", SOON, async || {
        program.kafka.all(&history).await.len() == 1 && program.kafka.all(&dispute).await.len() == 1
    })
    .await;
    let (clock, by) = (Clock::system(), operator("ann"));
    let desk = DeadLetters {
        of: OfStage {
            kafka: &program.kafka.options,
            db: &program.parts.db,
            clock: &clock,
            cluster_id: Arc::clone(&program.parts.cluster_id),
            stage: program.parts.topology.stage("history").expect("declared"),
        },
    };
    let tools = Tools { producer: &program.kafka.producer, by: &by };
    assert_eq!(desk.redrive(&everything(), &tools).await.expect("it is done").sent, 1);
    eventually("history gave it up again", SOON, async || program.kafka.all(&history).await.len() == 2).await;
    let found = desk.find(&Filter::default(), 10).await.expect("it is read");
    let [again] = found.letters.as_slice() else { panic!("one, not {:?}", found.letters) };
    assert_eq!((again.redrives(), again.cause()), (1, ErrorClass::Decode));
    assert_eq!(again.record.payload.as_deref(), Some(&b"not an event"[..]));
    // Whatever comes behind it at the source was taken by both.
    program.send_raw(Some(b"o-1"), Some(b"nor is this")).await;
    eventually("both gave that up", SOON, async || program.kafka.all(&dispute).await.len() == 2).await;
    program.end().await;
}

/// Appends to the retry topic what a redrive writes of the source's first record, or, with an epoch, what an owner makes of
/// that for a target.
async fn put_back(kafka: &TestKafka, spec: &StageSpec, made: Option<(&str, &str)>) {
    let source = kafka.all(&spec.source).await.swap_remove(0);
    let task = made.map(|(target, _)| TaskOf { lane: target.into(), target: target.into(), priority: 100 });
    let epoch = made.map_or("", |(_, epoch)| epoch);
    let mark = Mark { task, ..Mark::of(&source, &"picky".into(), epoch) };
    let mut headers = mark.write(&source.headers);
    headers.push(REDRIVE_ID, "r-1");
    let retry = spec.retry.as_deref().expect("set");
    let record = OutRecord {
        partition: Some(0),
        headers,
        ..OutRecord::keyed(retry, source.key.expect("a key"), source.payload.expect("a value"))
    };
    kafka.producer.send(record).await.expect("acknowledged");
}

/// Runs the stage until the retry partition's position is `until`; `then` is done when it is `at`.
async fn own(
    kafka: &TestKafka,
    spec: &StageSpec,
    stage: &Arc<Picky>,
    (at, until): (i64, i64),
    then: impl AsyncFnOnce(),
) {
    let stop = CancellationToken::new();
    let member = start_effect_stage(spec.clone(), Arc::clone(stage), kafka.environment(), stop.clone());
    let retry = spec.retry.as_deref().expect("set");
    let position = async || committed(kafka, spec, retry, 0).await.offset;
    eventually("it came so far", SOON, async || position().await >= at).await;
    then().await;
    eventually("all is complete", SOON, async || position().await >= until).await;
    stop.cancel();
    assert!(member.join.await.expect("no panic").expect("no error").drained);
}

fn seen_by(stage: &Picky, target: &str) -> usize {
    let seen = stage.seen.lock().expect("no panic");
    seen.iter().filter(|(_, what)| what.starts_with(target)).count()
}

/// Rule 5: what a redriven record was opened to is its owner's, and void when it lands behind a later owner's marker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_task_of_a_redriven_record_does_not_run_again_for_the_next_owner() {
    let kafka = TestKafka::new("ops-redrive-late");
    let spec = kafka.stage("picky", 1, true).await;
    let retry = spec.retry.clone().expect("set");
    kafka.send(&spec.source, 0, "k", &["0".to_owned()]).await;
    let stage = Arc::new(Picky::default());
    stage.mended.store(true, Ordering::SeqCst);
    own(&kafka, &spec, &stage, (1, 4), async || put_back(&kafka, &spec, None).await).await;
    assert_eq!((seen_by(&stage, "a"), seen_by(&stage, "b")), (2, 2), "from the source, and redriven");
    let records = kafka.all(&retry).await;
    let tasks: Vec<_> = records.iter().filter(|record| record.headers.text("of-lane").is_some()).collect();
    // The same appends once more, as a producer brings them that was slow.
    let late = async || {
        for task in &tasks {
            let (key, value) = (task.key.clone().expect("a key"), task.payload.clone().expect("a value"));
            let again = OutRecord {
                partition: Some(0),
                headers: task.headers.clone(),
                ..OutRecord::keyed(retry.as_str(), key, value)
            };
            kafka.producer.send(again).await.expect("acknowledged");
        }
    };
    own(&kafka, &spec, &stage, (5, 7), late).await;
    assert_eq!((seen_by(&stage, "a"), seen_by(&stage, "b")), (2, 2), "nothing ran again");
    let epoch = records[0].headers.text("of-epoch");
    assert!(tasks.iter().all(|task| task.headers.text("of-epoch") == epoch), "their owner's");
}

/// An owner that dies while it opens a redriven record leaves some of its tasks behind it: the next one adds the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_record_that_was_opened_in_part_is_opened_to_the_rest_by_the_next_owner() {
    let kafka = TestKafka::new("ops-redrive-part");
    let spec = kafka.stage("picky", 1, true).await;
    let retry = spec.retry.clone().expect("set");
    kafka.send(&spec.source, 0, "k", &["0".to_owned()]).await;
    let stage = Arc::new(Picky::default());
    stage.mended.store(true, Ordering::SeqCst);
    own(&kafka, &spec, &stage, (1, 1), async || {}).await;
    let epoch = kafka.all(&retry).await.swap_remove(0).headers.text("of-epoch").expect("set").to_owned();
    put_back(&kafka, &spec, None).await;
    put_back(&kafka, &spec, Some(("a", &epoch))).await;
    own(&kafka, &spec, &stage, (4, 5), async || {}).await;
    assert_eq!((seen_by(&stage, "a"), seen_by(&stage, "b")), (2, 2), "each once more");
    let told = |record: Record| record.headers.text("of-target").unwrap_or("-").to_owned();
    let targets: Vec<_> = kafka.all(&retry).await.into_iter().map(told).collect();
    assert_eq!(targets, ["-", "-", "a", "-", "b"], "two markers, the record, and each task once");
}
