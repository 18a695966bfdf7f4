//! Levels of compatibility: which versions a new one is compared with, and in which direction.

use std::str::FromStr;

use serde::Serialize;

/// What a new version of a subject must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Level {
    /// Nothing.
    None,
    /// Read what the last version wrote.
    Backward,
    /// Read what every version wrote: our rule, and the default.
    #[default]
    BackwardTransitive,
    /// Be read by the last version.
    Forward,
    /// Be read by every version.
    ForwardTransitive,
    /// Both, with the last version.
    Full,
    /// Both, with every version.
    FullTransitive,
}

/// A name that no level has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSuchLevel;

impl FromStr for Level {
    type Err = NoSuchLevel;

    fn from_str(name: &str) -> Result<Level, NoSuchLevel> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "NONE" => Level::None,
            "BACKWARD" => Level::Backward,
            "BACKWARD_TRANSITIVE" => Level::BackwardTransitive,
            "FORWARD" => Level::Forward,
            "FORWARD_TRANSITIVE" => Level::ForwardTransitive,
            "FULL" => Level::Full,
            "FULL_TRANSITIVE" => Level::FullTransitive,
            _ => return Err(NoSuchLevel),
        })
    }
}

impl Level {
    /// Whether a new version must read what older ones wrote.
    pub(super) fn reads_older(self) -> bool {
        matches!(self, Level::Backward | Level::BackwardTransitive | Level::Full | Level::FullTransitive)
    }

    /// Whether older versions must read what a new one writes.
    pub(super) fn is_read_by_older(self) -> bool {
        matches!(self, Level::Forward | Level::ForwardTransitive | Level::Full | Level::FullTransitive)
    }

    /// Whether every version is compared, not only the last.
    pub(super) fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }
}
