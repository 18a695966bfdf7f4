//! Puts the parts together: what `run`, `serve` and the outside would be, in one process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;

use super::calm::{Calm, CalmError};
use super::{DemoOptions, TENANT};
use crate::admin::publish::Publisher;
use crate::admin::schemas;
use crate::admin::webhooks::{Registrar, Rules};
use crate::clock::Clock;
use crate::crypto::{CryptoError, Secret, Vault};
use crate::embedded::broker::{Broker, BrokerError};
use crate::embedded::feed::Feed;
use crate::embedded::mailbox::{Mailbox, PutsOff};
use crate::embedded::partners::{Behaviour, Partner};
use crate::embedded::registry::EmbeddedRegistry;
use crate::event::{Codec, EventType, LiveNotification, RegistryError, RegistryOptions};
use crate::http::live::{Hub, LiveOptions};
use crate::http::{self, Auth, AuthSetupError, HttpOptions, ServeError};
use crate::outbox::{Relay, RelayOptions};
use crate::runtime::{Environment, KafkaOptions, Producer, RuntimeOptions};
use crate::stages::dispute::DisputeOptions;
use crate::stages::live_feed::LiveFeed;
use crate::stages::webhook::{self, WebhookOptions};
use crate::stages::{self, StageOptions, StartError};
use crate::store::{Database, StoreError, StoreOptions};
use crate::task::Group;
use crate::telemetry::Metrics;
use crate::topology::{Topology, TopologyError};

/// Orders and mails that partners and mailbox remember at least.
const LEAST_MEMORY: usize = 10_000;
/// Mails per order, at most, beside the long histories.
const MAILS_PER_ORDER: usize = 40;
/// Signs the demo's tokens. Everybody knows it, so the program refuses it everywhere else (it begins with `demo-`).
const JWT_SECRET: &str = "demo-secret-that-everybody-knows-and-nobody-may-use";

/// Why the demo doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A temporary folder, a port or a thread was refused.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What the operating system says.
        why: std::io::Error,
    },
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A Kafka client.
    #[error("a client of the in-process broker doesn't start: {0}")]
    Client(#[from] KafkaError),
    /// The topology that the program carries.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The registry.
    #[error("the embedded registry doesn't take our schemas: {0}")]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Tokens.
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    /// A token for the screen.
    #[error(transparent)]
    Token(#[from] http::token::IssueError),
    /// The API.
    #[error(transparent)]
    Http(#[from] ServeError),
    /// A stage.
    #[error(transparent)]
    Stage(#[from] StartError),
    /// The look at positions.
    #[error(transparent)]
    Calm(#[from] CalmError),
}

/// Everything that runs.
pub(super) struct Plant {
    pub(super) broker: Broker,
    pub(super) registry: EmbeddedRegistry,
    pub(super) kafka: KafkaOptions,
    pub(super) topology: Arc<Topology>,
    pub(super) db: Database,
    pub(super) clock: Clock,
    pub(super) feed: Feed,
    pub(super) publisher: Publisher,
    pub(super) partners: Vec<Partner>,
    pub(super) mailbox: Mailbox,
    pub(super) http: std::net::SocketAddr,
    pub(super) token: Secret<String>,
    stop: CancellationToken,
    group: Group,
    folder: Folder,
}

impl std::fmt::Debug for Plant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plant")
            .field("broker", &self.broker)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

/// Sums in the store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StoredCounts {
    pub(super) history: u64,
    pub(super) messages: u64,
    pub(super) disputes: u64,
}

impl Plant {
    pub(super) async fn start(options: &DemoOptions, stop: CancellationToken) -> Result<Self, DemoError> {
        let topology = Arc::new(Topology::demo()?);
        let broker = Broker::start()?;
        for topic in topology.topics() {
            broker.create_topic(&topic.name, topic.partitions)?;
        }
        let registry = EmbeddedRegistry::start(([127, 0, 0, 1], 0).into()).await;
        let registry =
            registry.map_err(|why| DemoError::Refused { what: "no port for the registry", why })?;
        let codec = codec(registry.url(), &topology).await?;

        let folder = Folder::new().map_err(|why| DemoError::Refused { what: "no temporary folder", why })?;
        let db = store(&folder).await?;
        let (vault, clock, metrics, feed) =
            (Vault::ephemeral(), Clock::system(), Metrics::new(), Feed::new());
        let kafka = broker.client_options();
        let producer = Producer::new(&kafka)?;
        let publisher =
            Publisher::new(codec.clone(), producer.clone(), Arc::clone(&topology), Arc::clone(&metrics));

        let memory = usize::try_from(options.orders).unwrap_or(usize::MAX).max(LEAST_MEMORY);
        let partners = open_partners(options, memory, &clock, &feed)?;
        let puts_off = PutsOff { seed: options.seed, one_in: 12 };
        let mails = memory.saturating_mul(MAILS_PER_ORDER);
        let mailbox = Mailbox::open(mails, Some(puts_off), feed.clone())
            .await
            .map_err(|why| DemoError::Refused { what: "no port for the mailbox", why })?;

        let group = Group::new(stop.clone());
        let relay_options =
            RelayOptions { poll_interval: Duration::from_millis(20), ..RelayOptions::default() };
        let relay =
            Relay::new(db.clone(), producer.clone(), Arc::clone(&metrics), clock.clone(), relay_options);
        let relay_stop = stop.clone();
        group.spawn("outbox relay", async move {
            relay.run(relay_stop).await;
            Ok::<(), String>(())
        });

        let http_options = Arc::new(HttpOptions {
            bind: options.http,
            jwt_secret: Some(Secret::new(JWT_SECRET.to_owned())),
            ..HttpOptions::default()
        });
        let token = token(&http_options, &clock)?;
        let hub = Hub::new(LiveOptions::default(), Arc::clone(&metrics), clock.clone());
        let stage_options = stage_options();
        let rules = registration_rules(&stage_options.webhook, &topology);
        let api = http::Parts {
            hub: hub.clone(),
            webhooks: Registrar::new(db.clone(), vault.clone(), clock.clone(), rules),
            auth: Arc::new(Auth::new(&http_options, clock.clone())?),
            options: http_options,
            db: db.clone(),
            vault: vault.clone(),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            publisher: Arc::new(publisher.clone()),
            readiness: readiness(&db),
            events_health: http::Probe::new(async || {
                Ok(http::EventsHealth { active: true, ..http::EventsHealth::default() })
            }),
        };
        let bound = http::Bound::new(api).await?;
        let http = bound.address();
        group.spawn("http", bound.serve(stop.clone()));
        if let Some(topic) = topology.topic("notifications.live") {
            let live = LiveFeed {
                kafka: kafka.clone(),
                topic: topic.name.to_string(),
                codec: codec.clone(),
                clock: clock.clone(),
            };
            let show = move |notification: LiveNotification, at| hub.show(&notification, at);
            let live_stop = stop.clone();
            group.spawn("live feed", async move {
                live.follow(live_stop, show).await;
                Ok::<(), String>(())
            });
        }

        let parts = stages::Parts {
            env: Environment {
                kafka: kafka.clone(),
                producer,
                metrics: Arc::clone(&metrics),
                clock: clock.clone(),
            },
            cluster_id: broker.cluster_id().into(),
            db: db.clone(),
            vault,
            codec,
            topology: Arc::clone(&topology),
            options: Arc::new(stage_options),
        };
        for handle in stages::start(&parts, stages::TABLE, &stop)? {
            group.spawn("stage", async move {
                match handle.join.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(format!("stage {} broke off: {error}", handle.stage)),
                }
            });
        }
        Ok(Self {
            broker,
            registry,
            kafka,
            topology,
            db,
            clock,
            feed,
            publisher,
            partners,
            mailbox,
            http,
            token,
            stop,
            group,
            folder,
        })
    }

    /// A look at the positions of all stages.
    pub(super) fn calm(&self) -> Result<Calm, CalmError> {
        let stages: Vec<&str> = stages::TABLE.iter().map(|row| row.name).collect();
        Calm::new(self.db.clone(), &self.topology, &stages, &self.kafka)
    }

    pub(super) async fn stored_counts(&self) -> Result<StoredCounts, StoreError> {
        let row = self
            .db
            .row(
                "SELECT (SELECT COUNT(*) FROM order_events) AS history,
                     (SELECT COUNT(*) FROM conversation_messages) AS messages,
                     (SELECT COUNT(*) FROM disputes) AS disputes",
                &[],
            )
            .await?;
        let Some(row) = row else { return Ok(StoredCounts::default()) };
        Ok(StoredCounts {
            history: row.int("history")?.unsigned_abs(),
            messages: row.int("messages")?.unsigned_abs(),
            disputes: row.int("disputes")?.unsigned_abs(),
        })
    }

    /// Drains and ends everything; gives what failed on the way.
    pub(super) async fn stop(self) -> Vec<String> {
        self.stop.cancel();
        let Self { broker, group, db, folder, publisher, .. } = self;
        let failures = group.join().await;
        db.close().await;
        drop(folder);
        // Clients go before their broker does.
        drop(publisher);
        drop(broker);
        failures
    }
}

/// A codec whose registry has every schema under the subject of its topic.
async fn codec(url: &str, topology: &Topology) -> Result<Codec, DemoError> {
    let codec = Codec::new(&RegistryOptions {
        url: url.to_owned(),
        auto_register: true,
        ..RegistryOptions::default()
    })?;
    schemas::register(codec.registry(), topology).await?;
    Ok(codec)
}

/// A migrated SQLite store.
async fn store(folder: &Folder) -> Result<Database, DemoError> {
    let url = format!("sqlite://{}", folder.0.join("orderflow.db").display());
    let db = Database::open(&StoreOptions {
        url: Secret::new(url),
        acquire_timeout: Duration::from_secs(30),
        ..StoreOptions::default()
    })?;
    db.migrate().await?;
    Ok(db)
}

/// One that is healthy, one that fails at times, one that is down for a while.
fn open_partners(
    options: &DemoOptions,
    memory: usize,
    clock: &Clock,
    feed: &Feed,
) -> Result<Vec<Partner>, DemoError> {
    let fails = Behaviour::FailsAtTimes { seed: options.seed, one_in: 10 };
    let down = Behaviour::DownFor(options.partner_down_for);
    let orders_only: Vec<EventType> =
        EventType::ALL.iter().copied().filter(|kind| kind.as_str().starts_with("order.")).collect();
    let partners: [(&str, Behaviour, &[EventType]); 3] =
        [("ledger-co", Behaviour::Healthy, &[]), ("parcel-co", fails, &[]), ("crm-co", down, &orders_only)];
    partners
        .into_iter()
        .map(|(name, behaviour, wants)| {
            Partner::open(name, behaviour, wants, memory, clock.clone(), feed.clone())
                .map_err(|why| DemoError::Refused { what: "no port for a partner", why })
        })
        .collect()
}

fn readiness(db: &Database) -> Arc<[http::Check]> {
    let db = db.clone();
    let probe = http::Probe::new(move || {
        let db = db.clone();
        async move { db.ping().await.map_err(|error| error.to_string()) }
    });
    Arc::new([http::Check { name: "database", probe }])
}

fn token(options: &HttpOptions, clock: &Clock) -> Result<Secret<String>, DemoError> {
    let grant = http::token::Grant {
        subject: "demo",
        roles: &[http::Role::Service, http::Role::Admin, http::Role::Operator],
        tenant: TENANT,
        ttl: Duration::from_secs(24 * 3600),
    };
    Ok(http::token::issue(options, clock, &grant)?)
}

fn stage_options() -> StageOptions {
    let runtime = RuntimeOptions {
        in_place_limit: Duration::from_millis(500),
        commit_interval: Duration::from_millis(100),
        shutdown_drain: Duration::from_secs(5),
        ..RuntimeOptions::default()
    };
    let moderators = vec!["moderator-mia".to_owned(), "moderator-noah".to_owned()];
    let dispute = DisputeOptions { moderators, capacity: 1_000 };
    // The demo's partners live on loopback and have no certificates.
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    StageOptions { runtime, dispute, webhook, ..StageOptions::default() }
}

fn registration_rules(options: &WebhookOptions, topology: &Topology) -> Rules {
    Rules {
        allow_http: options.allow_http,
        timeout: options.timeout,
        endpoints_per_tenant: options.endpoints_per_tenant,
        refresh: options.refresh,
        policy: webhook::policy(topology),
    }
}

/// A temporary folder that goes with the demo.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("orderflow-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder couldn't be removed");
        }
    }
}
