//! Who may commit what around a revoke, and which faults count behind it, on librdkafka's own broker.

use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaApiKey;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::runtime::consumer::commit_queue::CommitQueue;
use crate::runtime::consumer::desk::{Desk, Side};
use crate::runtime::consumer::lost::Lost;
use crate::runtime::consumer::thread::Poller;
use crate::runtime::options::{KafkaOptions, Role, RuntimeOptions, StageSpec, StartAt};
use crate::task;
use crate::telemetry::Metrics;

const WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const BOTH: [Side; 2] = [Side::Source, Side::Retry];

/// A member without an engine, which the test stands in for.
struct Scene {
    consumer: BaseConsumer<Membership>,
    desk: Arc<Desk>,
    poller: Poller,
    /// Under which assignments the engine was told of faults.
    faults: Receiver<u64>,
}

impl Scene {
    fn begin(
        cluster: &MockCluster<'_, impl ClientContext>,
        revokes: impl Fn(Revoked) + Send + 'static,
    ) -> Self {
        let (events_in, mut events) = mpsc::channel(4);
        let desk = Arc::new(Desk::default());
        let links = Links {
            stage: "stage".into(),
            group: "g".into(),
            source: "s".into(),
            retry: Some("r".into()),
            events: events_in,
            desk: Arc::clone(&desk),
            metrics: Metrics::new(),
            clock: Clock::system(),
            revoke_drain: WITHIN,
            answer_within: ANSWER_WITHIN,
            generations: Arc::default(),
        };
        for topic in ["s", "r"] {
            cluster.create_topic(topic, 1, 1).expect("a topic");
        }
        let (faults_in, faults) = channel();
        task::spawn_thread("engine", move || {
            while let Some(event) = events.blocking_recv() {
                match event {
                    Event::Revoked { partitions, deadline: _, reply } => {
                        revokes(Revoked { partitions, reply });
                    }
                    Event::Faulted { generation, .. } => faults_in.send(generation).expect("somebody looks"),
                    Event::Assigned(_) | Event::Records { .. } => {}
                }
            }
        })
        .expect("a thread");
        let kafka =
            KafkaOptions { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
        let config = kafka.client_config(Role::Member { group: "g", stage: "stage", gather: Duration::ZERO });
        let membership = Membership::new(links.clone());
        let consumer = config.create_with_context(membership).expect("settings are accepted");
        let spec = StageSpec {
            stage: "stage".to_owned(),
            group: "g".to_owned(),
            source: "s".to_owned(),
            retry: Some("r".to_owned()),
            dead_letters: "d".to_owned(),
            start: StartAt::Earliest,
            options: RuntimeOptions::default(),
            control: Default::default(),
            cursors: None,
        };
        Self { consumer, desk, poller: Poller::new(spec, kafka, links), faults }
    }

    fn assigned(&self) -> u64 {
        self.consumer.context().assigned(&self.consumer, &[0]);
        self.consumer.context().book().owned[&0].generation
    }

    /// Lets positions be committed, as long as it lives.
    fn open(&self) -> CommitQueue<'_> {
        CommitQueue::new(self.consumer.client(), &self.consumer.context().committing)
            .expect("there is memory")
    }

    /// Sends what is pending.
    fn send(&self) {
        assert!(self.consumer.context().commit(&self.consumer), "it is under way");
    }

    /// Whether what was sent is taken.
    fn hear(&self) -> Option<bool> {
        self.consumer.context().hear_answer(WITHIN)
    }

    fn commit(&self) {
        self.consumer.context().commit_patiently(&self.consumer);
    }

    /// It seemed, under an assignment, that the source's position has left the log.
    fn seems_lost(&self, generation: u64) {
        let lost = Lost { topic: "s".into(), partition: 0, generation, offset: 99 };
        assert!(self.poller.name_lost_positions(&self.consumer, &mut vec![lost]).is_continue());
    }

    /// What the group's coordinator has.
    fn standing(&self) -> [Offset; 2] {
        let all = self.consumer.context().superset(&[0]);
        let found = self.consumer.committed_offsets(all, WITHIN).expect("it answers");
        ["s", "r"].map(|topic| found.find_partition(topic, 0).expect("asked for").offset())
    }
}

struct Revoked {
    partitions: Vec<(i32, u64)>,
    reply: SyncSender<Vec<Position>>,
}

fn both(generation: u64, offset: i64) -> [Position; 2] {
    BOTH.map(|side| Position { side, partition: 0, generation, offset, version: 0, metadata: "".into() })
}

/// What a drain hands in.
fn hand_in_nine(revoked: Revoked) {
    let handed_in = revoked.partitions.iter().flat_map(|&(_, generation)| both(generation, 9));
    revoked.reply.send(handed_in.collect()).expect("somebody waits");
}

#[test]
fn what_a_drain_hands_in_is_committed_before_the_partition_is_let_go() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, hand_in_nine);
    let _commits = scene.open();
    let generation = scene.assigned();
    scene.desk.commit(&both(generation, 5));
    scene.commit();
    assert_eq!(scene.standing(), [Offset::Offset(5); 2]);
    scene.consumer.context().let_go(&scene.consumer, &[0]);
    assert_eq!(scene.standing(), [Offset::Offset(9); 2]);
}

#[test]
fn what_a_late_engine_hands_in_is_not_committed_over_what_the_next_owner_did() {
    let cluster = MockCluster::new(1).expect("it starts");
    // It doesn't answer.
    let scene = Scene::begin(&cluster, drop);
    let _commits = scene.open();
    let old = scene.assigned();
    scene.desk.commit(&both(old, 5));
    scene.commit();
    scene.consumer.context().let_go(&scene.consumer, &[0]);
    let next_owner = scene.consumer.context().list_of(&both(0, 9)).expect("it is listed");
    scene.consumer.commit(&next_owner, CommitMode::Sync).expect("it is taken");
    let comes_late = || {
        scene.desk.commit(&both(old, 6));
        scene.desk.stop(0, old);
        scene.desk.renew_retry();
        scene.commit();
        assert_eq!(scene.standing(), [Offset::Offset(9); 2]);
        assert!(!scene.desk.is_stopped(0));
    };
    comes_late();
    let new = scene.assigned();
    comes_late();
    scene.desk.commit(&both(new, 10));
    scene.commit();
    assert_eq!(scene.standing(), [Offset::Offset(10); 2]);
}

#[test]
fn what_was_under_way_before_a_revoke_does_not_land_behind_what_the_drain_handed_in() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, hand_in_nine);
    let _commits = scene.open();
    let generation = scene.assigned();
    let busy = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[busy]);
    scene.desk.commit(&both(generation, 5));
    scene.send();
    scene.consumer.context().let_go(&scene.consumer, &[0]);
    // The client repeats it after a tenth of a second.
    let late = scene.consumer.context().committing.answer(Duration::from_secs(1));
    assert_eq!(scene.standing(), [Offset::Offset(9); 2]);
    assert_eq!(late, None, "nothing was still under way");
}

/// Invariant 5 (ownership): a claim of this assignment isn't made by an answer to the one before.
#[test]
fn an_answer_that_comes_when_its_assignment_is_over_is_no_claim_of_the_next_one() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, drop);
    let _commits = scene.open();
    let old = scene.assigned();
    scene.desk.commit(&both(old, 5));
    scene.send();
    let new = scene.assigned();
    scene.desk.commit(&both(new, 5));
    assert!(scene.consumer.context().commit(&scene.consumer), "the older is still under way");
    assert_eq!(scene.hear(), Some(true));
    for of in [old, new] {
        assert!(!both(of, 5).iter().any(|position| scene.desk.has_committed(position)), "{of}");
    }
    assert_eq!(scene.desk.pending(), both(new, 5));
    scene.send();
    assert_eq!(scene.hear(), Some(true));
    assert!(both(new, 5).iter().all(|position| scene.desk.has_committed(position)));
}

#[test]
fn what_the_broker_refuses_of_one_partition_alone_stays_pending() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, drop);
    let _commits = scene.open();
    let generation = scene.assigned();
    // The topics have no such partition.
    scene.desk.take_up(7, generation);
    let refused = Position { partition: 7, ..both(generation, 5)[0].clone() };
    scene.desk.commit(&both(generation, 5));
    scene.desk.commit(std::slice::from_ref(&refused));
    scene.send();
    assert_eq!(scene.hear(), Some(false));
    assert_eq!(scene.standing(), [Offset::Offset(5); 2], "the others were taken");
    assert!(!scene.desk.has_committed(&refused));
    assert!(scene.desk.pending().contains(&refused));
    scene.desk.forget(7);
    scene.send();
    assert_eq!(scene.hear(), Some(true));
    assert_eq!(scene.desk.pending(), []);
}

#[test]
fn what_is_refused_while_the_group_forms_anew_stays_pending() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, drop);
    let _commits = scene.open();
    let generation = scene.assigned();
    let forming = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[forming]);
    scene.desk.commit(&both(generation, 5));
    scene.send();
    assert_eq!(scene.hear(), Some(false));
    assert_eq!(scene.desk.pending(), both(generation, 5));
    scene.send();
    assert_eq!(scene.hear(), Some(true));
    assert_eq!(scene.desk.pending(), []);
}

#[test]
fn a_coordinator_that_is_away_keeps_nobody_from_letting_go() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, hand_in_nine);
    let _commits = scene.open();
    let generation = scene.assigned();
    scene.desk.commit(&both(generation, 5));
    scene.commit();
    scene.desk.commit(&both(generation, 6));
    cluster.broker_down(1).expect("there is one");
    scene.send();
    let (consumer, (gone_in, gone)) = (&scene.consumer, channel());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            consumer.context().let_go(consumer, &[0]);
            gone_in.send(()).expect("somebody waits");
        });
        let in_time = gone.recv_timeout(WITHIN);
        cluster.broker_up(1).expect("there is one");
        assert_eq!(in_time, Ok(()), "it waited for the coordinator");
    });
    assert!(scene.hear().is_some(), "answered when it is back");
    assert_eq!(scene.desk.committed(Side::Source, 0), None, "nothing of it is ours any more");
    assert_ne!(scene.standing(), [Offset::Offset(9); 2], "it was not waited for");
}

#[test]
fn a_client_that_goes_while_a_commit_is_not_answered_is_gone_in_time() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, drop);
    let commits = scene.open();
    let generation = scene.assigned();
    cluster.broker_round_trip_time(1, Duration::from_millis(500)).expect("it is slow");
    scene.desk.commit(&both(generation, 5));
    scene.send();
    drop(commits);
    assert_eq!(scene.consumer.context().hear_answer(Duration::ZERO), None);
    let (Scene { consumer, desk, .. }, (gone_in, gone)) = (scene, channel());
    task::spawn_thread("going", move || {
        drop(consumer);
        gone_in.send(()).expect("somebody waits");
    })
    .expect("a thread");
    assert_eq!(gone.recv_timeout(WITHIN), Ok(()));
    assert!(!desk.has_committed(&both(generation, 5)[0]));
}

#[test]
fn a_position_that_left_the_log_under_an_assignment_that_is_over_stops_nothing() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, |revoked| revoked.reply.send(Vec::new()).expect("somebody waits"));
    let old = scene.assigned();
    scene.consumer.context().let_go(&scene.consumer, &[0]);
    scene.seems_lost(old);
    let new = scene.assigned();
    scene.seems_lost(old);
    assert!(!scene.desk.is_stopped(0), "the new assignment flows");
    scene.seems_lost(new);
    assert!(scene.desk.is_stopped(0));
    assert_eq!(scene.faults.recv_timeout(WITHIN), Ok(new));
}
