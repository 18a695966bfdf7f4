//! The declared topology and the broker's, compared and brought together.
//!
//! ```text
//! topology/ ──► Topology ──┐
//!                          ├─► plan ──► apply ──► plan again: nothing left
//! broker ──► Observed ─────┘
//! ```
//!
//! [`plan`] is pure. [`Broker`] observes and applies. Nothing is deleted unless the plan was made with leave
//! to delete, and a topic never changes its number of partitions: keys would move to other partitions while
//! work of theirs is waiting.

mod broker;
mod graph;
mod plan;
#[cfg(test)]
mod tests;

pub use broker::{AdminError, Broker};
pub use graph::{dot, mermaid};
pub use plan::{Change, Observed, ObservedTopic, Plan, SettingChange, plan};
