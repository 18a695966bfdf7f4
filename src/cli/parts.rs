//! The parts that several commands make from the configuration.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

use super::exit::Fault;
use crate::admin::Operations;
use crate::admin::publish::Publisher;
use crate::admin::topology::Broker;
use crate::admin::webhooks::Rules;
use crate::clock::Clock;
use crate::config::Config;
use crate::event::Codec;
use crate::runtime::{Producer, Role};
use crate::stages::webhook;
use crate::store::Database;
use crate::telemetry::Metrics;
use crate::topology::Topology;

/// The codec over the configured registry.
pub(super) fn codec(config: &Config) -> Result<Codec, Fault> {
    Codec::new(&config.registry).map_err(|error| Fault::configuration(format!("registry.url: {error}")))
}

/// The producer over the configured broker; it connects in the background.
pub(super) fn producer(config: &Config) -> Result<Producer, Fault> {
    Producer::new(&config.kafka).map_err(|error| Fault::configuration(format!("[kafka]: {error}")))
}

/// The running system as an operator reaches it.
pub(super) fn operations(config: &Config) -> Result<Operations, Fault> {
    let (db, topology) = (database(config)?, Arc::new(config.topology.load()?));
    Ok(Operations::new(config.kafka.clone(), db, Clock::system(), topology, producer(config)?))
}

/// The configured database; it connects when it is first used.
pub(super) fn database(config: &Config) -> Result<Database, Fault> {
    Database::open(&config.store).map_err(|error| Fault::configuration(format!("store.url: {error}")))
}

/// What holds for registrations of webhooks.
pub(super) fn webhook_rules(config: &Config, topology: &Topology) -> Rules {
    let options = &config.webhook;
    Rules {
        allow_http: options.allow_http,
        timeout: options.timeout,
        endpoints_per_tenant: options.endpoints_per_tenant,
        refresh: options.refresh,
        deliverable: webhook::deliverable(topology),
        policy: webhook::policy(topology),
    }
}

/// Whether the client takes the settings of a stage's member; nothing is sent.
pub(super) fn check_members(config: &Config) -> Result<(), Fault> {
    let member =
        config.kafka.client_config(Role::Member { group: "check", stage: "check", gather: Duration::ZERO });
    match member.create::<BaseConsumer>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::configuration(format!("[kafka] can't be used: {error}"))),
    }
}

/// A publisher for a command: it is known that the broker answers and has the declared topics, so that what
/// is missing is told at once and not after the producer's patience.
pub(super) async fn publisher(config: &Config, topology: Topology) -> Result<Publisher, Fault> {
    let missing = Broker::new(&config.kafka)?.missing(&topology).await?;
    if let Some(topic) = missing.first() {
        return Err(Fault::failures(format!(
            "topic {topic} does not exist on {}; create it with `orderflow topology apply`",
            config.kafka.bootstrap_servers
        )));
    }
    Ok(Publisher::new(codec(config)?, producer(config)?, Arc::new(topology), Metrics::new()))
}
