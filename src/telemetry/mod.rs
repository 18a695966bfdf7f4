//! What the program tells about itself: metrics and logs.
//!
//! [`Metrics`] is the table of every series there is; [`logs`] sets up structured logging. Nothing here
//! knows what an order is.

pub mod logs;
mod metrics;

pub use metrics::Metrics;
