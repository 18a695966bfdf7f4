//! What the program is told from outside, resolved before anything starts.
//!
//! Three layers, the later one winning key by key: `default.toml` (inside the program), `orderflow.toml`,
//! and `ORDERFLOW_…` variables. A key that nothing reads is an error that names the nearest one. Options of
//! a component live with the component; this module only gathers and reads them, and nothing but `cli`
//! imports it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::crypto::{Secret, Vault};
use crate::event::RegistryOptions;
use crate::http::HttpOptions;
use crate::http::inbound::{InboundOptions, Senders};
use crate::http::live::LiveOptions;
use crate::outbox::RelayOptions;
use crate::runtime::{KafkaOptions, RuntimeOptions};
use crate::stages::delivery::email::SmtpOptions;
use crate::stages::dispute::DisputeOptions;
use crate::stages::notification::NotificationOptions;
use crate::stages::webhook::WebhookOptions;
use crate::store::StoreOptions;
use crate::telemetry::logs::LogOptions;
use crate::topology::{self, Topology};

mod bounds;
mod load;
mod secrets;
mod show;
#[cfg(test)]
mod tests;

pub use load::{DEFAULT_FILE, Loaded, load};
pub use show::{Setting, settings};

/// The defaults and their explanation, as the program carries them.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Why the configuration can't be used: one sentence that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Every section, in the order of `default.toml`.
const SECTIONS: &[&str] = &[
    "kafka",
    "registry",
    "store",
    "topology",
    "runtime",
    "webhook",
    "notification",
    "dispute",
    "smtp",
    "outbox",
    "http",
    "live",
    "inbound",
    "start",
    "log",
];

/// The shortest secret that tokens may be signed with: shorter ones can be guessed (RFC 7518, 3.2).
const SHORTEST_JWT_SECRET: usize = 32;

/// Everything the program is told from outside.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How to reach Kafka.
    pub kafka: KafkaOptions,
    /// How to reach the schema registry.
    pub registry: RegistryOptions,
    /// How to reach the database, and what seals what is secret in it.
    pub store: StoreOptions,
    /// Which topology applies.
    pub topology: TopologySection,
    /// Bounds and times of the engine.
    pub runtime: RuntimeOptions,
    /// How partners are told.
    pub webhook: WebhookOptions,
    /// What people are told with.
    pub notification: NotificationOptions,
    /// Who may be given a dispute.
    pub dispute: DisputeOptions,
    /// The mail server.
    pub smtp: SmtpOptions,
    /// How the outbox is published.
    pub outbox: RelayOptions,
    /// The HTTP API.
    pub http: HttpOptions,
    /// The live socket.
    pub live: LiveOptions,
    /// Who may send us webhooks.
    pub inbound: InboundOptions,
    /// What happens while services that are needed aren't there yet.
    pub start: StartSection,
    /// Logs.
    pub log: LogOptions,
}

impl std::fmt::Debug for Config {
    /// Names nothing: properties of the Kafka client may hold passwords. `config show` is the way to look.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").finish_non_exhaustive()
    }
}

/// Which topology applies (`[topology]`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopologySection {
    /// A file instead of the built-in topology.
    pub file: Option<PathBuf>,
    /// Files laid over it, the later one winning.
    pub overlays: Vec<PathBuf>,
    /// What every topic and group name begins with.
    pub topic_prefix: Option<String>,
}

/// What happens at start (`[start]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartSection {
    /// How long Kafka, the registry and the database are waited for.
    #[serde(with = "humantime_serde")]
    pub wait_for_services: Duration,
    /// Whether the database's schema is brought up to date first. Safe with several programs at once.
    pub migrate: bool,
}

impl Default for StartSection {
    fn default() -> Self {
        Self { wait_for_services: Duration::from_secs(600), migrate: true }
    }
}

impl TopologySection {
    /// Reads the files and resolves the topology.
    ///
    /// # Errors
    /// When a file can't be read or the topology is wrong.
    pub fn load(&self) -> Result<Topology, ConfigError> {
        let mut texts = vec![match &self.file {
            Some(path) => read_layer(path, "topology.file")?,
            None => ("the built-in topology".to_owned(), topology::BUILT_IN.to_owned()),
        }];
        for path in &self.overlays {
            texts.push(read_layer(path, "topology.overlays")?);
        }
        if let Some(prefix) = &self.topic_prefix {
            texts.push((
                "topology.topic_prefix".to_owned(),
                format!("topic_prefix: {}", serde_json::json!(prefix)),
            ));
        }
        let layers: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Topology::from_yaml(&layers).map_err(|error| ConfigError(error.to_string()))
    }
}

fn read_layer(path: &Path, key: &str) -> Result<(String, String), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError(format!("the topology file {}, named by {key}, can't be read: {error}", path.display()))
    })?;
    Ok((format!("the file {}", path.display()), text))
}

impl Config {
    /// What must hold whatever the command is.
    fn check(&self) -> Result<(), ConfigError> {
        bounds::check(self)?;
        if let Some(secret) = &self.http.jwt_secret {
            refuse_known(secret, "http.jwt_secret", "openssl rand -base64 48")?;
            if secret.expose().len() < SHORTEST_JWT_SECRET {
                return Err(ConfigError(format!(
                    "http.jwt_secret has fewer than {SHORTEST_JWT_SECRET} characters and could be guessed; make one with: openssl rand -base64 48"
                )));
            }
        }
        for (name, source) in &self.inbound.sources {
            for secret in &source.secrets {
                let key = format!("inbound.sources.{name}.secrets");
                refuse_known(secret, &key, "echo whsec_$(openssl rand -base64 32)")?;
            }
        }
        Senders::new(&self.inbound).map_err(|error| ConfigError(error.to_string()))?;
        if let Some(key) = &self.store.encryption_key {
            refuse_known(key, "store.encryption_key", "openssl rand -base64 32")?;
            Vault::from_base64(key).map_err(|error| ConfigError(format!("store.encryption_key: {error}")))?;
        }
        Ok(())
    }

    /// What opens and seals secrets and personal data.
    ///
    /// # Errors
    /// When no key is set.
    pub fn vault(&self) -> Result<Vault, ConfigError> {
        let Some(key) = &self.store.encryption_key else {
            return Err(ConfigError(
                "store.encryption_key is not set: personal data and webhook secrets are stored sealed; make a key with \
                 `openssl rand -base64 32` and set ORDERFLOW_STORE__ENCRYPTION_KEY or store.encryption_key_file"
                    .to_owned(),
            ));
        };
        Vault::from_base64(key).map_err(|error| ConfigError(format!("store.encryption_key: {error}")))
    }
}

fn refuse_known(secret: &Secret<String>, key: &str, make: &str) -> Result<(), ConfigError> {
    if secrets::is_known_to_all(secret.expose()) {
        return Err(ConfigError(format!(
            "{key} is a demo secret that everybody knows; make one with `{make}` (only `orderflow demo` runs with it)"
        )));
    }
    Ok(())
}
