//! The program as a service: parts made once, stages and API started over them, everything drained at the end.
//!
//! ```text
//! settings checked ──► services waited for ──► stages │ API │ relay run ──► signal ──► drained ──► exit code
//! ```

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Fault};
use super::parts;
use super::waiting::Patience;
use crate::admin::publish::Publisher;
use crate::admin::stages::Stages;
use crate::admin::topology::Broker;
use crate::admin::webhooks::{Forgetting, Registrar, Trials};
use crate::admin::{Operations, dead_letters, lag};
use crate::clock::Clock;
use crate::config::Config;
use crate::event::{Codec, RegistryError};
use crate::http::inbound::Senders;
use crate::http::live::Hub;
use crate::http::{self, Auth, Bound, Check, EventsHealth, Observed, Probe, Signs};
use crate::outbox::Relay;
use crate::runtime::{self, Environment, Progress, RunError, StageHandle};
use crate::stages::live_feed::LiveFeed;
use crate::stages::webhook;
use crate::stages::{self, StageOptions};
use crate::store::{Database, StoreError, controls, migrations, webhooks};
use crate::task::Group;
use crate::telemetry::Metrics;

/// How much longer than its own deadline a part may take to end before it is left behind.
const GRACE: Duration = Duration::from_secs(5);

/// The topic that the live socket shows, by its id in the topology.
const LIVE: &str = "notifications.live";

/// A service that is being put together. Nothing runs yet, and no service was asked for anything.
pub(super) struct Service {
    config: Config,
    parts: stages::Parts,
    broker: Broker,
    stop: CancellationToken,
    group: Group,
    stages: Vec<StageHandle>,
    watched: Watched,
}

/// How far the stages of this process are, by name; known to the API, which starts before them.
type Watched = Arc<Mutex<Vec<(String, watch::Receiver<Progress>)>>>;

impl Service {
    /// Makes the parts; what is wrong with the settings is told here.
    pub(super) fn new(config: Config, stop: CancellationToken) -> Result<Self, Fault> {
        let options = StageOptions {
            runtime: config.runtime.clone(),
            templates: config.notification.load().map_err(|error| Fault::configuration(error.to_string()))?,
            dispute: config.dispute.clone(),
            webhook: config.webhook.clone(),
            mail: config.smtp.check().map_err(|error| Fault::configuration(error.to_string()))?,
        };
        let env = Environment {
            kafka: config.kafka.clone(),
            producer: parts::producer(&config)?,
            metrics: Metrics::new(),
            clock: Clock::system(),
        };
        let parts = stages::Parts {
            env,
            // Known once Kafka answers; stages start after that.
            cluster_id: Arc::from(""),
            db: parts::database(&config)?,
            vault: config.vault()?,
            codec: parts::codec(&config)?,
            topology: Arc::new(config.topology.load()?),
            options: Arc::new(options),
            traffic: stages::webhook::Traffic::default(),
        };
        let broker = Broker::new(&config.kafka)?;
        Ok(Self {
            config,
            parts,
            broker,
            group: Group::new(stop.clone()),
            stop,
            stages: Vec::new(),
            watched: Watched::default(),
        })
    }

    /// Starts the API. It answers from here on, and says in `/health/ready` what isn't there yet.
    pub(super) async fn start_api(&self) -> Result<(), Fault> {
        let api = self.api()?;
        let hub = api.hub.clone();
        let bound = Bound::new(api).await.map_err(|error| Fault::configuration(error.to_string()))?;
        self.group.spawn("http", bound.serve(self.stop.clone()));
        self.start_live_feed(hub);
        Ok(())
    }

    /// Tells metrics and health where no API does, if an address is set for that.
    pub(super) async fn start_observing(&self) -> Result<(), Fault> {
        let Some(address) = self.config.http.observe_bind else { return Ok(()) };
        let signs = Signs {
            metrics: Arc::clone(&self.parts.env.metrics),
            readiness: self.checks().into(),
            metrics_token: self.config.http.metrics_token.clone(),
        };
        let (options, clock) = (self.config.http.clone(), self.parts.env.clock.clone());
        let observed = Observed::new(address, signs, options, clock)
            .await
            .map_err(|error| Fault::configuration(error.to_string()))?;
        self.group.spawn("metrics", observed.serve(self.stop.clone()));
        Ok(())
    }

    /// Whether the API could be started, as far as that can be known without listening.
    pub(super) fn check_api(&self) -> Result<(), Fault> {
        http::router(self.api()?).map(drop).map_err(|error| Fault::configuration(error.to_string()))
    }

    fn api(&self) -> Result<http::Parts, Fault> {
        let options = Arc::new(self.config.http.clone());
        let env = &self.parts.env;
        let (codec, topology) = (self.parts.codec.clone(), Arc::clone(&self.parts.topology));
        let publisher = Publisher::new(codec, env.producer.clone(), topology, Arc::clone(&env.metrics));
        let auth = Auth::new(&options, env.clock.clone())
            .map_err(|error| Fault::configuration(error.to_string()))?;
        let hub = Hub::new(self.config.live.clone(), Arc::clone(&env.metrics), env.clock.clone());
        let inbound =
            Senders::new(&self.config.inbound).map_err(|error| Fault::configuration(error.to_string()))?;
        Ok(http::Parts {
            inbound: Arc::new(inbound),
            options,
            auth: Arc::new(auth),
            db: self.parts.db.clone(),
            vault: self.parts.vault.clone(),
            metrics: Arc::clone(&env.metrics),
            clock: env.clock.clone(),
            publisher: Arc::new(publisher),
            hub,
            webhooks: self.registrar(),
            webhook_trials: Trials::new(
                self.registrar(),
                webhook::trial(&self.config.webhook, self.parts.vault.clone(), env.clock.clone()),
            ),
            stages: Stages::new(
                self.parts.db.clone(),
                env.clock.clone(),
                self.parts.topology.stages().map(|stage| stage.name.clone()),
            ),
            operations: Arc::new(self.operations()),
            readiness: self.checks().into(),
            events_health: self.events_health(),
        })
    }

    /// What decides on registrations of webhooks.
    fn registrar(&self) -> Registrar {
        let (db, vault) = (self.parts.db.clone(), self.parts.vault.clone());
        let rules = parts::webhook_rules(&self.config, &self.parts.topology);
        Registrar::new(db, vault, self.parts.env.clock.clone(), rules)
            .over(self.operations(), self.parts.codec.clone())
    }

    /// Brings live notifications to the API's rooms.
    fn start_live_feed(&self, hub: Hub) {
        let Some(topic) = self.parts.topology.topic(LIVE) else {
            tracing::warn!(topic = LIVE, "the topology has no such topic: the live socket stays silent");
            return;
        };
        let feed = LiveFeed {
            kafka: self.config.kafka.clone(),
            topic: topic.name.to_string(),
            codec: self.parts.codec.clone(),
            clock: self.parts.env.clock.clone(),
        };
        let stop = self.stop.clone();
        self.group.spawn("live feed", async move {
            feed.follow(stop, move |notification, at| hub.show(&notification, at)).await;
            Ok::<_, Infallible>(())
        });
    }

    /// Waits for Kafka, the registry and the database, whose schema is brought up to date. False when the
    /// program was asked to stop meanwhile.
    pub(super) async fn wait_for_services(&mut self, fail_fast: bool) -> Result<bool, Fault> {
        let limit = if fail_fast { Duration::ZERO } else { self.config.start.wait_for_services };
        let patience = Patience { limit, clock: self.parts.env.clock.clone(), stop: self.stop.clone() };
        let (db, codec, broker) = (&self.parts.db, &self.parts.codec, &self.broker);
        let there = tokio::try_join!(
            patience.until("kafka", || broker.ping()),
            patience.until("the schema registry", || reach(codec)),
            patience.until("the database", || db.ping()),
        )?;
        let (Some(()), Some(()), Some(())) = there else { return Ok(false) };
        if self.config.start.migrate {
            // A database that answered may be away again, or busy with what another program does to it.
            let migrated = patience.until("the database", || async {
                match self.parts.db.migrate().await {
                    Err(StoreError::Unavailable(why)) => Err(why),
                    decided => Ok(decided),
                }
            });
            let Some(migrated) = migrated.await? else { return Ok(false) };
            migrated?;
        }
        let asked =
            runtime::cluster_id(&self.config.kafka, Some(limit.max(GRACE)), &patience.clock, &self.stop);
        let Some(cluster_id) = asked.await.map_err(fault)? else { return Ok(false) };
        self.parts.cluster_id = cluster_id;
        Ok(true)
    }

    /// Starts one member of each stage called `names`.
    pub(super) fn start_stages(&mut self, names: &[String]) -> Result<(), Fault> {
        let started = stages::start(&self.parts, names, &self.stop);
        let started = started.map_err(|error| Fault::configuration(error.to_string()))?;
        let watched = started.iter().map(|handle| (handle.stage.clone(), handle.progress.clone()));
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).extend(watched);
        self.stages.extend(started);
        tracing::info!(stages = names.join(","), topology = self.parts.topology.name, "stages are started");
        Ok(())
    }

    /// Starts publishing the outbox, unless somebody else does.
    pub(super) fn start_relay(&self) {
        if !self.config.outbox.relay {
            return;
        }
        let (parts, env) = (&self.parts, &self.parts.env);
        let (metrics, clock) = (Arc::clone(&env.metrics), env.clock.clone());
        let relay =
            Relay::new(parts.db.clone(), env.producer.clone(), metrics, clock, self.config.outbox.clone());
        let stop = self.stop.clone();
        self.group.spawn("outbox relay", async move {
            relay.run(stop).await;
            Ok::<_, Infallible>(())
        });
    }

    /// Starts counting the dead letters that wait for somebody, measuring how far groups are behind, and forgetting
    /// old webhook attempts.
    pub(super) fn start_watch(&self) {
        let (operations, metrics) = (self.operations(), Arc::clone(&self.parts.env.metrics));
        let letters = dead_letters::Watch { operations: operations.clone(), metrics: Arc::clone(&metrics) };
        let stop = self.stop.clone();
        self.group.spawn("dead letters", async move {
            letters.run(stop).await;
            Ok::<_, Infallible>(())
        });
        let (lag, stop) = (lag::Watch { operations, metrics }, self.stop.clone());
        self.group.spawn("lag", async move {
            lag.run(stop).await;
            Ok::<_, Infallible>(())
        });
        let (db, clock) = (self.parts.db.clone(), self.parts.env.clock.clone());
        let forgetting = Forgetting { db, clock, kept: self.config.webhook.attempts_retention };
        let stop = self.stop.clone();
        self.group.spawn("webhook attempts", async move {
            forgetting.run(stop).await;
            Ok::<_, Infallible>(())
        });
    }

    /// The running system as an operator reaches it.
    fn operations(&self) -> Operations {
        let (parts, env) = (&self.parts, &self.parts.env);
        let (db, topology) = (parts.db.clone(), Arc::clone(&parts.topology));
        Operations::new(env.kafka.clone(), db, env.clock.clone(), topology, env.producer.clone())
    }

    /// Runs until a signal, or until a part fails; then lets everything end, and says how it went.
    pub(super) async fn run_to_the_end(self) -> Result<Exit, Fault> {
        let Self { config, stop, group, stages, .. } = self;
        let mut running: FuturesUnordered<_> =
            stages.into_iter().map(|handle| async { (handle.stage, handle.join.await) }).collect();
        let deadline = config.runtime.shutdown_drain.max(config.http.drain) + GRACE;
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(deadline).await;
        };
        let ended = async {
            let (mut first_fault, mut undrained) = (None, Vec::new());
            while let Some((stage, ended)) = running.next().await {
                match ended {
                    Ok(Ok(ended)) if ended.drained => {}
                    Ok(Ok(_)) => undrained.push(stage),
                    Ok(Err(error)) => {
                        tracing::error!(stage, %error, "the stage ended early; shutting down");
                        first_fault.get_or_insert(fault(error));
                    }
                    Err(panicked) => {
                        let sentence = format!("stage {stage}: {panicked}; please report this");
                        first_fault.get_or_insert(Fault::internal(sentence));
                    }
                }
                stop.cancel();
            }
            let failures = group.join().await;
            (first_fault, undrained, failures)
        };
        let (first_fault, undrained, failures) = tokio::select! {
            ended = ended => ended,
            () = overdue => (None, vec!["the program".to_owned()], Vec::new()),
        };
        if let Some(fault) = first_fault {
            return Err(fault);
        }
        if let Some(failure) = failures.into_iter().next() {
            return Err(Fault::internal(failure));
        }
        if !undrained.is_empty() {
            let names = undrained.join(", ");
            let sentence = format!(
                "{names} did not end before the deadline; nothing is lost, what was unfinished is repeated"
            );
            return Err(Fault::new(Exit::Unfinished, sentence));
        }
        tracing::info!("stopped: everything is drained");
        Ok(Exit::Fine)
    }

    fn checks(&self) -> Vec<Check> {
        let (db, codec, broker) = (self.parts.db.clone(), self.parts.codec.clone(), self.broker.clone());
        vec![
            Check { name: "database", probe: Probe::new(move || answers(db.clone())) },
            Check {
                name: "registry",
                probe: Probe::new(move || {
                    let codec = codec.clone();
                    async move { reach(&codec).await.map_err(|error| error.to_string()) }
                }),
            },
            Check {
                name: "kafka",
                probe: Probe::new(move || {
                    let broker = broker.clone();
                    async move { broker.ping().await.map_err(|error| error.to_string()) }
                }),
            },
        ]
    }

    fn events_health(&self) -> Probe<EventsHealth> {
        let (db, broker, watched) = (self.parts.db.clone(), self.broker.clone(), Arc::clone(&self.watched));
        let subscribers = self.parts.topology.stages().filter(|stage| !stage.takes.is_empty()).count() as u64;
        Probe::new(move || {
            let (db, broker, troubles) = (db.clone(), broker.clone(), troubles(&watched));
            async move {
                broker.ping().await.map_err(|error| error.to_string())?;
                let endpoints = webhooks::count(&db).await.map_err(|error| error.to_string())?;
                let stages = controls::all(&db).await.map_err(|error| error.to_string())?;
                Ok(EventsHealth {
                    paused: stages.iter().filter(|stage| stage.paused).count() as u64,
                    active: true,
                    troubles,
                    subscribers,
                    webhooks_registered: endpoints.registered,
                    webhooks_healthy: endpoints.enabled,
                })
            }
        })
    }
}

/// What is wrong with the stages of this process, each with its name.
fn troubles(watched: &Watched) -> Vec<String> {
    let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    let of = |(stage, progress): &(String, watch::Receiver<Progress>)| {
        let troubles = progress.borrow().troubles();
        troubles.into_iter().map(|trouble| format!("{stage}: {trouble}")).collect::<Vec<_>>()
    };
    watched.iter().flat_map(of).collect()
}

/// Whether the database answers and has the tables that we need.
async fn answers(db: Database) -> Result<(), String> {
    let migrations = migrations::status(&db).await.map_err(|error| error.to_string())?;
    match migrations.iter().all(|migration| migration.applied) {
        true => Ok(()),
        false => Err("the database lacks migrations; run `orderflow db migrate`".to_owned()),
    }
}

/// Whether the registry answers at all: it needn't know the subject.
async fn reach(codec: &Codec) -> Result<(), RegistryError> {
    match codec.registry().versions("orderflow-is-the-registry-there").await {
        Ok(_) | Err(RegistryError::Unknown(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn fault(error: RunError) -> Fault {
    let exit = match &error {
        RunError::Unavailable { .. } => Exit::Unavailable,
        RunError::Settings(_) | RunError::PartitionCounts { .. } | RunError::Spec { .. } => {
            Exit::Configuration
        }
        RunError::TopicMissing { .. } => Exit::Failures,
        RunError::Thread(_) | RunError::Internal { .. } => Exit::Internal,
    };
    Fault::new(exit, error.to_string())
}
