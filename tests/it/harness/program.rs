//! The program's own parts on real services, in a corner of their own: topics with a prefix that no other test uses,
//! and a PostgreSQL schema that is dropped at the end.

use std::sync::Arc;
use std::time::Duration;

use orderflow::admin::Operations;
use orderflow::admin::topology::{Broker, plan};
use orderflow::admin::webhooks::{Registrar, Rules};
use orderflow::clock::Clock;
use orderflow::crypto::Vault;
use orderflow::event::{self, Codec, Event, RegistryOptions};
use orderflow::outbox::{Relay, RelayOptions};
use orderflow::runtime::{Delivered, Headers, OutRecord, PartitionState, StageHandle, cluster_id};
use orderflow::stages::webhook;
use orderflow::stages::{self, Parts, StageOptions};
use orderflow::topology::Topology;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kafka::TestKafka;
use super::schema::TestSchema;

/// The program's parts, and the stages that were started.
pub(crate) struct TestProgram {
    pub(crate) kafka: TestKafka,
    pub(crate) parts: Parts,
    stop: CancellationToken,
    stages: Vec<StageHandle>,
    relay: Option<JoinHandle<()>>,
    schema: TestSchema,
    postgres: String,
}

impl TestProgram {
    /// Topics made, schemas registered on first use, database migrated; nothing started.
    pub(crate) async fn new(subject: &str, options: StageOptions) -> Self {
        let (registry, postgres) =
            (super::service("ORDERFLOW_TEST_REGISTRY"), super::service("ORDERFLOW_TEST_POSTGRES"));
        Self::at(TestKafka::new(subject), &registry, &postgres, options).await
    }

    /// The same with another overlay on the topology.
    pub(crate) async fn laid_over(subject: &str, overlay: &str, options: StageOptions) -> Self {
        let (registry, postgres) =
            (super::service("ORDERFLOW_TEST_REGISTRY"), super::service("ORDERFLOW_TEST_POSTGRES"));
        Self::with(TestKafka::new(subject), (&registry, &postgres), overlay, options).await
    }

    /// The same, reaching the services at these addresses.
    pub(crate) async fn at(kafka: TestKafka, registry: &str, postgres: &str, options: StageOptions) -> Self {
        Self::with(kafka, (registry, postgres), "{}", options).await
    }

    async fn with(
        kafka: TestKafka,
        (registry, postgres): (&str, &str),
        overlay: &str,
        options: StageOptions,
    ) -> Self {
        let corner =
            format!("topic_prefix: \"{}\"\ndefaults:\n  partitions: 3\n  replication: 1\n", kafka.name(""));
        let topology = Topology::from_yaml(&[
            ("the built-in topology", include_str!("../../../topology/orders.yaml")),
            ("the test's corner", &corner),
            ("the test's overlay", overlay),
        ])
        .expect("the topology is valid");
        let broker = Broker::new(&kafka.options).expect("settings are accepted");
        broker.apply(&plan(&topology, &Default::default(), false)).await.expect("topics are made");

        let registry = RegistryOptions {
            url: registry.to_owned(),
            timeout: Duration::from_secs(5),
            auto_register: true,
            ..RegistryOptions::default()
        };
        let schema = TestSchema::create().await;
        let migrated = schema.database(&super::service("ORDERFLOW_TEST_POSTGRES"));
        migrated.migrate().await.expect("it migrates");
        migrated.close().await;
        let stop = CancellationToken::new();
        let cluster_id = cluster_id(&kafka.options, Some(Duration::from_secs(60)), &Clock::system(), &stop)
            .await
            .expect("kafka answers")
            .expect("nobody stopped");
        let parts = Parts {
            env: kafka.environment(),
            cluster_id,
            db: schema.database(postgres),
            vault: Vault::ephemeral(),
            codec: Codec::new(&registry).expect("settings are accepted"),
            topology: Arc::new(topology),
            options: Arc::new(options),
            traffic: stages::webhook::Traffic::default(),
        };
        let postgres = postgres.to_owned();
        Self { kafka, parts, stop, stages: Vec::new(), relay: None, schema, postgres }
    }

    /// Starts one member of each stage, and the outbox relay.
    pub(crate) fn start(&mut self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.stages.extend(stages::start(&self.parts, &names, &self.stop).expect("they are declared"));
        let env = &self.parts.env;
        let relay = Relay::new(
            self.parts.db.clone(),
            env.producer.clone(),
            Arc::clone(&env.metrics),
            env.clock.clone(),
            RelayOptions::default(),
        );
        self.relay = Some(orderflow::task::spawn("relay", relay.run(self.stop.clone())));
    }

    /// Registers webhook endpoints, by the stage's own settings.
    pub(crate) fn registrar(&self) -> Registrar {
        let options = &self.parts.options.webhook;
        let rules = Rules {
            allow_http: options.allow_http,
            timeout: options.timeout,
            endpoints_per_tenant: options.endpoints_per_tenant,
            refresh: options.refresh,
            deliverable: webhook::deliverable(&self.parts.topology),
            policy: webhook::policy(&self.parts.topology),
        };
        Registrar::new(self.parts.db.clone(), self.parts.vault.clone(), Clock::system(), rules)
            .over(self.operations(), self.parts.codec.clone())
    }

    /// The program as an operator reaches it.
    pub(crate) fn operations(&self) -> Operations {
        let Parts { env, db, topology, .. } = &self.parts;
        let (kafka, clock, producer) = (env.kafka.clone(), env.clock.clone(), env.producer.clone());
        Operations::new(kafka, db.clone(), clock, Arc::clone(topology), producer)
    }

    /// Drains everything, and starts the same stages again, as a new process would.
    pub(crate) async fn restart(&mut self) {
        let names: Vec<String> = self.stages.iter().map(|handle| handle.stage.clone()).collect();
        self.halt().await;
        self.parts.traffic = stages::webhook::Traffic::default();
        self.stop = CancellationToken::new();
        self.start(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Starts stages after a halt, as a new process would.
    pub(crate) fn restarted(&mut self, names: &[&str]) {
        self.parts.traffic = stages::webhook::Traffic::default();
        self.stop = CancellationToken::new();
        self.start(names);
    }

    /// Whether the members of this stage have nothing left to do.
    pub(crate) fn is_caught_up(&self, stage: &str) -> bool {
        let mut members = self.stages.iter().filter(|handle| handle.stage == stage);
        members.all(|handle| handle.progress.borrow().is_caught_up())
    }

    /// The tasks of the members of this stage that are in memory.
    pub(crate) fn in_memory(&self, stage: &str) -> u64 {
        let members = self.stages.iter().filter(|handle| handle.stage == stage);
        members.map(|handle| handle.progress.borrow().balance.in_flight).sum()
    }

    /// Publishes events as our own producers do, many at a time and each key's in their order.
    pub(crate) async fn publish_all(&self, events: &[Event]) -> Vec<Delivered> {
        let topic = self.topic("orders.events");
        let mut delivered = Vec::with_capacity(events.len());
        for events in events.chunks(500) {
            let mut records = Vec::with_capacity(events.len());
            for event in events {
                let payload = self.parts.codec.encode(&topic, event).await.expect("it fits its schema");
                let key = event.meta().order_id.as_bytes().to_vec();
                let mut record = OutRecord::keyed(topic.as_str(), key, payload);
                record.headers = Headers::from(event::headers(event, None));
                records.push(self.parts.env.producer.send(record));
            }
            let sent = futures_util::future::join_all(records).await;
            delivered.extend(sent.into_iter().map(|sent| sent.expect("acknowledged")));
        }
        delivered
    }

    /// Drains, and fails the test if a stage didn't end well or left work behind.
    pub(crate) async fn halt(&mut self) {
        self.stop.cancel();
        for stage in self.stages.drain(..) {
            let ended = stage.join.await.expect("no panic").expect("no error");
            assert!(ended.drained, "{} left work undone", stage.stage);
        }
        if let Some(relay) = self.relay.take() {
            relay.await.expect("no panic");
        }
        // What comes next has connections of its own, as another process would: those of the stages' threads die with them.
        self.parts.db = self.schema.database(&self.postgres);
    }

    /// Whether a partition of this stage says that it waits for something that is away.
    pub(crate) fn is_waiting(&self, stage: &str) -> bool {
        let stages = self.stages.iter().filter(|handle| handle.stage == stage);
        stages.into_iter().any(|handle| {
            let progress = handle.progress.borrow();
            progress
                .partitions
                .values()
                .any(|partition| matches!(partition.state, PartitionState::Waiting(_)))
        })
    }

    /// The broker's name of a topic.
    pub(crate) fn topic(&self, id: &str) -> String {
        self.parts.topology.topic(id).unwrap_or_else(|| panic!("no topic {id}")).name.to_string()
    }

    /// Publishes an event as our own producers do.
    pub(crate) async fn publish(&self, event: &Event) -> Delivered {
        let topic = self.topic("orders.events");
        let payload = self.parts.codec.encode(&topic, event).await.expect("it fits its schema");
        let mut record = OutRecord::keyed(topic, event.meta().order_id.as_bytes().to_vec(), payload);
        record.headers = Headers::from(event::headers(event, None));
        self.parts.env.producer.send(record).await.expect("acknowledged")
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> Delivered {
        let mut record = OutRecord::keyed(self.topic("orders.events"), Vec::new(), Vec::new());
        record.key = key.map(|key| key.to_vec().into());
        record.payload = payload.map(|payload| payload.to_vec().into());
        self.parts.env.producer.send(record).await.expect("acknowledged")
    }

    /// Drains, fails the test if a stage didn't end well or left work behind, and tidies up.
    pub(crate) async fn end(mut self) {
        self.halt().await;
        self.parts.db.close().await;
        self.schema.drop().await;
    }
}
