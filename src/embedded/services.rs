//! The three services that the program needs, inside the process: Kafka, a schema registry and a database.
//!
//! For `demo` and `run --embedded`. Nothing is kept: the broker holds its records in memory, the database lies
//! in a temporary folder, and both go together, since positions in one are worth nothing without the other.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::broker::{Broker, BrokerError};
use super::registry::EmbeddedRegistry;
use crate::crypto::Secret;
use crate::topology::Topology;

/// Why a service doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The registry gets no port.
    #[error("no port for the embedded registry: {0}")]
    Registry(#[source] io::Error),
    /// The database gets no folder.
    #[error("no temporary folder for the embedded database: {0}")]
    Folder(#[source] io::Error),
}

/// The running services; they end when this is dropped.
#[derive(Debug)]
pub struct Services {
    /// Kafka, with the topology's topics.
    pub broker: Broker,
    /// The registry, empty.
    pub registry: EmbeddedRegistry,
    folder: Folder,
}

impl Services {
    /// Starts them on free loopback ports.
    ///
    /// # Errors
    /// When one doesn't start.
    pub async fn start(topology: &Topology) -> Result<Self, ServicesError> {
        let broker = Broker::start()?;
        for topic in topology.topics() {
            broker.create_topic(&topic.name, topic.partitions)?;
        }
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let registry = EmbeddedRegistry::start(bind).await.map_err(ServicesError::Registry)?;
        Ok(Self { broker, registry, folder: Folder::new().map_err(ServicesError::Folder)? })
    }

    /// The URL of an SQLite database that is empty, and gone at the end.
    pub fn store_url(&self) -> Secret<String> {
        Secret::new(format!("sqlite://{}", self.folder.0.join("orderflow.db").display()))
    }
}

/// A temporary folder that goes with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("orderflow-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a temporary folder couldn't be removed");
        }
    }
}
