//! What operators do, and what the command line and the HTTP API do on their behalf.
//!
//! [`topology`] compares the declared topics with a broker and creates what is missing; [`schemas`] does the same
//! with the registry; [`publish`] is the one way by which this program puts events on a topic; [`webhooks`] registers endpoints;
//! [`stages`] pauses and resumes;
//! [`dead_letters`] lists and redrives; [`lanes`] shows what waits; [`lag`] says how far groups are behind; [`replay`] moves
//! a stage back. [`Operations`] opens a stage for all of them. Whatever changes a running system names its [`Operator`], for the audit. What must not live
//! here: how a command is typed or how a result is printed.

pub mod dead_letters;
pub mod lag;
pub mod lanes;
mod operations;
mod operator;
mod orders;
mod pending;
pub mod publish;
pub mod replay;
pub mod schemas;
pub mod stages;
pub mod topology;
pub mod webhooks;

pub use operations::{OfStage, OperationError, Operations};
pub use operator::{Audited, Operator, audit};
pub use orders::Answered;
pub use pending::{Pending, PendingWanted};
