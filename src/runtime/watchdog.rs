//! Notices a partition that stands although nothing excuses it, and says what to do about it. Pure: the engines look, this
//! remembers and decides, and the engines act.
//!
//! ```text
//! fetched stands, nothing is in memory ──► ask where the log ends ──► there is more ──► stalled partition ─┐
//! position stands, and nobody works on that record ──► look at all tasks why ──► no one ► poisoned head ───┼─► take it up anew
//! an attempt runs for longer than any may ────────────────────────────────────────────► stuck lane ────────┘
//! work is ready though nobody woke it ────────────────────────────────────────────────► lost wake-up ──────► it was polled
//! ```
//!
//! Taking a partition up anew is what a rebalance does: what can end ends, positions are committed with their maps, the rest is
//! cut off and read again. It loses nothing, repeats only what was unfinished, and waits twice as long before it is done again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// How long things may stand (`[runtime.watchdog]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogOptions {
    /// A partition of which nothing was fetched for this long, although there is something and room for it, is taken up anew.
    #[serde(with = "humantime_serde")]
    pub stalled_after: Duration,
    /// So is one whose position stood for this long at a record that nobody works on.
    #[serde(with = "humantime_serde")]
    pub head_after: Duration,
    /// So is one of which an attempt runs for this long: longer than the time-out of any handler.
    #[serde(with = "humantime_serde")]
    pub attempt_after: Duration,
    /// What runs for this long is polled though nobody woke it, and again after as long.
    #[serde(with = "humantime_serde")]
    pub poll_after: Duration,
}

impl Default for WatchdogOptions {
    fn default() -> Self {
        Self {
            stalled_after: Duration::from_secs(30),
            head_after: Duration::from_secs(300),
            attempt_after: Duration::from_secs(300),
            poll_after: Duration::from_secs(10),
        }
    }
}

impl WatchdogOptions {
    /// For handlers that are cut off after `timeout` and whose tasks may wait in place for `rest`: twice as long is far
    /// beyond that.
    pub(crate) fn for_handlers(mut self, timeout: Option<Duration>, rest: Duration) -> Self {
        let timeout = timeout.unwrap_or_default();
        self.attempt_after = self.attempt_after.max(timeout * 2);
        self.head_after = self.head_after.max(timeout.max(rest) * 2);
        self
    }
}

/// What the watchdog found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The log goes on behind this offset, and nothing more is fetched.
    StalledPartition {
        /// The next offset to be fetched.
        fetched: i64,
    },
    /// Nobody works on this record, which keeps the commit back.
    PoisonedHead {
        /// Its offset.
        offset: i64,
    },
    /// An attempt at a task of this record doesn't end.
    StuckLane {
        /// Its offset.
        offset: i64,
    },
}

/// What can be found, as a metric label; the last one is mended on the spot.
pub(crate) const KINDS: [&str; 4] = ["stalled_partition", "poisoned_head", "stuck_lane", LOST_WAKEUP];
/// See [`KINDS`].
pub(crate) const LOST_WAKEUP: &str = "lost_wakeup";

impl Trouble {
    /// Which of the kinds it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StalledPartition { .. } => KINDS[0],
            Self::PoisonedHead { .. } => KINDS[1],
            Self::StuckLane { .. } => KINDS[2],
        }
    }

    /// True once the partition has gone on from where it stood.
    fn is_over(&self, look: &Look) -> bool {
        match *self {
            Self::StalledPartition { fetched } => look.fetched > fetched,
            Self::PoisonedHead { offset } | Self::StuckLane { offset } => look.position > offset,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StalledPartition { fetched } => write!(f, "stalled: nothing is fetched from {fetched} on"),
            Self::PoisonedHead { offset } => {
                write!(f, "held back by a poisoned head: nobody works on the record at {offset}")
            }
            Self::StuckLane { offset } => {
                write!(f, "stuck in a lane: an attempt at a task of the record at {offset} does not end")
            }
        }
    }
}

/// A partition as it is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The number of its assignment.
    pub(crate) generation: u64,
    /// Everything below is complete.
    pub(crate) position: i64,
    /// The next offset to be fetched.
    pub(crate) fetched: i64,
    /// Where the log ends, if the broker was asked in this assignment.
    pub(crate) end: Option<i64>,
    /// Whether more would be fetched at once, if there were more.
    pub(crate) fetches: bool,
    /// Who works on the record at the position.
    pub(crate) head: Head,
    /// The record of an attempt that runs for longer than any may.
    pub(crate) stuck: Option<i64>,
}

/// What becomes of the record at the position, as far as can be told without a look at all tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// There is none: everything that was fetched is complete.
    None,
    /// It is being taken in.
    Intake,
    /// An attempt is made at it, or it is being read again.
    Attempt,
    /// It is on its way to another topic, or its stage is being told so first.
    Append,
    /// It is done as soon as a cursor is stored.
    Cursor,
    /// The partition, or the stage, starts nothing at present: it is paused, waits for a service, or ends.
    Idle,
    /// Somebody ought to work on it, and nobody does.
    Rests,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Look at all tasks for one that waits at the position with reason, and say so by [`Watchdog::excuse`].
    LookCloser,
    /// Ask the broker where the log ends.
    AskEnd,
    /// Take the partition up anew.
    TakeUp(Trouble),
}

/// How long a number stands.
#[derive(Debug, Clone, Copy)]
struct Stand {
    at: i64,
    since_ms: i64,
}

impl Stand {
    /// Follows the number; what has an excuse begins to stand only when that is gone.
    fn follow(&mut self, at: i64, excused: bool, now_ms: i64) {
        if excused || at != self.at {
            *self = Self { at, since_ms: now_ms };
        }
    }

    fn stands(&self, now_ms: i64) -> u128 {
        u128::from(now_ms.saturating_sub(self.since_ms).max(0).unsigned_abs())
    }
}

/// What is remembered of a partition, across its assignments to this member.
#[derive(Debug)]
struct Watched {
    fetched: Stand,
    head: Stand,
    trouble: Option<Trouble>,
    /// How often the partition was taken up for it in a row.
    tries: u32,
    /// The assignment that is to end.
    acted_on: Option<u64>,
    looked_ms: i64,
}

/// A partition that wasn't looked at for this long belongs to somebody else.
const GONE_AFTER_MS: i64 = 60_000;
/// The patience doubles this often.
const DOUBLINGS: u32 = 6;

/// See the module.
#[derive(Debug)]
pub(crate) struct Watchdog {
    options: WatchdogOptions,
    partitions: BTreeMap<i32, Watched>,
}

impl Watchdog {
    /// A watchdog with these patiences.
    pub(crate) fn new(options: WatchdogOptions) -> Self {
        Self { options, partitions: BTreeMap::new() }
    }

    /// Looks at a partition, and says what is to be done about it.
    pub(crate) fn look(&mut self, partition: i32, look: Look, now_ms: i64) -> Option<Advice> {
        let options = self.options;
        let watched = self.partitions.entry(partition).or_insert_with(|| Watched {
            fetched: Stand { at: look.fetched, since_ms: now_ms },
            head: Stand { at: look.position, since_ms: now_ms },
            trouble: None,
            tries: 0,
            acted_on: None,
            looked_ms: now_ms,
        });
        watched.looked_ms = now_ms;
        if watched.trouble.is_some_and(|trouble| trouble.is_over(&look)) {
            (watched.trouble, watched.tries) = (None, 0);
        }
        let is_new = watched.acted_on.is_some_and(|generation| generation != look.generation);
        if is_new {
            watched.acted_on = None;
        }
        watched.fetched.follow(look.fetched, is_new || !look.fetches, now_ms);
        watched.head.follow(look.position, is_new || look.head != Head::Rests, now_ms);
        if watched.acted_on.is_some() {
            return None;
        }
        // An attempt has its own clock, which begins anew with it.
        if let Some(offset) = look.stuck {
            return Some(watched.take_up(Trouble::StuckLane { offset }, look.generation));
        }
        let (head, fetched) = (watched.head.stands(now_ms), watched.fetched.stands(now_ms));
        if head >= watched.patience(options.head_after) {
            return Some(watched.take_up(Trouble::PoisonedHead { offset: look.position }, look.generation));
        }
        if fetched < watched.patience(options.stalled_after) {
            let is_worth_it = head >= watched.patience(options.head_after) / 2;
            return is_worth_it.then_some(Advice::LookCloser);
        }
        match look.end {
            Some(end) if end > look.fetched => {
                let trouble = Trouble::StalledPartition { fetched: look.fetched };
                Some(watched.take_up(trouble, look.generation))
            }
            Some(_) | None => {
                // The answer, if there is one, is from before. With the next it will have stood for as long.
                watched.fetched.since_ms = now_ms - as_ms(watched.patience(options.stalled_after) / 2);
                Some(Advice::AskEnd)
            }
        }
    }

    /// The record at the position waits with reason: it begins to stand when it no longer does.
    pub(crate) fn excuse(&mut self, partition: i32, now_ms: i64) {
        if let Some(watched) = self.partitions.get_mut(&partition) {
            watched.head.since_ms = now_ms;
        }
    }

    /// What a partition suffers from, until it has gone on.
    pub(crate) fn trouble(&self, partition: i32) -> Option<Trouble> {
        self.partitions.get(&partition)?.trouble
    }

    /// Forgets the partitions that nobody looks at any more.
    pub(crate) fn forget_others(&mut self, now_ms: i64) {
        self.partitions.retain(|_, watched| now_ms - watched.looked_ms < GONE_AFTER_MS);
    }
}

impl Watched {
    fn patience(&self, patience: Duration) -> u128 {
        patience.as_millis() << self.tries.min(DOUBLINGS)
    }

    fn take_up(&mut self, trouble: Trouble, generation: u64) -> Advice {
        self.trouble = Some(trouble);
        self.tries += 1;
        self.acted_on = Some(generation);
        Advice::TakeUp(trouble)
    }
}

fn as_ms(ms: u128) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
