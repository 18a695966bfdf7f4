//! Dead letters that never came to be tasks: opened anew by effect stages, and taken by one store stage alone.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::admin::OfStage;
use orderflow::admin::dead_letters::{DeadLetters, Filter, Tools, Wanted};
use orderflow::clock::Clock;
use orderflow::runtime::{
    EffectStage, ErrorClass, Failure, Intake, Outcome, Record, Task, Tasks, start_effect_stage,
};
use orderflow::stages::StageOptions;
use tokio_util::sync::CancellationToken;

use super::redrive::{declared, operator};
use crate::harness::eventually;
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
