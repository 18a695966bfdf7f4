//! Retries that keep order: when to try again, and how parked work is written into a record.
//!
//! Pure: times and seeds come in as arguments.

mod schedule;

pub use schedule::Schedule;
