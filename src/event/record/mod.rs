//! The records as plain structs, one file per family.
//!
//! Each struct equals one file under `schemas/`, which is the source: same fields, same order, same optionality
//! (a nullable field is an `Option`). `Default` exists so that a struct can be made from the fields that matter
//! (`..Default::default()`); the typed constructors of [`Factory`](super::Factory) ask for what is required.

mod dispute;
mod internal;
mod job;
mod meta;
mod order;
mod parts;
mod payment;
mod shipment;
mod user;

pub use dispute::*;
pub use internal::*;
pub use job::*;
pub use meta::*;
pub use order::*;
pub use parts::*;
pub use payment::*;
pub use shipment::*;
pub use user::*;
