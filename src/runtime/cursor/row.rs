//! What is stored of a cursor, and what others may ask of one.

use std::sync::Arc;

use super::backfill::{Backfill, Running};

/// A cursor as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorRow {
    /// The target that is served from here.
    pub target: Arc<str>,
    /// The target's offsets below are finished.
    pub next: i64,
    /// What is finished above `next`: the text form of completed runs with `next` as their base.
    pub done: String,
    /// The live stream owns the offsets from here on; `None` leaves it nothing.
    pub until: Option<i64>,
    /// Whether it is read.
    pub state: CursorState,
    /// While a backfill runs: the `next` that its cancel restores.
    pub resume: Option<i64>,
    /// That backfill.
    pub backfill: Option<Running>,
    /// Places of the target in the retry partition that are complete whatever its position says, as runs: first, behind the last.
    pub places: Vec<(i64, i64)>,
}

/// Whether a cursor is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorState {
    /// It is caught up by the partition's owner.
    Detached,
    /// It waits, without a reader, in these words.
    Held(Arc<str>),
    /// The live stream has the target again; what is left below `until` ends.
    Attached,
}

impl CursorState {
    /// The name in the store and in listings.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Held(_) => "held",
            Self::Attached => "attached",
        }
    }

    /// The state called `name`; `why` goes with a held one. An unknown name is read as detached: then it is caught up.
    pub fn parse(name: &str, why: Option<&str>) -> Self {
        match name {
            "held" => Self::Held(why.unwrap_or_default().into()),
            "attached" => Self::Attached,
            _ => Self::Detached,
        }
    }
}

/// What others ask of a target's cursor on one partition; the partition's owner carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Deliver a stretch again.
    Backfill(Backfill),
    /// Stop the backfill of this name.
    CancelBackfill(Arc<str>),
}

/// Offsets that a target never got: they had left the log before its cursor was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The target.
    pub target: Arc<str>,
    /// The first offset that is missing.
    pub from: i64,
    /// The offset behind the last that is missing.
    pub to: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_from_their_names() {
        for state in [CursorState::Detached, CursorState::Held("paused".into()), CursorState::Attached] {
            let why = if let CursorState::Held(why) = &state { Some(&**why) } else { None };
            assert_eq!(CursorState::parse(state.as_str(), why), state);
        }
    }
}
