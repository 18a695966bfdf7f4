//! The control port: what operators wish of a running stage, and what the stage answers.
//!
//! ```text
//! operator ─► store ─► stages::control ─► Control ──(watch)──► StageControl ─► engine
//!                            ▲                                                  │
//!                            └──────────── reports (bounded) ◄──────────────────┘
//! ```
//!
//! Wishes are a state, not a queue: whoever starts late, or missed a change, sees the newest. Orders stay among the
//! wishes until somebody answered them, so that an owner that dies leaves them to the next one. The engine knows
//! nothing of where wishes are stored.

mod breaker;
mod supervision;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use breaker::BreakerOptions;
pub(crate) use supervision::Supervision;

/// Reports that may wait to be taken; what doesn't fit is told again a little later.
const REPORTS: usize = 256;

/// What is wished of a stage now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Nothing new is to be started, for this reason.
    pub paused: Option<Arc<str>>,
    /// Grows with every change of `paused`.
    pub version: i64,
    /// What is to be done once, by whoever owns the partition.
    pub orders: Vec<Order>,
}

/// Something to be done once, by the owner of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name in answers.
    pub id: Arc<str>,
    /// The partition whose owner is meant.
    pub partition: i32,
    /// What to do.
    pub what: OrderKind,
}

/// See [`Order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// Lets the first task of a waiting lane run now; the first of a held one is left in the dead-letter topic, and
    /// its lane goes on.
    Release {
        /// The lane.
        lane: Arc<str>,
    },
    /// Ends the first task of a lane without its effect.
    Skip {
        /// The lane.
        lane: Arc<str>,
    },
    /// Reads the source again from this offset.
    Replay {
        /// The next offset to be handled.
        to: i64,
    },
}

/// What a stage tells whoever controls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageReport {
    /// Too much was dead-lettered: the stage has paused itself, in these words.
    Tripped {
        /// Why.
        reason: Arc<str>,
    },
    /// An order was carried out, or refused with a reason.
    Answered {
        /// Which order.
        id: Arc<str>,
        /// What came of it, in words.
        answer: Result<String, String>,
    },
}

/// The controlling end of the port: one per stage and process.
#[derive(Debug)]
pub struct Control {
    wishes: watch::Sender<Wishes>,
    reports: mpsc::Receiver<StageReport>,
}

/// The engine's end of the port. Members of one stage in one process share it.
#[derive(Debug, Clone)]
pub struct StageControl {
    wishes: watch::Receiver<Wishes>,
    reports: mpsc::Sender<StageReport>,
}

impl Control {
    /// A port whose stage starts nothing before the first wishes are known.
    pub fn new() -> (Self, StageControl) {
        let unknown = Wishes {
            paused: Some("it is not known yet whether the stage is paused".into()),
            version: -1,
            orders: Vec::new(),
        };
        Self::with(unknown)
    }

    fn with(first: Wishes) -> (Self, StageControl) {
        let (wishes_in, wishes) = watch::channel(first);
        let (reports_in, reports) = mpsc::channel(REPORTS);
        (Self { wishes: wishes_in, reports }, StageControl { wishes, reports: reports_in })
    }

    /// Says what is wished from now on.
    pub fn wish(&self, wishes: Wishes) {
        self.wishes.send_if_modified(|now| {
            let changed = *now != wishes;
            *now = wishes;
            changed
        });
    }

    /// The next report that is there, if any.
    pub fn report(&mut self) -> Option<StageReport> {
        self.reports.try_recv().ok()
    }
}

impl Default for StageControl {
    /// Nobody controls the stage: it runs.
    fn default() -> Self {
        Control::with(Wishes::default()).1
    }
}
