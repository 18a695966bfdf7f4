//! What the program tells about itself: metrics and logs.
//!
//! [`Metrics`] is the table of every series there is; [`logs`] sets up structured logging. Nothing here
//! knows what an order is.

mod durations;
pub mod logs;
mod metrics;

pub use durations::{DurationSeries, Durations, Seconds};
pub use metrics::Metrics;
