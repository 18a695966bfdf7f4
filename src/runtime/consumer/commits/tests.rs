//! What counts as committed whatever happens while a commit is under way, and that nothing waits for it.

use rdkafka::client::ClientContext;
use rdkafka::mocking::{MockCluster, MockCoordinator};

use super::*;
use crate::clock::Clock;
use crate::runtime::consumer::{Event, Member, Start, join};
use crate::runtime::options::{KafkaOptions, RuntimeOptions, StageSpec, StartAt};
use crate::runtime::{OutRecord, Producer};
use crate::telemetry::Metrics;

const WITHIN: Duration = Duration::from_secs(30);
/// How long the broker takes to answer.
const SLOW: Duration = Duration::from_secs(2);

fn at(generation: u64, offset: i64) -> Position {
    Position { side: Side::Source, partition: 0, generation, offset, version: 0, metadata: "".into() }
}

/// What may happen between an engine, its poll thread and the broker.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The engine hands in a position.
    HandIn,
    /// The poll thread wishes to commit.
    Send,
    Taken,
    Refused,
    /// The partition is let go.
    LetGo,
    /// The partition is assigned, maybe for the second time.
    TakeUp,
}

const STEPS: [Step; 6] = [Step::HandIn, Step::Send, Step::Taken, Step::Refused, Step::LetGo, Step::TakeUp];
/// What is tried: all that can happen in so many steps.
const LENGTH: u32 = 7;

/// One partition, beside what must be true of it.
struct World {
    desk: Desk,
    commits: Commits,
    generation: u64,
    is_ours: bool,
    /// The newest offset that was handed in under this assignment, and the newest of it that the broker took.
    newest: Option<i64>,
    taken: Option<i64>,
    /// What the broker has been sent and hasn't answered.
    sent: Option<Position>,
    offset: i64,
}

impl World {
    fn new() -> Self {
        Self {
            desk: Desk::default(),
            commits: Commits::default(),
            generation: 0,
            is_ours: false,
            newest: None,
            taken: None,
            sent: None,
            offset: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::HandIn => {
                self.offset += 1;
                self.desk.commit(&[at(self.generation, self.offset)]);
                self.newest = self.is_ours.then_some(self.offset);
            }
            Step::Send => {
                let waits = self.sent.is_some();
                if let Some(positions) = self.commits.begin(&self.desk) {
                    assert!(!waits, "one at a time");
                    let [position] = positions else { panic!("of one partition: {positions:?}") };
                    self.sent = Some(position.clone());
                } else {
                    assert!(waits || self.newest == self.taken, "all that is pending is sent");
                }
            }
            Step::Taken | Step::Refused => {
                let Some(answered) = self.sent.take() else { return };
                let is_taken = matches!(step, Step::Taken);
                self.commits.end(&self.desk, is_taken);
                if is_taken && self.is_ours && answered.generation == self.generation {
                    self.taken = Some(answered.offset);
                }
            }
            Step::LetGo => {
                self.desk.forget(0);
                (self.is_ours, self.newest, self.taken) = (false, None, None);
            }
            Step::TakeUp => {
                self.generation += 1;
                self.desk.take_up(0, self.generation);
                (self.is_ours, self.newest, self.taken) = (true, None, None);
            }
        }
    }

    fn holds(&self) {
        assert_eq!(self.commits.is_under_way(), self.sent.is_some());
        assert_eq!(self.desk.committed(Side::Source, 0), self.taken, "committed is what the broker took");
        for generation in 0..=self.generation {
            for offset in 1..=self.offset {
                let is = generation == self.generation && self.taken == Some(offset);
                assert_eq!(self.desk.has_committed(&at(generation, offset)), is);
            }
        }
        let waits =
            self.newest.filter(|_| self.newest != self.taken).map(|offset| at(self.generation, offset));
        assert_eq!(self.desk.pending().first(), waits.as_ref(), "what isn't committed is pending");
    }
}

/// Invariants 1 (completion) and 5 (ownership), for everything that can happen in seven steps.
#[test]
fn committed_is_what_the_broker_took_under_this_assignment_and_the_rest_stays_pending() {
    for length in 1..=LENGTH {
        for number in 0..STEPS.len().pow(length) {
            let mut world = World::new();
            (0..length).for_each(|place| world.take(STEPS[number / STEPS.len().pow(place) % STEPS.len()]));
            world.holds();
        }
    }
}

/// A member of a group whose coordinator is another broker than the one that it reads from.
async fn member(cluster: &MockCluster<'_, impl ClientContext>, kafka: &KafkaOptions) -> Member {
    for topic in ["s", "r", "d"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
        cluster.partition_leader(topic, 0, Some(1)).expect("it leads");
    }
    cluster.coordinator(MockCoordinator::Group("g".to_owned()), 2).expect("it coordinates");
    let spec = StageSpec {
        stage: "stage".to_owned(),
        group: "g".to_owned(),
        source: "s".to_owned(),
        retry: Some("r".to_owned()),
        dead_letters: "d".to_owned(),
        start: StartAt::Earliest,
        // Only a hurry commits anything.
        options: RuntimeOptions { commit_interval: Duration::from_secs(3600), ..RuntimeOptions::default() },
        control: Default::default(),
        cursors: None,
    };
    join(&spec, kafka, &Metrics::new(), &Clock::system()).await.expect("it joins")
}

async fn next(member: &mut Member) -> Event {
    tokio::time::timeout(WITHIN, member.events.recv()).await.expect("in time").expect("it runs")
}

/// Writes a record and waits until the member reads it. Gives how long that took.
async fn pass_one(producer: &Producer, member: &mut Member) -> Duration {
    let sent = Instant::now();
    producer.send(OutRecord::keyed("s", "k", "v")).await.expect("sent");
    let Event::Records { .. } = next(member).await else { panic!("only records come") };
    sent.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_while_a_commit_is_not_answered_and_a_hurry_follows_its_answer() {
    let cluster = MockCluster::new(2).expect("it starts");
    let kafka = KafkaOptions { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
    let mut member = member(&cluster, &kafka).await;
    let producer = Producer::new(&kafka).expect("settings are accepted");
    let Event::Assigned(assigned) = next(&mut member).await else { panic!("nothing flows before") };
    let generation = assigned.generation;
    member.desk.start(Start { partition: 0, generation, from: None, source: true });
    // The client asks the coordinator where to begin.
    pass_one(&producer, &mut member).await;
    cluster.broker_round_trip_time(2, SLOW).expect("it is slow");
    let (first, second) = (at(generation, 1), at(generation, 2));
    member.desk.commit(std::slice::from_ref(&first));
    member.desk.hurry();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while !member.desk.has_committed(&first) {
        assert!(began.elapsed() < WITHIN, "it is answered in time");
        longest = longest.max(pass_one(&producer, &mut member).await);
        if member.desk.pending() == [first.clone()] && began.elapsed() > SLOW / 2 {
            // While the first is under way.
            member.desk.commit(std::slice::from_ref(&second));
            member.desk.hurry();
        }
    }
    assert!(began.elapsed() >= SLOW, "the answer was late");
    assert!(longest < SLOW / 2, "a record waited for {longest:?}");
    cluster.broker_round_trip_time(2, Duration::ZERO).expect("it is fast again");
    while !member.desk.has_committed(&second) {
        let committed = tokio::time::timeout(WITHIN, member.desk.next_commit()).await;
        committed.expect("the second follows the first");
    }
    member.desk.close();
    while member.events.recv().await.is_some() {}
    assert!(member.left.await.expect("it ends").is_ok());
    assert!(member.desk.is_committed());
}
