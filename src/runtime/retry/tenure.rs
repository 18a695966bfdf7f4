//! Rule 5: who owns a retry partition, and which of its records are void because a zombie wrote them. Pure.
//!
//! Every assignment of a partition is numbered, and the group's coordinator hands the numbers out: the owner commits
//! one that is higher than any before in the *source* position's metadata. Only the true member can (a zombie's commit is
//! refused), so a later assignment always has a higher number, whatever clocks say.
//!
//! ```text
//! Claiming ── commit is there ──► Marking ── own marker was read ──► Held ── a higher marker was read ──► Superseded
//!     ▲                              │
//!     └── a number as high came first┘
//! ```
//!
//! Then the owner appends a *marker* with its [`Epoch`] and reads the partition up to it. What lies before is whole by
//! then; behind it, a record of a lower epoch is void: its writer had lost the partition. The *retry* position's metadata
//! carries the number of the last marker below it, which would otherwise be forgotten with the records before it.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// Names one assignment of one partition; text: `<incarnation>.<generation>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// The engine that it was given to; tells apart, orders nothing.
    pub incarnation: u64,
    /// Higher for every later assignment of the partition.
    pub generation: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.generation)
    }
}

/// A text that is no epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is two numbers with a full stop between them")]
pub struct EpochError;

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let (incarnation, generation) = text.split_once('.').ok_or(EpochError)?;
        let number = |text: &str| text.parse().map_err(|_| EpochError);
        Ok(Self { incarnation: number(incarnation)?, generation: number(generation)? })
    }
}

/// How far an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The claim is not committed yet.
    Claiming,
    /// The marker is on its way.
    Marking,
    /// The marker was read: what the partition held before is known.
    Held,
    /// Somebody came later.
    Superseded,
}

/// What a marker that was read means to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// Nothing: it is a former owner's, or our own once more.
    Passed,
    /// It is ours: the partition may be worked on.
    Ours,
    /// It is ours, but one as high came before it: claim again.
    Again,
    /// A later owner's: stop.
    Superseded,
}

/// The hold of one assignment on its retry partition.
#[derive(Debug)]
pub(crate) struct Tenure {
    own: Epoch,
    standing: Standing,
    /// The highest marked so far; the incarnation is unknown when it lies below the position.
    highest: (u64, Option<u64>),
    /// Markers above the retry position that raised the highest: offset and generation.
    above: VecDeque<(i64, u64)>,
    /// The generation of the last marker below the retry position.
    below: u64,
}

impl Tenure {
    /// Begins to claim. `claimed` is the highest number that was ever committed, `marked` the last marker below the
    /// retry position.
    pub(crate) fn new(incarnation: u64, claimed: u64, marked: u64) -> Self {
        Self {
            own: Epoch { incarnation, generation: claimed.max(marked).saturating_add(1) },
            standing: Standing::Claiming,
            highest: (marked, None),
            above: VecDeque::new(),
            below: marked,
        }
    }

    /// The epoch to write, and whose generation is committed with the source position.
    pub(crate) fn own(&self) -> Epoch {
        self.own
    }

    /// True until the claim is committed.
    pub(crate) fn is_claiming(&self) -> bool {
        self.standing == Standing::Claiming
    }

    /// True while the partition may be worked on.
    pub(crate) fn is_held(&self) -> bool {
        self.standing == Standing::Held
    }

    /// True when somebody came later: nothing may be committed any more.
    pub(crate) fn is_superseded(&self) -> bool {
        self.standing == Standing::Superseded
    }

    /// The claim is committed: append the marker.
    pub(crate) fn claimed(&mut self) {
        if self.is_claiming() {
            self.standing = Standing::Marking;
        }
    }

    /// Somebody came before with the number `taken`, which isn't lower: claim again, above it. Only the true member can.
    pub(crate) fn outbid(&mut self, taken: u64) {
        if self.standing == Standing::Marking {
            self.own.generation = self.own.generation.max(taken).saturating_add(1);
            self.standing = Standing::Claiming;
        }
    }

    /// A marker was read at `offset`.
    pub(crate) fn on_marker(&mut self, offset: i64, epoch: Epoch) -> Marked {
        let higher = epoch.generation > self.highest.0;
        if higher {
            self.highest = (epoch.generation, Some(epoch.incarnation));
            self.above.push_back((offset, epoch.generation));
        }
        match self.standing {
            Standing::Claiming | Standing::Marking if epoch == self.own && higher => {
                self.standing = Standing::Held;
                Marked::Ours
            }
            Standing::Marking if epoch == self.own => {
                self.outbid(self.highest.0);
                Marked::Again
            }
            Standing::Held if higher => {
                self.standing = Standing::Superseded;
                Marked::Superseded
            }
            Standing::Claiming | Standing::Marking | Standing::Held | Standing::Superseded => Marked::Passed,
        }
    }

    /// True for a record that was read just now and whose writer had lost the partition before.
    pub(crate) fn is_void(&self, epoch: Epoch) -> bool {
        let (generation, incarnation) = self.highest;
        epoch.generation < generation
            || epoch.generation == generation && incarnation.is_some_and(|other| other != epoch.incarnation)
    }

    /// The generation to commit with the retry position `position`: that of the last marker below it.
    pub(crate) fn marked_below(&mut self, position: i64) -> u64 {
        while let Some(&(offset, generation)) = self.above.front()
            && offset < position
        {
            self.above.pop_front();
            self.below = generation;
        }
        self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(incarnation: u64, generation: u64) -> Epoch {
        Epoch { incarnation, generation }
    }

    #[test]
    fn an_epoch_reads_back_from_its_text() {
        assert_eq!("1760.7".parse(), Ok(epoch(1_760, 7)));
        assert_eq!(epoch(1_760, 7).to_string(), "1760.7");
        for text in ["", "7", ".7", "7.", "a.b", "1.2.3"] {
            assert_eq!(text.parse::<Epoch>(), Err(EpochError), "{text}");
        }
    }

    #[test]
    fn what_a_zombie_writes_behind_a_later_marker_is_void() {
        let mut second = Tenure::new(20, 1, 0);
        assert_eq!(second.own(), epoch(20, 2));
        second.claimed();
        assert_eq!(second.on_marker(3, epoch(10, 1)), Marked::Passed);
        assert!(!second.is_void(epoch(10, 1)), "written while the first one owned it");
        assert_eq!(second.on_marker(7, epoch(20, 2)), Marked::Ours);
        assert!(second.is_void(epoch(10, 1)));
        assert!(!second.is_void(epoch(20, 2)));
    }

    #[test]
    fn a_zombies_late_marker_changes_nothing() {
        let mut second = Tenure::new(20, 1, 0);
        second.claimed();
        assert_eq!(second.on_marker(7, epoch(20, 2)), Marked::Ours);
        assert_eq!(second.on_marker(8, epoch(10, 1)), Marked::Passed);
        assert!(!second.is_void(epoch(20, 2)));
    }

    #[test]
    fn a_later_owners_marker_ends_it() {
        let mut first = Tenure::new(10, 0, 0);
        first.claimed();
        assert_eq!(first.on_marker(0, epoch(10, 1)), Marked::Ours);
        assert_eq!(first.on_marker(5, epoch(20, 2)), Marked::Superseded);
        assert!(first.is_superseded());
    }

    #[test]
    fn after_positions_were_reset_by_hand_a_higher_number_is_claimed() {
        let mut owner = Tenure::new(30, 0, 0);
        owner.claimed();
        assert_eq!(owner.on_marker(2, epoch(20, 9)), Marked::Passed);
        assert_eq!(owner.on_marker(6, epoch(30, 1)), Marked::Again);
        assert_eq!(owner.own(), epoch(30, 10));
        assert!(owner.is_claiming());
        owner.claimed();
        assert_eq!(owner.on_marker(7, epoch(30, 10)), Marked::Ours);
    }

    #[test]
    fn above_a_number_that_is_taken_elsewhere_another_one_is_claimed() {
        let mut owner = Tenure::new(30, 4, 0);
        owner.outbid(9);
        assert_eq!(owner.own(), epoch(30, 5), "its own claim isn't even committed");
        owner.claimed();
        owner.outbid(9);
        assert!(owner.is_claiming());
        owner.claimed();
        assert_eq!(owner.on_marker(2, epoch(30, 10)), Marked::Ours);
        owner.outbid(20);
        assert_eq!(owner.own(), epoch(30, 10), "what is held stays");
    }

    #[test]
    fn the_last_marker_below_the_position_is_remembered() {
        let mut owner = Tenure::new(30, 4, 2);
        owner.claimed();
        assert_eq!(owner.on_marker(9, epoch(30, 5)), Marked::Ours);
        assert_eq!(owner.marked_below(9), 2);
        assert_eq!(owner.marked_below(10), 5);
        let next = Tenure::new(40, 5, 5);
        assert!(next.is_void(epoch(20, 4)));
        assert!(!next.is_void(epoch(30, 5)));
    }
}
