//! Puts the parts together: what `run`, `serve` and the outside would be, in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;

use super::DemoOptions;
use super::calm::{Calm, CalmError};
use crate::admin::Operations;
use crate::admin::publish::Publisher;
use crate::admin::stages::Stages;
use crate::admin::webhooks::{Registrar, Trials};
use crate::clock::Clock;
use crate::crypto::{CryptoError, Secret, Vault};
use crate::embedded::feed::Feed;
use crate::embedded::mailbox::Mailbox;
use crate::embedded::partners::{Behaviour, Partner};
use crate::embedded::services::{Services, ServicesError};
use crate::event::{Codec, LiveNotification, RegistryError};
use crate::http::live::{Hub, LiveOptions};
use crate::http::{self, Auth, AuthSetupError, HttpOptions, ServeError};
use crate::outbox::{Relay, RelayOptions};
use crate::runtime::{Environment, KafkaOptions, Producer};
use crate::stages::delivery::email::SmtpError;
use crate::stages::live_feed::LiveFeed;
use crate::stages::webhook;
use crate::stages::{self, StageOptions, StartError};
use crate::store::overview::{self, Counts};
use crate::store::{Database, StoreError};
use crate::task::Group;
use crate::telemetry::Metrics;
use crate::topology::{Topology, TopologyError};

mod outside;
mod settings;

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
    /// Broker, registry or database.
    #[error(transparent)]
    Services(#[from] ServicesError),
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
    /// A partner couldn't register through the API.
    #[error("partner {partner} can't register its webhook: {why}")]
    Register {
        /// The partner.
        partner: String,
        /// The API's answer, or what stood in the way of one.
        why: String,
    },
    /// The mail channel.
    #[error(transparent)]
    Mail(#[from] SmtpError),
    /// A stage.
    #[error(transparent)]
    Stage(#[from] StartError),
    /// The look at positions.
    #[error(transparent)]
    Calm(#[from] CalmError),
}

/// Everything that runs.
pub(super) struct Plant {
    pub(super) services: Services,
    pub(super) kafka: KafkaOptions,
    pub(super) topology: Arc<Topology>,
    pub(super) db: Database,
    pub(super) clock: Clock,
    pub(super) feed: Feed,
    pub(super) publisher: Publisher,
    pub(super) partners: Vec<Partner>,
    pub(super) mailbox: Mailbox,
    pub(super) http: SocketAddr,
    pub(super) token: Secret<String>,
    /// The ids under which the partners are registered, in their order.
    webhooks: Vec<String>,
    stop: CancellationToken,
    group: Group,
}

impl std::fmt::Debug for Plant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plant")
            .field("services", &self.services)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

/// What the program's own parts share.
struct Core {
    kafka: KafkaOptions,
    topology: Arc<Topology>,
    db: Database,
    vault: Vault,
    codec: Codec,
    producer: Producer,
    publisher: Publisher,
    metrics: Arc<Metrics>,
    clock: Clock,
    stop: CancellationToken,
    group: Group,
}

impl Plant {
    pub(super) async fn start(options: &DemoOptions, stop: CancellationToken) -> Result<Self, DemoError> {
        let topology = Arc::new(Topology::demo()?);
        let services = Services::start(&topology).await?;
        let codec = outside::codec(services.registry.url(), &topology).await?;
        let (clock, metrics, feed) = (Clock::system(), Metrics::new(), Feed::new());
        let kafka = services.broker.client_options();
        let producer = Producer::new(&kafka)?;
        let core = Core {
            publisher: Publisher::new(
                codec.clone(),
                producer.clone(),
                Arc::clone(&topology),
                Arc::clone(&metrics),
            ),
            kafka,
            topology,
            db: outside::store(services.store_url()).await?,
            vault: Vault::ephemeral(),
            codec,
            producer,
            metrics,
            clock,
            stop: stop.clone(),
            group: Group::new(stop.clone()),
        };
        let mailbox = outside::mailbox(options, &feed).await?;
        let stage_options = settings::stages(mailbox.address())?;

        core.relay();
        let http_options = Arc::new(settings::http(options.http));
        let token = settings::token(&http_options, &core.clock)?;
        let http = core.api(http_options, &stage_options).await?;
        let partners = outside::partners(options, &core.clock, &feed)?;
        let mut webhooks = Vec::new();
        for partner in &partners {
            webhooks.push(outside::register(partner, http, &token).await?);
        }
        core.stages(services.broker.cluster_id(), stage_options)?;

        let Core { kafka, topology, db, publisher, clock, group, .. } = core;
        Ok(Self {
            services,
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
            webhooks,
            stop,
            group,
        })
    }

    /// The id under which the partner that fails at times is registered.
    pub(super) fn failing_webhook(&self) -> String {
        let fails = |partner: &Partner| matches!(partner.behaviour(), Behaviour::FailsAtTimes { .. });
        let at = self.partners.iter().position(fails).unwrap_or_default();
        self.webhooks.get(at).cloned().unwrap_or_default()
    }

    /// A look at the positions of all stages.
    pub(super) fn calm(&self) -> Result<Calm, CalmError> {
        let stages: Vec<&str> = self.topology.stages().map(|stage| stage.name.as_str()).collect();
        Calm::new(self.db.clone(), &self.topology, &stages, &self.kafka)
    }

    pub(super) async fn stored_counts(&self) -> Result<Counts, StoreError> {
        overview::counts(&self.db).await
    }

    /// Drains and ends everything; gives what failed on the way.
    pub(super) async fn stop(self) -> Vec<String> {
        self.stop.cancel();
        let Self { services, group, db, publisher, .. } = self;
        let failures = group.join().await;
        db.close().await;
        // Clients go before their broker does.
        drop(publisher);
        drop(services);
        failures
    }
}

impl Core {
    /// Starts the outbox relay.
    fn relay(&self) {
        let options = RelayOptions { poll_interval: Duration::from_millis(20), ..RelayOptions::default() };
        let (db, producer) = (self.db.clone(), self.producer.clone());
        let relay = Relay::new(db, producer, Arc::clone(&self.metrics), self.clock.clone(), options);
        let stop = self.stop.clone();
        self.group.spawn("outbox relay", async move {
            relay.run(stop).await;
            Ok::<(), String>(())
        });
    }

    /// Starts the API with the live socket.
    async fn api(&self, options: Arc<HttpOptions>, stages: &StageOptions) -> Result<SocketAddr, DemoError> {
        let hub = Hub::new(LiveOptions::default(), Arc::clone(&self.metrics), self.clock.clone());
        let rules = settings::registration(&stages.webhook, &self.topology);
        let subscribers = self.topology.stages().count() as u64;
        let operations = Operations::new(
            self.kafka.clone(),
            self.db.clone(),
            self.clock.clone(),
            Arc::clone(&self.topology),
            self.producer.clone(),
        );
        let registrar = Registrar::new(self.db.clone(), self.vault.clone(), self.clock.clone(), rules)
            .over(operations.clone(), self.codec.clone());
        let trial = webhook::trial(&stages.webhook, self.vault.clone(), self.clock.clone());
        let bound = http::Bound::new(http::Parts {
            inbound: Arc::default(),
            hub: hub.clone(),
            webhook_trials: Trials::new(registrar.clone(), trial),
            webhooks: registrar,
            stages: Stages::new(
                self.db.clone(),
                self.clock.clone(),
                self.topology.stages().map(|stage| stage.name.clone()),
            ),
            operations: Arc::new(operations),
            auth: Arc::new(Auth::new(&options, self.clock.clone())?),
            options,
            db: self.db.clone(),
            vault: self.vault.clone(),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
            publisher: Arc::new(self.publisher.clone()),
            readiness: settings::readiness(&self.db),
            events_health: settings::events_health(&self.db, subscribers),
        })
        .await?;
        let address = bound.address();
        self.group.spawn("http", bound.serve(self.stop.clone()));
        if let Some(topic) = self.topology.topic("notifications.live") {
            let live = LiveFeed {
                kafka: self.kafka.clone(),
                topic: topic.name.to_string(),
                codec: self.codec.clone(),
                clock: self.clock.clone(),
            };
            let show = move |notification: LiveNotification, at| hub.show(&notification, at);
            let stop = self.stop.clone();
            self.group.spawn("live feed", async move {
                live.follow(stop, show).await;
                Ok::<(), String>(())
            });
        }
        Ok(address)
    }

    /// Starts every stage there is.
    fn stages(&self, cluster_id: String, options: StageOptions) -> Result<(), DemoError> {
        let parts = stages::Parts {
            env: Environment {
                kafka: self.kafka.clone(),
                producer: self.producer.clone(),
                metrics: Arc::clone(&self.metrics),
                clock: self.clock.clone(),
            },
            cluster_id: cluster_id.into(),
            db: self.db.clone(),
            vault: self.vault.clone(),
            codec: self.codec.clone(),
            topology: Arc::clone(&self.topology),
            options: Arc::new(options),
            traffic: stages::webhook::Traffic::default(),
        };
        let names = stages::select(&self.topology, &["all".to_owned()])?;
        for handle in stages::start(&parts, &names, &self.stop)? {
            self.group.spawn("stage", async move {
                match handle.join.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(format!("stage {} broke off: {error}", handle.stage)),
                }
            });
        }
        Ok(())
    }
}
