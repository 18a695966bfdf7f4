//! The HTTP API and the live socket: who may ask what, and how it is answered.
//!
//! ```text
//! request ──► observe ──► CORS ──► body limit ──► route ──► role ──► idempotency ──► handler
//!   (id, time-out, panic, metrics, problem+json)   router.rs   auth.rs   idempotency.rs    api/
//! ```
//!
//! [`router`] holds every route on one screen, with the roles that may take it. What must not live here:
//! Kafka and stages. What the API needs from them is handed in as [`Parts`] by whoever starts the program.

mod accept;
pub mod api;
pub mod auth;
mod error;
mod extract;
mod health;
mod idempotency;
pub mod inbound;
mod layers;
pub mod live;
mod observe;
mod openapi;
mod operate;
mod options;
pub mod page;
mod parts;
mod publish;
mod router;
mod routes;
mod serve;
pub mod token;

pub use auth::{Auth, AuthSetupError, Caller, Role};
pub use error::{Code, FieldError, Problem};
pub use extract::{Body, PathParams, Query};
pub use health::Signs;
pub use idempotency::IdempotencyKey;
pub use observe::Observed;
pub use operate::{LettersWanted, Operate, RedriveWanted};
pub use options::HttpOptions;
pub use parts::{Check, EventsHealth, Parts, Probe};
pub use publish::{Publish, PublishRefused, Published};
pub use router::router;
pub use serve::{Bound, ServeError};

#[cfg(test)]
mod tests;
