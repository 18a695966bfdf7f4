//! How far groups are behind, on a real Kafka: in records, in seconds, and as a verdict.

use std::time::Duration;

use orderflow::admin::lag::{GroupLag, Meter, Verdict, Watch};
use orderflow::admin::replay::{Replay, Target};
use orderflow::event::Factory;
use orderflow::stages::StageOptions;
use orderflow::task;
use tokio_util::sync::CancellationToken;

use super::redrive::operator;
use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(60);

async fn history(meter: &mut Meter) -> GroupLag {
    let groups = meter.look().await.expect("everything answers");
    assert_eq!(groups.len(), 7, "every stage has a group");
    groups.into_iter().find(|group| group.stage == "history").expect("it is declared")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_stopped_level_and_rewound() {
    let mut program = TestProgram::new("ops-lag", StageOptions::default()).await;
    let mut meter = Meter::new(program.operations());
    assert_eq!(history(&mut meter).await.verdict, Verdict::Ok, "nothing waits");
    for order in 0..20 {
        let factory = Factory::new("shop", "it");
        program.publish(&factory.order_completed(format!("o-{order}"), 1_760_000_000_000).into()).await;
    }
    let stopped = history(&mut meter).await;
    assert_eq!((stopped.messages, stopped.members, stopped.verdict), (20, Some(0), Verdict::Stopped));
    assert!(stopped.seconds > 0.0 && stopped.seconds < 60.0, "{stopped:?}");
    assert_eq!(stopped.partitions.iter().map(|partition| partition.messages).sum::<u64>(), 20);

    let (metrics, stop) = (std::sync::Arc::clone(&program.parts.env.metrics), CancellationToken::new());
    let watch = Watch { operations: program.operations(), metrics: std::sync::Arc::clone(&metrics) };
    let watching = task::spawn("lag", watch.run(stop.clone()));
    let group = stopped.group.clone();
    let told = |part: &str| {
        let text = metrics.text();
        text.lines().find(|line| line.contains(part) && line.contains(&group)).map(str::to_owned)
    };
    eventually("the metrics say so", SOON, async || {
        told("orderflow_consumer_verdict{").is_some_and(|line| line.ends_with(" 3"))
            && told("orderflow_consumer_lag_seconds{").is_some_and(|line| !line.ends_with(" 0"))
    })
    .await;
    stop.cancel();
    watching.await.expect("no panic");

    program.start(&["history"]);
    eventually("it is level", SOON, async || program.is_caught_up("history")).await;
    let level = history(&mut meter).await;
    assert_eq!((level.messages, level.seconds, level.verdict), (0, 0.0, Verdict::Ok));
    assert_eq!((level.members, level.drain_seconds), (Some(1), Some(0.0)));

    // Paused, so that it stays where the replay puts it.
    program.halt().await;
    let operations = program.operations();
    let of = operations.of("history").await.expect("it is declared");
    let replay = Replay { of, partition: None, patience: Duration::ZERO };
    replay.run(Target::Offset(0), &operator("ann")).await.expect("it is moved");
    let rewound = history(&mut meter).await;
    assert_eq!((rewound.messages, rewound.verdict), (20, Verdict::Rewound));
    program.end().await;
}
