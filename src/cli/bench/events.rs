//! The event that is decoded and encoded: the sample nearest to 164 bytes on the wire, and a codec that knows it.
//!
//! The registry is the embedded one, so that a bench of bytes needs nothing from outside. It numbers schemas from
//! the start, so what one process wrote another reads.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cli::exit::Fault;
use crate::embedded::registry::EmbeddedRegistry;
use crate::event::{Codec, Event, EventType, Fill, RegistryOptions, sample};

/// The topic under whose subjects the schema is registered.
const TOPIC: &str = "orderflow-bench";

/// A codec that has seen the event's schema, the event, and its bytes.
pub(super) struct Sample {
    pub(super) codec: Codec,
    pub(super) event: Event,
    pub(super) payload: Vec<u8>,
    _registry: EmbeddedRegistry,
}

impl Sample {
    /// Starts a registry, registers the schema, writes the event once and reads it back.
    pub(super) async fn new() -> Result<Self, Fault> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let registry = EmbeddedRegistry::start(address)
            .await
            .map_err(|error| Fault::internal(format!("the registry can't listen: {error}")))?;
        let options =
            RegistryOptions { url: registry.url().to_owned(), auto_register: true, ..Default::default() };
        let codec = Codec::new(&options)?;
        let event = sample(EventType::OrderStatusChanged, Fill::Least);
        let payload = encode(&codec, &event).await?;
        codec.decode(&payload).await.map_err(|error| Fault::internal(error.to_string()))?;
        Ok(Self { codec, event, payload, _registry: registry })
    }

    /// Writes the event.
    pub(super) async fn encode(&self) -> Result<Vec<u8>, Fault> {
        encode(&self.codec, &self.event).await
    }
}

async fn encode(codec: &Codec, event: &Event) -> Result<Vec<u8>, Fault> {
    codec.encode(TOPIC, event).await.map_err(|error| Fault::internal(error.to_string()))
}
