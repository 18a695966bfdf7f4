//! Partitions that are to be taken up anew at the same time: the poll thread waits for them together.

use super::*;
use crate::runtime::PartitionState;
use crate::runtime::consumer::Rewind;

impl Scene {
    /// Asks for a partition that was assigned once so far; orders for other assignments are void.
    fn take_up_anew(&self, partition: i32) {
        for generation in 1..=3 {
            self.desk.rewinds.ask(Rewind { order: None, partition, generation, to: None });
        }
    }

    fn rebalances(&self, kind: &str) -> u64 {
        self.metrics.rebalances.with_label_values(&["g", kind]).get()
    }

    async fn all_flow(&mut self) {
        let all_flow = |now: &Progress| {
            now.partitions.len() == 3
                && now.partitions.values().all(|partition| partition.state == PartitionState::Flowing)
        };
        let there = self.progress.wait_for(all_flow);
        tokio::time::timeout(WITHIN, there).await.expect("in time").expect("it runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_during_a_drain_is_let_go_together() {
    let mut scene = Scene::start(3, RuntimeOptions::default(), |_, _| Outcome::Done).await;
    scene.all_flow().await;
    assert_eq!((scene.rebalances("assign"), scene.rebalances("revoke")), (1, 0));
    scene.gate.send_replace(Gate::ToEnds);
    scene.send("k").await;
    scene.stands().await;
    scene.take_up_anew(0);
    eventually("it is drained", || scene.rebalances("revoke") == 1).await;
    scene.take_up_anew(1);
    scene.take_up_anew(2);
    scene.gate.send_replace(Gate::Open);
    eventually("the others were taken up anew", || scene.rebalances("assign") == 3).await;
    scene.all_flow().await;
    assert_eq!((scene.rebalances("revoke"), scene.effects().as_slice()), (2, [0].as_slice()));
    scene.leave().await;
}
