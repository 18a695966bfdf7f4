//! Reads a stretch of the source for cursors: from the log, and what has left it from where it is kept.

use super::log_reader::LogReader;
use crate::runtime::cursor::CursorStore;
use crate::runtime::outcome::Failure;
use crate::runtime::record::{Record, SourcePartition};

/// What was read.
#[derive(Debug)]
pub(super) struct Stretch {
    /// The records, in order.
    pub(super) records: Vec<Record>,
    /// The offset behind what was read, whether there were records or not.
    pub(super) next: i64,
    /// Records that are nowhere: the first offset, and the one behind the last.
    pub(super) gap: Option<(i64, i64)>,
}

/// Reads from `from` on and below `to`, as much as comes at once.
///
/// # Errors
/// When Kafka or the store is away.
pub(super) async fn read(
    reader: &LogReader,
    store: &dyn CursorStore,
    at: &SourcePartition,
    (from, to): (i64, i64),
) -> Result<Stretch, Failure> {
    let chunk = reader.chunk(from, to).await?;
    let Some(low) = chunk.low else {
        return Ok(Stretch { records: chunk.records, next: chunk.next, gap: None });
    };
    let past = store.past(at, from, low.min(to)).await?;
    Ok(Stretch { records: past.records, next: past.next, gap: past.gap })
}
