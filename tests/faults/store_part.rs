//! The store stage's side of a run: where its rows are, what was published for it, and whether each was kept once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::crypto::Secret;
use orderflow::event::{self, Codec, Event, Factory, Money, RegistryOptions};
use orderflow::runtime::{Headers, OutRecord, Producer};
use orderflow::store::history::{self, Filter};
use orderflow::store::{Database, StoreOptions};
use orderflow::topology::Topology;

use crate::disk::Disk;
use crate::harness::kafka::TestKafka;
use crate::harness::proxy::address_of;
use crate::harness::schema::TestSchema;
use crate::harness::service;
use crate::member::StoreOrders;
use crate::outside::PARTITIONS;
use crate::plan::StoreKind;
use crate::proxy::Proxy;

/// Orders that events are published for.
const ORDERS: u32 = 12;
const NOW: i64 = 1_760_000_000_000;

/// Where it is kept.
pub(crate) enum Place {
    Schema(TestSchema),
    Disk(Disk),
}

pub(crate) struct StorePart {
    pub(crate) place: Place,
    pub(crate) database: Proxy,
    pub(crate) registry: Proxy,
    pub(crate) publisher: Publisher,
    db: Database,
    orders: StoreOrders,
}

/// Publishes events and remembers which.
#[derive(Clone)]
pub(crate) struct Publisher {
    codec: Codec,
    producer: Producer,
    topic: Arc<str>,
    /// Order → event ids, in the order in which they were acknowledged.
    sent: Arc<Mutex<BTreeMap<u32, Vec<String>>>>,
}

/// The topology of a run: the built-in one with names of its own.
pub(crate) fn topology(prefix: &str) -> Topology {
    let overlay =
        format!("topic_prefix: \"{prefix}\"\ndefaults:\n  partitions: {PARTITIONS}\n  replication: 1\n");
    let built_in = ("the built-in topology", include_str!("../../topology/orders.yaml"));
    Topology::from_yaml(&[built_in, ("the run's overlay", &overlay)]).expect("the topology is valid")
}

impl StorePart {
    pub(crate) async fn new(kind: StoreKind, kafka: &TestKafka) -> Self {
        let (registry_url, postgres) =
            (service("ORDERFLOW_TEST_REGISTRY"), service("ORDERFLOW_TEST_POSTGRES"));
        let database = Proxy::before(&address_of(&postgres)).await;
        let registry = Proxy::before(&address_of(&registry_url)).await;
        let disk = if kind == StoreKind::Sqlite { Disk::mount() } else { None };
        let (place, direct, proxied) = match disk {
            Some(disk) => {
                let url = disk.database();
                (Place::Disk(disk), url.clone(), url)
            }
            None => {
                let schema = TestSchema::create().await;
                let (direct, proxied) = (schema.url(), schema.url_at(&through(&postgres, &database)));
                (Place::Schema(schema), direct, proxied)
            }
        };
        let options = StoreOptions { url: Secret::new(direct), ..StoreOptions::default() };
        let db = Database::open(&options).expect("a valid URL");
        db.migrate().await.expect("it migrates");
        let prefix = kafka.name("");
        let topology = topology(&prefix);
        let stage = topology.stage("history").expect("it is declared");
        let topics = [stage.source.to_string(), stage.dead_letters.to_string()];
        kafka.create(&topics, PARTITIONS.cast_signed()).await;
        let options = RegistryOptions {
            url: registry_url.clone(),
            timeout: Duration::from_secs(5),
            auto_register: true,
            ..RegistryOptions::default()
        };
        let publisher = Publisher {
            codec: Codec::new(&options).expect("settings are accepted"),
            producer: kafka.producer.clone(),
            topic: topics[0].as_str().into(),
            sent: Arc::default(),
        };
        let orders = StoreOrders {
            database: proxied,
            registry: through(&registry_url, &registry),
            topic_prefix: prefix,
        };
        Self { place, database, registry, publisher, db, orders }
    }

    /// The orders of a member: with a file for a database only the first has the stage.
    pub(crate) fn orders(&self, is_first: bool) -> Option<StoreOrders> {
        (is_first || matches!(self.place, Place::Schema(_))).then(|| self.orders.clone())
    }

    /// Rows that are missing, and rows too many or out of order.
    pub(crate) async fn differences(&self) -> (usize, usize) {
        let sent = self.publisher.sent.lock().expect("no panic").clone();
        let (mut lost, mut odd) = (0, 0);
        for (order, sent) in sent {
            let kept =
                history::events(&self.db, "shop", &format!("o-{order}"), &Filter::default(), 100_000).await;
            let kept = kept.expect("the store answers");
            let kept: Vec<&str> = kept.iter().rev().map(|event| event.event_id.as_str()).collect();
            lost += sent.iter().filter(|id| !kept.contains(&id.as_str())).count();
            let expected: Vec<&str> =
                sent.iter().map(String::as_str).filter(|id| kept.contains(id)).collect();
            odd += kept.len().abs_diff(expected.len());
            odd += kept.iter().zip(&expected).filter(|(kept, expected)| kept != expected).count();
        }
        (lost, odd)
    }

    pub(crate) async fn end(self) {
        self.db.close().await;
        if let Place::Schema(schema) = self.place {
            schema.drop().await;
        }
    }
}

impl Publisher {
    /// Publishes one event, of the order whose turn it is.
    pub(crate) async fn publish(&self, turn: u64) {
        let order = u32::try_from(turn % u64::from(ORDERS)).expect("small");
        let event: Event = Factory::new("shop", "faults")
            .order_paid(format!("o-{order}"), NOW, "pay-1", "card", Money::new(1999, "EUR"))
            .into();
        let payload = self.codec.encode(&self.topic, &event).await.expect("it fits its schema");
        let key = event.meta().order_id.as_bytes().to_vec();
        let mut record = OutRecord::keyed(Arc::clone(&self.topic), key, payload);
        record.headers = Headers::from(event::headers(&event, None));
        self.producer.send(record).await.expect("acknowledged");
        let id = event.meta().event_id.to_string();
        self.sent.lock().expect("no panic").entry(order).or_default().push(id);
    }

    pub(crate) fn count(&self) -> usize {
        self.sent.lock().expect("no panic").values().map(Vec::len).sum()
    }
}

/// `url` with the proxy's address in it.
fn through(url: &str, proxy: &Proxy) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_host(Some(&proxy.address.ip().to_string())).expect("a host");
    url.set_port(Some(proxy.address.port())).expect("a port");
    url.to_string()
}
