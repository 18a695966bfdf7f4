//! Retries that keep order: when to try again, and how parked work is written into a record.
//!
//! Pure: times and seeds come in as arguments. Which task is parked when is decided in `lanes`.

mod mark;
mod schedule;

pub use mark::{Mark, MarkError, SourceOf, TaskOf};
pub use schedule::Schedule;
