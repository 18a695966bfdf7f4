//! Kafka, the registry or the database away, at start and midway: partitions wait, nothing is dead-lettered, and
//! everything is kept once it is back.

use std::time::Duration;

use orderflow::event::{Event, Factory, Money};
use orderflow::stages::StageOptions;
use orderflow::store::history::{self, Filter};

use crate::harness::broker::OwnBroker;
use crate::harness::kafka::TestKafka;
use crate::harness::program::TestProgram;
use crate::harness::proxy::{Proxy, address_of, through};
use crate::harness::{eventually, service};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

fn paid(order: usize) -> Event {
    Factory::new("shop", "it")
        .order_paid(format!("o-{order}"), NOW, "pay-1", "card", Money::new(1999, "EUR"))
        .into()
}

async fn publish(program: &TestProgram, orders: std::ops::Range<usize>) {
    for order in orders {
        program.publish(&paid(order)).await;
    }
}

/// Publishes what another program, with a registry of its own, encoded.
async fn publish_by(writer: &TestProgram, program: &TestProgram, orders: std::ops::Range<usize>) {
    for order in orders {
        let payload = writer.parts.codec.encode("orders.events", &paid(order)).await.expect("it fits");
        program.send_raw(Some(format!("o-{order}").as_bytes()), Some(&payload)).await;
    }
}

async fn all_kept(program: &TestProgram, orders: usize) {
    eventually("every event is kept", SOON, || async {
        let mut kept = 0;
        for order in 0..orders {
            let count =
                history::count(&program.parts.db, "shop", &format!("o-{order}"), &Filter::default()).await;
            kept += count.unwrap_or(0);
        }
        kept == i64::try_from(orders).expect("a small number")
    })
    .await;
    let letters = program.kafka.all(&program.topic("orders.events.history.dlq")).await;
    assert!(letters.is_empty(), "{} dead letters: an outage is no record's fault", letters.len());
}

/// Waits until the history stage says that it waits.
async fn is_waiting(program: &TestProgram) {
    eventually("the stage says that it waits", SOON, || async { program.is_waiting("history") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_may_be_away_at_start_and_midway() {
    let postgres = service("ORDERFLOW_TEST_POSTGRES");
    let proxy = Proxy::before(&address_of(&postgres), false).await;
    let registry = service("ORDERFLOW_TEST_REGISTRY");
    let kafka = TestKafka::new("db-away");
    let mut program =
        TestProgram::at(kafka, &registry, &through(&postgres, &proxy), StageOptions::default()).await;
    publish(&program, 0..20).await;
    program.start(&["history"]);
    is_waiting(&program).await;
    proxy.restore();
    all_kept(&program, 20).await;

    proxy.cut();
    publish(&program, 20..40).await;
    is_waiting(&program).await;
    proxy.restore();
    all_kept(&program, 40).await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_may_be_away_at_start_and_is_not_needed_for_what_is_known() {
    let registry = service("ORDERFLOW_TEST_REGISTRY");
    let proxy = Proxy::before(&address_of(&registry), false).await;
    let writer = TestProgram::new("registry-writer", StageOptions::default()).await;
    let kafka = TestKafka::new("registry-away");
    let postgres = service("ORDERFLOW_TEST_POSTGRES");
    let mut program =
        TestProgram::at(kafka, &through(&registry, &proxy), &postgres, StageOptions::default()).await;
    publish_by(&writer, &program, 0..20).await;
    program.start(&["history"]);
    is_waiting(&program).await;
    proxy.restore();
    all_kept(&program, 20).await;

    proxy.cut();
    publish_by(&writer, &program, 20..40).await;
    all_kept(&program, 40).await;
    program.end().await;
    writer.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_may_freeze_at_start_and_midway() {
    let broker = tokio::task::spawn_blocking(OwnBroker::start).await.expect("it starts");
    let kafka = TestKafka::at("frozen", broker.bootstrap_servers.clone());
    let (registry, postgres) = (service("ORDERFLOW_TEST_REGISTRY"), service("ORDERFLOW_TEST_POSTGRES"));
    let mut program = TestProgram::at(kafka, &registry, &postgres, StageOptions::default()).await;
    publish(&program, 0..20).await;
    broker.freeze();
    program.start(&["history"]);
    broker.thaw();
    all_kept(&program, 20).await;

    broker.freeze();
    let thaw = async {
        // Longer than the session time-out, so that the group loses its member.
        tokio::time::sleep(Duration::from_secs(8)).await;
        broker.thaw();
    };
    tokio::join!(publish(&program, 20..40), thaw);
    all_kept(&program, 40).await;
    program.end().await;
}
