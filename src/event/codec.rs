//! Events and our own records as bytes: Confluent's wire format (magic byte 0, schema id in four bytes, Avro).
//!
//! Reading goes by the schema id, so any subject strategy and any producer will do. If the writer's schema
//! describes the same bytes as ours, they are read straight into the struct (`read`); otherwise Avro's library reads them
//! as a tree by the writer's schema and resolves it to ours (Avro's schema resolution: missing fields get their defaults, unknown
//! ones go, integers are widened, unknown symbols become `unknown`). Everything that bytes can do wrong is a
//! [`DecodeError`] that says what becomes of the record; nothing panics.
//!
//! Writing (`write`) looks up the id of our canonical text under `<topic>-<record's full name>`.

use std::sync::Arc;

use super::registry::writer::WriterSchema;
use super::registry::{Registry, RegistryError, RegistryOptions};
use super::schema::{AvroRecord, RecordSchema};
use super::table::{RecordMaker, RecordVisitor};
use super::{Event, EventType};

mod body;
mod read;
mod write;

/// A text in a record has at most this many bytes, whatever its length says; so has what Avro's library reads at once.
const MAX_ALLOCATION_BYTES: usize = 64 * 1024 * 1024;

/// Magic byte and schema id.
const PREFIX_BYTES: usize = 5;

/// Why a payload is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not begin with the magic byte 0. The record is a dead letter.
    #[error("the payload does not begin with magic byte 0 and a schema id")]
    NotFramed,
    /// It ends too early. The record is a dead letter.
    #[error("the payload ends in the middle of the record")]
    Truncated,
    /// Something is left after the record. The record is a dead letter.
    #[error("{0} bytes are left after the record")]
    TrailingBytes(usize),
    /// The bytes don't fit the schema, or the schema is of no use. The record is a dead letter.
    #[error("the payload is not valid: {0}")]
    Invalid(String),
    /// The registry has no schema with this id. Worth a few tries: it may be behind.
    #[error("the schema registry does not know schema id {id}")]
    SchemaUnknown {
        /// The id in the frame.
        id: i32,
    },
    /// The registry can't say. The partition waits.
    #[error("{0}")]
    RegistryUnavailable(String),
}

/// Why an event could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The schema is not registered for the topic.
    #[error("the schema is not registered under subject `{subject}`; run `orderflow schemas register`")]
    NotRegistered {
        /// The subject it should be under.
        subject: String,
    },
    /// The registry does not take the schema.
    #[error("{0}")]
    Refused(String),
    /// The registry can't say; another try may succeed.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The values don't fit the schema.
    #[error("the record does not fit its schema: {0}")]
    Invalid(String),
}

/// What a payload turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An event.
    Event {
        /// The event.
        event: Event,
        /// The id in the frame.
        schema_id: i32,
        /// The version that the writer's schema states, if it states one.
        writer_version: Option<i32>,
    },
    /// A record of a type that this version doesn't know: to be skipped and counted.
    UnknownType {
        /// The record's full name.
        record: String,
        /// The id in the frame.
        schema_id: i32,
    },
}

/// What a payload is, told by its schema id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peeked {
    /// An event of this type.
    Event(EventType),
    /// A record of a type that this version doesn't know, by its full name.
    Unknown(String),
}

/// Reads and writes events. Clones share one cache.
#[derive(Debug, Clone)]
pub struct Codec {
    registry: Registry,
}

impl Codec {
    /// A codec for the registry that the options name; nothing is asked yet.
    pub fn new(registry: &RegistryOptions) -> Result<Codec, RegistryError> {
        apache_avro::util::max_allocation_bytes(MAX_ALLOCATION_BYTES);
        Ok(Codec { registry: Registry::new(registry)? })
    }

    /// The registry's client.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What the payload is, if its schema id is known already; its body isn't looked at.
    pub fn peek(&self, payload: &[u8]) -> Option<Peeked> {
        let (id, _) = unframe(payload).ok()?;
        let writer = self.registry.known_writer(id)?;
        Some(writer.event_type.map_or_else(|| Peeked::Unknown(writer.full_name.clone()), Peeked::Event))
    }

    /// What the payload is, asking the registry for its schema if need be; its body isn't looked at.
    pub async fn identify(&self, payload: &[u8]) -> Result<Peeked, DecodeError> {
        let (id, _) = unframe(payload)?;
        let writer = self.writer(id).await?;
        Ok(writer.event_type.map_or_else(|| Peeked::Unknown(writer.full_name.clone()), Peeked::Event))
    }

    /// Reads an event.
    pub async fn decode(&self, payload: &[u8]) -> Result<Decoded, DecodeError> {
        let (id, body) = unframe(payload)?;
        decoded(&*self.writer(id).await?, id, body)
    }

    /// Reads an event unless its type, which is known before its body is looked at, isn't `wanted`.
    pub async fn decode_if(
        &self,
        payload: &[u8],
        wanted: impl FnOnce(EventType) -> bool,
    ) -> Result<Option<Decoded>, DecodeError> {
        let (id, body) = unframe(payload)?;
        let writer = self.writer(id).await?;
        if writer.event_type.is_some_and(|event_type| !wanted(event_type)) {
            return Ok(None);
        }
        decoded(&writer, id, body).map(Some)
    }

    /// Reads a record of one of our own topics.
    pub async fn decode_record<R: AvroRecord>(&self, payload: &[u8]) -> Result<R, DecodeError> {
        let (id, body) = unframe(payload)?;
        let writer = self.writer(id).await?;
        let expected = R::schema().full_name();
        if writer.full_name != expected {
            let found: String = writer.full_name.chars().take(100).collect();
            return Err(DecodeError::Invalid(format!("it is a {found}, not a {expected}")));
        }
        body::read(&writer, body)
    }

    /// The wire form of an event for `topic`.
    pub async fn encode(&self, topic: &str, event: &Event) -> Result<Vec<u8>, EncodeError> {
        let id = self.id_of(topic, event.event_type().schema()).await?;
        write_frame(id, event)
    }

    /// The wire form of a record for one of our own topics.
    pub async fn encode_record<R: AvroRecord>(
        &self,
        topic: &str,
        record: &R,
    ) -> Result<Vec<u8>, EncodeError> {
        let id = self.id_of(topic, R::schema()).await?;
        Writing { id }.record(record)
    }

    async fn writer(&self, id: u32) -> Result<Arc<WriterSchema>, DecodeError> {
        if let Some(writer) = self.registry.known_writer(id) {
            return Ok(writer);
        }
        self.registry.writer(id).await.map_err(|error| match error {
            RegistryError::Unknown(_) => DecodeError::SchemaUnknown { id: signed(id) },
            RegistryError::Unusable { .. } => DecodeError::Invalid(error.to_string()),
            RegistryError::Refused { .. } | RegistryError::Unavailable { .. } => {
                DecodeError::RegistryUnavailable(error.to_string())
            }
        })
    }

    async fn id_of(&self, topic: &str, schema: &'static RecordSchema) -> Result<u32, EncodeError> {
        self.registry.id_of(topic, schema).await.map_err(|error| match error {
            RegistryError::Unknown(_) => EncodeError::NotRegistered { subject: schema.subject(topic) },
            RegistryError::Refused { .. } | RegistryError::Unusable { .. } => {
                EncodeError::Refused(error.to_string())
            }
            RegistryError::Unavailable { .. } => EncodeError::RegistryUnavailable(error.to_string()),
        })
    }
}

/// What a body is under the schema called `id`, which is `writer`.
fn decoded(writer: &WriterSchema, id: u32, body: &[u8]) -> Result<Decoded, DecodeError> {
    let schema_id = signed(id);
    let Some(event_type) = writer.event_type else {
        return Ok(Decoded::UnknownType { record: writer.full_name.clone(), schema_id });
    };
    let event = read_body(event_type, writer, body)?;
    Ok(Decoded::Event { event, schema_id, writer_version: writer.version })
}

/// Reads a record's body as an event, without asking a registry.
pub(super) fn read_body(
    event_type: EventType,
    writer: &WriterSchema,
    body: &[u8],
) -> Result<Event, DecodeError> {
    Event::build(event_type, Reading { writer, body })
}

/// Writes an event under a schema id, without asking a registry.
pub(super) fn write_frame(id: u32, event: &Event) -> Result<Vec<u8>, EncodeError> {
    event.visit(Writing { id })
}

/// Splits a payload into schema id and body.
pub(super) fn unframe(payload: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match payload.split_first_chunk::<PREFIX_BYTES>() {
        Some(([0, id @ ..], body)) => Ok((u32::from_be_bytes(*id), body)),
        None if payload.first() == Some(&0) => Err(DecodeError::Truncated),
        Some(_) | None => Err(DecodeError::NotFramed),
    }
}

/// Ids are signed where they are stored and shown; registries count from 1.
fn signed(id: u32) -> i32 {
    id.cast_signed()
}

struct Reading<'a> {
    writer: &'a WriterSchema,
    body: &'a [u8],
}

impl RecordMaker for Reading<'_> {
    type Error = DecodeError;

    fn record<R: AvroRecord>(self) -> Result<R, DecodeError> {
        body::read(self.writer, self.body)
    }
}

struct Writing {
    id: u32,
}

impl RecordVisitor for Writing {
    type Output = Result<Vec<u8>, EncodeError>;

    fn record<R: AvroRecord>(self, record: &R) -> Self::Output {
        let mut payload = Vec::with_capacity(512);
        payload.push(0);
        payload.extend_from_slice(&self.id.to_be_bytes());
        write::write(&mut payload, record).map_err(|misfit| EncodeError::Invalid(misfit.to_string()))?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests;
