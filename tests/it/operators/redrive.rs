//! Dead letters go back to their stage: once each, in order, by whom the audit knows; a cut-off redrive is continued.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orderflow::admin::dead_letters::{DeadLetters, Filter, Tools, Wanted};
use orderflow::admin::{Audited, OfStage, Operator, audit};
use orderflow::clock::Clock;
use orderflow::crypto::Secret;
use orderflow::runtime::control::Wishes;
use orderflow::runtime::{Control, ErrorClass, Failure, Outcome, StageSpec};
use orderflow::store::{Database, StoreOptions};
use orderflow::topology::{Stage, Topology};

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;
use crate::harness::schema::TestSchema;

const SOON: Duration = Duration::from_secs(60);
const LANES: u64 = 100;
const CAUSES: [ErrorClass; 3] = [ErrorClass::Rejected, ErrorClass::Exhausted, ErrorClass::Timeout];

/// The courier's stage, as a topology would declare it.
pub(crate) fn declared(spec: &StageSpec) -> Stage {
    let topology = Topology::built_in().expect("it is valid");
    Stage {
        name: spec.stage.clone(),
        source: spec.source.as_str().into(),
        group: spec.group.as_str().into(),
        retry_topic: spec.retry.as_deref().map(Into::into),
        dead_letters: spec.dead_letters.as_str().into(),
        ..topology.stage("webhook").expect("declared").clone()
    }
}

pub(crate) fn operator(name: &str) -> Operator {
    Operator { name: name.to_owned(), reason: "the partner is back".to_owned() }
}

fn wanted(cause: &str) -> Wanted {
    let filter = Filter { cause: Some(cause.to_owned()), ..Filter::default() };
    Wanted { filter, limit: 10_000, rate: None, most_redrives: 3 }
}

async fn sqlite(folder: &tempfile::TempDir) -> Database {
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let options = StoreOptions { url: Secret::new(url), ..StoreOptions::default() };
    let db = Database::open(&options).expect("a valid URL");
    db.migrate().await.expect("it migrates");
    db
}

fn letters<'a>(
    kafka: &'a TestKafka,
    db: &'a Database,
    clock: &'a Clock,
    stage: &'a Stage,
) -> DeadLetters<'a> {
    DeadLetters { of: OfStage { kafka: &kafka.options, db, clock, cluster_id: "a-cluster".into(), stage } }
}

/// Of every lane 1 to 5 die until the plan is mended; the cause goes by the lane.
fn dying(mended: &Arc<AtomicBool>) -> Arc<Plan> {
    let mended = Arc::clone(mended);
    Arc::new(move |lane: &str, number, _| {
        let of: usize = lane.trim_start_matches("all.").parse().expect("a number");
        match (1..=5).contains(&number) && !mended.load(Ordering::SeqCst) {
            true => Outcome::Dead(Failure::new(CAUSES[of % 3], "it is broken")),
            false => Outcome::Done,
        }
    })
}

async fn send(kafka: &TestKafka, spec: &StageSpec, numbers: std::ops::Range<u64>) {
    for number in numbers {
        for partition in 0..3 {
            let lanes = (0..LANES).filter(|lane| lane % 3 == partition);
            let values: Vec<String> = lanes.map(|lane| format!("all.{lane} {number}")).collect();
            kafka.send(&spec.source, partition as i32, "k", &values).await;
        }
    }
}

/// Tasks in the retry topic, whoever put them there; the owners' markers apart.
async fn parked(kafka: &TestKafka, spec: &StageSpec) -> usize {
    let records = kafka.all(spec.retry.as_deref().expect("set")).await;
    records.iter().filter(|record| record.headers.last("of-lane").is_some()).count()
}

fn actions(audited: &[Audited]) -> Vec<(&str, &str)> {
    let mut told: Vec<_> =
        audited.iter().map(|entry| (entry.action.as_str(), entry.actor.as_str())).collect();
    told.sort_unstable();
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_redrives_of_one_cause_at_once_give_each_effect_once_and_in_order() {
    let schema = TestSchema::create().await;
    let postgres = schema.database(&crate::harness::service("ORDERFLOW_TEST_POSTGRES"));
    postgres.migrate().await.expect("it migrates");
    redriven_twice_at_once(&TestKafka::new("ops-redrive"), &postgres).await;
    postgres.close().await;
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_redrives_at_once_on_the_broker_inside_the_process_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    redriven_twice_at_once(&TestKafka::embedded("ops-redrive"), &sqlite(&folder).await).await;
}

async fn redriven_twice_at_once(kafka: &TestKafka, db: &Database) {
    let mut spec = kafka.stage("courier", 3, true).await;
    spec.options.breaker.share = 2.0;
    let (control, of_stage) = Control::new();
    spec.control = of_stage;
    let (outside, mended) = (Arc::new(Outside::default()), Arc::new(AtomicBool::new(false)));
    control.wish(Wishes { paused: None, version: 0, ..Wishes::default() });
    send(kafka, &spec, 0..8).await;
    let member = Member::start(kafka, &spec, &outside, &dying(&mended));
    member.settled().await;
    assert_eq!(kafka.all(&spec.dead_letters).await.len(), 500);
    mended.store(true, Ordering::SeqCst);

    // More of every lane comes in before the redrive, and has not begun.
    control.wish(Wishes { paused: Some("ann: looking into it".into()), version: 1, ..Wishes::default() });
    eventually("it is paused", SOON, || ready(member.handle.progress.borrow().paused.is_some())).await;
    send(kafka, &spec, 8..9).await;

    let (clock, stage) = (Clock::system(), declared(&spec));
    let letters = letters(kafka, db, &clock, &stage);
    // What came in while a task of its lane was on its way to the dead-letter topic went through the retry topic.
    let before = parked(kafka, &spec).await;
    let dry = letters.redrive_dry(&wanted("exhausted")).await.expect("it is read");
    assert_eq!((dry.matched, dry.sent, dry.lanes, dry.dry_run), (165, 165, 33, true));
    assert_eq!(dry.causes.into_iter().collect::<Vec<_>>(), [("exhausted".to_owned(), 165)]);
    assert_eq!(parked(kafka, &spec).await, before, "a dry run does nothing");
    assert!(audit(db, None, None, 10).await.expect("it is read").is_empty(), "nor is it in the audit");

    let (wanted, ann, bob) = (wanted("exhausted"), operator("ann"), operator("bob"));
    let tools = |by| Tools { producer: &kafka.producer, by };
    let (ann, bob) = (tools(&ann), tools(&bob));
    let (first, second) = tokio::join!(letters.redrive(&wanted, &ann), letters.redrive(&wanted, &bob));
    let (first, second) = (first.expect("it is done"), second.expect("it is done"));
    assert_eq!(first.sent + second.sent, 165, "{first:?} {second:?}");
    assert_eq!(parked(kafka, &spec).await, before + 165);

    control.wish(Wishes { paused: None, version: 2, ..Wishes::default() });
    eventually("the redriven and the new are there", SOON, || ready(outside.distinct() == 300 + 100 + 165))
        .await;
    member.settled().await;
    for lane in 0..LANES {
        let expected: &[u64] = match lane % 3 {
            1 => &[0, 6, 7, 1, 2, 3, 4, 5, 8],
            _ => &[0, 6, 7, 8],
        };
        assert_eq!(outside.of(&format!("all.{lane}")), expected, "lane {lane}");
    }
    let audited = audit(db, Some("courier"), None, 10).await.expect("it is read");
    assert_eq!(
        actions(&audited),
        [("dlq.redrive", "ann"), ("dlq.redrive", "bob"), ("dlq.redriven", "ann"), ("dlq.redriven", "bob")]
    );
    let left = letters.find(&Filter::default(), 1_000).await.expect("it is read");
    assert_eq!(left.letters.len(), 335, "the other causes are left");
    let again = letters.redrive(&wanted, &ann).await.expect("it is done");
    assert_eq!((again.matched, again.sent), (0, 0));
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_cut_off_is_continued_without_a_second_effect() {
    let kafka = TestKafka::new("ops-redrive-cut");
    let folder = tempfile::tempdir().expect("a folder");
    let db = sqlite(&folder).await;
    let mut spec = kafka.stage("courier", 3, true).await;
    spec.options.breaker.share = 2.0;
    let (outside, mended) = (Arc::new(Outside::default()), Arc::new(AtomicBool::new(false)));
    send(&kafka, &spec, 0..8).await;
    let member = Member::start(&kafka, &spec, &outside, &dying(&mended));
    member.settled().await;
    mended.store(true, Ordering::SeqCst);
    let stage = declared(&spec);
    let clock = Clock::manual(Clock::system().now_ms());
    let desk = letters(&kafka, &db, &clock, &stage);
    let by = operator("ann");
    let tools = Tools { producer: &kafka.producer, by: &by };
    let slow = Wanted { rate: Some(100.0), ..wanted("timeout") };
    tokio::select! {
        ended = desk.redrive(&slow, &tools) => panic!("it was to be cut off: {ended:?}"),
        () = eventually("some of it is there", SOON, || ready(outside.distinct() > 300 + 40)) => {}
    }
    let begun = audit(&db, None, None, 1).await.expect("it is read").remove(0);
    let id = begun.detail["redrive"].as_str().expect("an id").to_owned();

    // While its claims are young, a run may still be at work: their lanes are left alone.
    let early = desk.resume(&id, &tools).await.expect("it goes on");
    assert!(early.unfinished > 0, "{early:?}");
    clock.advance(Duration::from_secs(600));
    let late = desk.resume(&id, &tools).await.expect("it goes on");
    assert_eq!(late.unfinished, 0, "{late:?}");
    let refused = desk.resume(&id, &tools).await.expect_err("it has ended").to_string();
    assert!(refused.contains("came to its end"), "{refused}");
    eventually("all of it is there", SOON, || ready(outside.distinct() == 300 + 165)).await;
    member.settled().await;
    for lane in 0..LANES {
        let seen = outside.of(&format!("all.{lane}"));
        let expected: &[u64] = if lane % 3 == 2 { &[0, 6, 7, 1, 2, 3, 4, 5] } else { &[0, 6, 7] };
        assert_eq!(seen, expected, "lane {lane}");
    }
    member.leave().await;
}
