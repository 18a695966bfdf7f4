//! Events: what happened to an order, as types, as JSON and as bytes.
//!
//! An event is one Avro record of `schemas/`, and every record begins with an [`EventMeta`]. The files are the
//! source; the structs equal them, and tests hold the two together. Read in this order:
//!
//! - [`EventType`] and [`Event`] (`table.rs`): the closed list of what can happen, from one table.
//! - The records (`record/`), one file per family: orders, payments, shipments, disputes, users, jobs, and the
//!   records of our own topics.
//! - How a type may be spelled (`name.rs`), how several are named at once (`pattern.rs`), and how a time is (`time.rs`).
//! - [`BodyFilter`] (`filter.rs`): which JSON bodies somebody wants.
//! - [`Factory`] (`factory.rs`): one typed constructor per event.
//! - The JSON form, strict both ways, and masked (`json.rs`, `mask.rs`, along `shape.rs`).
//! - [`event_id_or_coordinates`], [`effect_id`] (`identity.rs`): names that survive crash and replay.
//! - [`headers`], [`TraceParent`] (`trace.rs`): what travels beside the record.
//! - [`RecordSchema`] (`schema.rs`): the one canonical text per record, and the subject it is registered under.
//! - [`compatibility`]: whether a schema reads what another has written.
//! - [`Codec`] (`codec.rs`) and [`Registry`] (`registry.rs`): bytes on the wire, and whose schema they follow.
//! - [`sample`] (`sample.rs`) and [`golden`]: examples, and the ones whose bytes never change.
//!
//! This module knows nothing of Kafka, of stores, or of what anyone does because of an event.

mod codec;
pub mod compatibility;
mod condition;
mod factory;
mod filter;
pub mod golden;
mod identity;
mod json;
mod mask;
mod name;
mod pattern;
mod record;
mod registry;
mod sample;
mod schema;
mod shape;
mod table;
mod time;
mod trace;

pub use codec::{Codec, DecodeError, Decoded, EncodeError, Peeked};
pub use condition::Condition;
pub use factory::{Factory, random_event_id};
pub use filter::{BodyFilter, FilterError};
pub use identity::{effect_id, event_id_for_key, event_id_for_message, event_id_or_coordinates};
pub use json::{Defaults, FieldError, FieldErrors, record_to_json};
pub use mask::card_numbers;
pub use name::UnknownEventType;
pub use pattern::{EventPattern, PatternError};
pub use record::*;
pub use registry::{RegisteredVersion, Registry, RegistryError, RegistryOptions};
pub use sample::{Fill, sample};
pub use schema::{AvroRecord, RecordSchema, internal, published};
pub use table::{Event, EventRecord, EventType};
pub use time::{epoch_ms, rfc3339};
pub use trace::{NotATraceParent, TraceParent, headers};
