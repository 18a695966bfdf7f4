//! A producer whose client gets nothing to Kafka any more although Kafka is there: what librdkafka's own fault after a
//! restart of a broker looks like, brought about by connections that swallow what they are given.

use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::{
    Environment, ErrorClass, Failure, KafkaOptions, OutRecord, Outcome, PartitionState, Producer,
    start_effect_stage,
};
use orderflow::telemetry::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::harness::courier::{Courier, Outside};
use crate::harness::eventually;
use crate::harness::kafka::{TestKafka, text};
use crate::proxy::Weather;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_gets_nothing_there_is_replaced_and_order_is_kept_while_stages_say_that_they_wait() {
    let broker = Broker::start().await;
    let kafka = TestKafka::at("deaf", broker.direct.clone());
    let spec = kafka.stage("courier", 1, true).await;
    let through =
        KafkaOptions { bootstrap_servers: broker.proxies[0].address.to_string(), ..kafka.options.clone() };
    let (producer, metrics) = (Producer::new(&through).expect("settings are accepted"), Metrics::new());
    let env =
        Environment { producer: producer.clone(), metrics: Arc::clone(&metrics), ..kafka.environment() };
    let outside = Arc::new(Outside::default());
    let (_open, open) = watch::channel(true);
    let dead = |_: &str, _, _| Outcome::Dead(Failure::new(ErrorClass::Rejected, "refused for good"));
    let stage = Courier { outside, plan: Arc::new(dead), open };
    let stop = CancellationToken::new();
    let handle = start_effect_stage(spec.clone(), Arc::new(stage), env, stop.clone());
    eventually("it flows", SOON, async || handle.progress.borrow().is_caught_up()).await;

    let topic = kafka.name("beside");
    kafka.create(std::slice::from_ref(&topic), 1).await;
    let record = |number: u32| OutRecord::keyed(topic.as_str(), "k", number.to_string().into_bytes());
    producer.send(record(0)).await.expect("acknowledged");
    broker.proxies[0].set(Weather::Deaf);
    kafka.send(&spec.source, 0, "k", &["a 0".to_owned()]).await;
    eventually("the partition says that it waits", SOON, async || {
        let progress = handle.progress.borrow();
        progress.partitions.get(&0).is_some_and(|at| matches!(at.state, PartitionState::Waiting(_)))
    })
    .await;
    // The client is stuck, and not replaced yet.
    let sends = (1..200).map(|number| producer.send(record(number)));
    for sent in futures_util::future::join_all(sends).await {
        sent.expect("acknowledged");
    }
    eventually("it goes on", SOON, async || handle.progress.borrow().is_caught_up()).await;
    assert_eq!(handle.progress.borrow().partitions[&0].state, PartitionState::Flowing);
    assert_eq!(kafka.all(&spec.dead_letters).await.len(), 1);
    let log: Vec<u32> =
        kafka.all(&topic).await.iter().map(|record| text(record).parse().expect("a number")).collect();
    assert_eq!(log, (0..200).collect::<Vec<_>>());
    let told = metrics.text();
    assert!(told.contains("orderflow_producer_rebuilds_total{why=\"stuck\"} 1"), "{told}");
    stop.cancel();
    assert!(handle.join.await.expect("no panic").expect("no error").drained);
}
