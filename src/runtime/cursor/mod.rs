//! Targets that can't keep up, served from a position of their own while the live stream goes on without them.
//!
//! ```text
//!             detach: store {next, done, until = ∞}          attach: store until = L
//!   live ─────────────────────────────► detached ─────────────────────────────► attached ──► gone
//!                                        │    ▲   the reader dispatches          (next ≥ until and
//!                                   hold │    │   [next, L) into the same         committed ≥ until)
//!                                        ▼    │   lanes
//!                                        held (no reader)
//! ```
//!
//! A cursor says of one target on one partition: offsets below `next` are finished, `[next, until)` is the
//! cursor's, the live stream owns the rest. It is stored before any record that it covers completes (invariant
//! 1), by compare-and-set on the epoch under which the partition's owner claimed all its cursors. Owners claim
//! before they mark the retry partition: what a row calls finished because it was parked, was parked before the
//! marker and is valid.
//!
//! - `state`: one cursor; `table`: all cursors of a partition, and who may be read next. Pure.
//! - `backfill`: a stretch that a target gets once more: `next` goes back, `resume` says to where it was.
//! - `retired`: what rows say of the retry partition, ahead of its position.
//! - `row`, `store`: what is stored, and the port to it; `memory` is the port without a database.
//!
//! What must not live here: lanes, jobs, Kafka.

mod backfill;
mod finished;
mod memory;
mod retired;
mod row;
mod state;
mod store;
mod table;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod suite;

pub use backfill::{Backfill, BackfillProgress, BackfillState, Running};
pub use memory::MemoryCursors;
pub use row::{CursorRow, CursorState, Gap, Wish};
pub(crate) use state::Detached;
pub use store::{Claimed, CursorStore, CursorWish, CursorWrite, Past, StoreAnswer};
pub(crate) use table::{Cursors, Live};
