//! How work ends: the closed list of outcomes, each of which says what becomes of the offset.
//!
//! Matched without `_` everywhere, so that a new ending can't be forgotten anywhere.

use std::fmt;
use std::time::Duration;

/// How one task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The effect took place: the task counts as complete.
    Done,
    /// There was nothing to do, for this reason: complete.
    Skipped(SkipReason),
    /// Not now: tried again after `after`, in place or parked in the retry topic; its lane waits for it.
    Retry {
        /// How long to wait before the next attempt.
        after: Duration,
        /// What went wrong.
        why: Failure,
    },
    /// It failed because its target can't be reached by anybody: doesn't count as an attempt. The task stays the first of
    /// its lane, or is its cursor's again, until the stage lets the target start more.
    Postponed(Failure),
    /// Never: complete once the dead-letter topic has acknowledged it.
    Dead(Failure),
    /// Covered by a stored cursor, which took it over: complete.
    Handed(CursorId),
    /// Going on would do harm: the partition stops by name and the offset stays.
    Fatal(Failure),
}

/// What reading a record (or opening its tasks) gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake<T> {
    /// The result.
    Ready(T),
    /// Nothing of this record concerns the stage: complete.
    Skipped(SkipReason),
    /// The record's own fault, for ever: dead-lettered.
    Dead(Failure),
    /// Perhaps the record's own fault: tried again a few times, then dead-lettered with that class.
    Retry(Failure),
    /// Something the record needs is away: its partition waits with backoff, and nothing is dead-lettered.
    Unavailable(Failure),
}

/// Why there was nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    /// The record has no value.
    Tombstone,
    /// The record's type is not one that we know.
    UnknownType,
    /// The stage, or every target, doesn't take records of this type.
    Filtered,
    /// The stage doesn't take records of this tenant.
    Tenant,
    /// A condition of the stage doesn't hold for the record.
    Condition,
    /// The same event was handled before.
    Duplicate,
    /// The target was deleted.
    TargetGone,
    /// An operator said so.
    Operator,
}

impl SkipReason {
    /// Every reason, for initialising metrics.
    pub const ALL: [Self; 8] = [
        Self::Tombstone,
        Self::UnknownType,
        Self::Filtered,
        Self::Tenant,
        Self::Condition,
        Self::Duplicate,
        Self::TargetGone,
        Self::Operator,
    ];

    /// The name used in logs, metrics and stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::UnknownType => "unknown_type",
            Self::Filtered => "filtered",
            Self::Tenant => "tenant",
            Self::Condition => "condition",
            Self::Duplicate => "duplicate",
            Self::TargetGone => "target_gone",
            Self::Operator => "operator",
        }
    }
}

/// What went wrong, and of which kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind, for `of-error-class`, metrics and redrive by cause.
    pub class: ErrorClass,
    /// One sentence for people; no secrets, no personal data.
    pub message: String,
    /// The number that the other side answered with, where it did: an HTTP status, say.
    pub answered: Option<u16>,
}

impl Failure {
    /// A failure of `class`, told by `message`.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), answered: None }
    }

    /// The same, with the number that the other side answered with.
    #[must_use]
    pub fn with_answer(self, answered: Option<u16>) -> Self {
        Self { answered, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.as_str(), self.message)
    }
}

/// Kinds of failure: the causes by which dead letters are counted and redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The bytes can't be understood.
    Decode,
    /// The registry doesn't know the schema id.
    SchemaUnknown,
    /// The key is missing, not UTF-8, or not the one that the record names.
    Key,
    /// The same event id came before with other bytes.
    Conflict,
    /// Too large for where it has to go.
    TooLarge,
    /// A constraint of the store refused it.
    Data,
    /// The other side refused it for good.
    Rejected,
    /// All attempts were used up.
    Exhausted,
    /// No answer in time.
    Timeout,
    /// A service that is needed is away.
    Unavailable,
    /// A fault of our own, such as a panic in a handler.
    Internal,
}

impl ErrorClass {
    /// Every class, for initialising metrics.
    pub const ALL: [Self; 11] = [
        Self::Decode,
        Self::SchemaUnknown,
        Self::Key,
        Self::Conflict,
        Self::TooLarge,
        Self::Data,
        Self::Rejected,
        Self::Exhausted,
        Self::Timeout,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name used in the header `of-error-class`, logs, metrics and stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::SchemaUnknown => "schema_unknown",
            Self::Key => "key",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Data => "data",
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The class called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// Names a stored cursor: the target that is served from a position of its own, on one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CursorId(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_class_reads_back_from_its_name() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::parse("no_such_class"), None);
    }
}
