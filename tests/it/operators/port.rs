//! Orders at the control port itself, on a real Kafka and on the one inside the process.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::control::{Order, OrderKind, StageReport, Wishes};
use orderflow::runtime::{Control, Outcome};

use crate::harness::courier::{Member, Outside, Plan};
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const SOON: Duration = Duration::from_secs(60);

/// A partition that its owner reads again belongs to it as before: later rebalances go on, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_read_again_by_their_owner_and_rebalanced_afterwards() {
    for kafka in [TestKafka::new("ops-port"), TestKafka::embedded("ops-port")] {
        let mut spec = kafka.stage("courier", 3, true).await;
        let (mut control, of_stage) = Control::new();
        spec.control = of_stage;
        control.wish(Wishes::default());
        let outside = Arc::new(Outside::default());
        let plan: Arc<Plan> = Arc::new(|_: &str, _, _| Outcome::Done);
        let send = async |from: u64, count: u64| {
            for partition in 0..3 {
                let values: Vec<String> =
                    (from..from + count).map(|number| format!("all.{partition} {number}")).collect();
                kafka.send(&spec.source, partition, "k", &values).await;
            }
        };
        send(0, 40).await;
        let first = Member::start(&kafka, &spec, &outside, &plan);
        first.settled().await;
        let order = |partition: i32, to| Order {
            id: format!("order-{partition}-{to}").into(),
            partition,
            what: OrderKind::Replay { to },
        };
        // The last one would move on, which replays don't.
        let orders = vec![order(0, 30), order(1, 0), order(2, 40)];
        control.wish(Wishes { orders, ..Wishes::default() });
        let mut answers = Vec::new();
        eventually("all are answered", SOON, || {
            answers.extend(std::iter::from_fn(|| control.report()));
            ready(answers.len() == 3)
        })
        .await;
        assert!(
            answers.iter().all(|told| matches!(told, StageReport::Answered { answer: Ok(_), .. })),
            "{answers:?}"
        );
        eventually("they are done again", SOON, || {
            ready(outside.of("all.0").len() == 50 && outside.of("all.1").len() == 80)
        })
        .await;
        first.settled().await;
        assert_eq!(outside.of("all.0")[40..], (30..40).collect::<Vec<u64>>());
        assert_eq!(outside.of("all.1")[40..], (0..40).collect::<Vec<u64>>());
        assert_eq!(outside.of("all.2").len(), 40);

        let second = Member::start(&kafka, &spec, &outside, &plan);
        let owns = |member: &Member| -> BTreeSet<i32> {
            member.handle.progress.borrow().partitions.keys().copied().collect()
        };
        eventually("the second owns its share", SOON, || {
            ready(!owns(&second).is_empty() && owns(&first).len() + owns(&second).len() == 3)
        })
        .await;
        send(40, 20).await;
        eventually("all took effect", SOON, || ready(outside.distinct() == 180)).await;
        first.settled().await;
        first.leave().await;
        eventually("the second owns all", SOON, || ready(owns(&second).len() == 3)).await;
        send(60, 5).await;
        eventually("all took effect", SOON, || ready(outside.distinct() == 195)).await;
        second.settled().await;
        second.leave().await;
        outside.assert_order();
    }
}
