//! Retries that keep order: when to try again, and how parked work is written into a record.
//!
//! Pure: times and seeds come in as arguments. Which task is parked when is decided in `lanes`.

mod glimpse;
mod mark;
mod schedule;
mod tenure;

pub use mark::{Mark, MarkError, REDRIVE_ID, RESEND, SourceOf, TaskOf};
pub use schedule::Schedule;
pub use tenure::{Epoch, EpochError};

pub(crate) use glimpse::Glimpse;
pub(crate) use mark::{REDRIVE_COUNT, is_put_back, marker, marker_of, renewed};
pub(crate) use tenure::{Marked, Tenure};
