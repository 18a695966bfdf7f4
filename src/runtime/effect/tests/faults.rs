//! Faults that the poll thread names, of this assignment and of one that is over. Invariant 5 (ownership).

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::runtime::consumer::{Assigned, Desk, Gauge, Member, Span};
use crate::runtime::{PartitionFault, PartitionState};

fn fault(partition: i32, generation: u64) -> Event {
    let topic = "s".to_owned();
    Event::Faulted { partition, generation, fault: PartitionFault::PositionMissing { topic, partition } }
}

async fn says(progress: &mut watch::Receiver<Progress>, partition: i32) -> PartitionState {
    let said = progress.wait_for(|now| now.partitions.contains_key(&partition));
    let said = tokio::time::timeout(WITHIN, said).await.expect("in time").expect("it runs");
    said.partitions[&partition].state.clone()
}

#[tokio::test]
async fn a_fault_of_an_assignment_that_is_over_marks_nothing() {
    let cluster = MockCluster::new(1).expect("it starts");
    let kafka = KafkaOptions { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
    let env = Environment {
        producer: Producer::new(&kafka).expect("settings are accepted"),
        kafka,
        metrics: Metrics::new(),
        clock: Clock::system(),
    };
    let (events_in, events) = mpsc::channel(8);
    let (left_in, left) = oneshot::channel();
    let member = Member { events, desk: Arc::<Desk>::default(), cluster_id: "c".into(), left };
    let (sender, mut progress) = watch::channel(Progress::default());
    let stop = CancellationToken::new();
    let stage = Arc::new(Doer {
        plan: |_, _| Outcome::Done,
        gate: watch::channel(Gate::Open).1,
        seen: Arc::default(),
    });
    let (spec, stopped) = (spec(RuntimeOptions::default()), stop.clone());
    let engine = task::on_own_thread("engine-doer".to_owned(), move || {
        run_member(spec, "s.doer.retry".into(), stage, env, stopped, sender, member)
    });
    let running = task::spawn("stage", engine);
    let span = Span { position: 0, low: 0, high: 0, map: None };
    let assigned = Assigned {
        partition: 0,
        generation: 2,
        source: span.clone(),
        retry: Some(span),
        gauge: Arc::<Gauge>::default(),
    };
    for event in [Event::Assigned(assigned), fault(0, 1), fault(1, 3)] {
        events_in.send(event).await.expect("it runs");
    }
    assert!(matches!(says(&mut progress, 1).await, PartitionState::Stopped(_)), "it can't be read at all");
    assert_eq!(says(&mut progress, 0).await, PartitionState::Starting);
    events_in.send(fault(0, 2)).await.expect("it runs");
    let stands = |now: &Progress| matches!(now.partitions[&0].state, PartitionState::Stopped(_));
    tokio::time::timeout(WITHIN, progress.wait_for(stands)).await.expect("in time").expect("it runs");
    stop.cancel();
    drop(left_in);
    assert!(running.await.expect("no panic").expect("a thread").is_ok());
}
