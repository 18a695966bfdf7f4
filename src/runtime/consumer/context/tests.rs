//! Who may commit what around a revoke, on librdkafka's own broker.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::runtime::consumer::desk::Desk;
use crate::runtime::options::{KafkaOptions, Role};
use crate::task;
use crate::telemetry::Metrics;

const WITHIN: Duration = Duration::from_secs(30);
const BOTH: [Side; 2] = [Side::Source, Side::Retry];

/// A member without an engine, which the test stands in for.
struct Scene {
    consumer: BaseConsumer<Membership>,
    desk: Arc<Desk>,
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
            generations: Arc::default(),
        };
        for topic in ["s", "r"] {
            cluster.create_topic(topic, 1, 1).expect("a topic");
        }
        task::spawn_thread("engine", move || {
            while let Some(event) = events.blocking_recv() {
                if let Event::Revoked { partitions, deadline: _, reply } = event {
                    revokes(Revoked { partitions, reply });
                }
            }
        })
        .expect("a thread");
        let kafka =
            KafkaOptions { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
        let config = kafka.client_config(Role::Member { group: "g", stage: "stage", gather: Duration::ZERO });
        let consumer = config.create_with_context(Membership::new(links)).expect("settings are accepted");
        Self { consumer, desk }
    }

    fn assigned(&self) -> u64 {
        self.consumer.context().assigned(&self.consumer, &[0]);
        self.consumer.context().book().owned[&0].generation
    }

    fn commit(&self) {
        assert_eq!(self.consumer.context().commit(&self.consumer), Committed::Settled);
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
    BOTH.map(|side| Position { side, partition: 0, generation, offset, metadata: "".into() })
}

#[test]
fn what_a_drain_hands_in_is_committed_before_the_partition_is_let_go() {
    let cluster = MockCluster::new(1).expect("it starts");
    let scene = Scene::begin(&cluster, |revoked| {
        let handed_in = revoked.partitions.iter().flat_map(|&(_, generation)| both(generation, 9));
        revoked.reply.send(handed_in.collect()).expect("somebody waits");
    });
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
