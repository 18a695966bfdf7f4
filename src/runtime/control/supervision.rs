//! The engine's side of the control port: is the stage paused, did the breaker trip, which orders are still to be
//! carried out. Asked a few times a second, never per record.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::breaker::Breaker;
use super::{BreakerOptions, Order, StageControl, StageReport};
use crate::telemetry::Metrics;

/// See the module.
#[derive(Debug)]
pub(crate) struct Supervision {
    stage: Arc<str>,
    control: StageControl,
    breaker: Breaker,
    /// Tasks done and dead when the breaker was last told.
    seen: (u64, u64),
    /// The breaker tripped under wishes of this version: paused until newer ones are there.
    tripped: Option<(i64, Arc<str>)>,
    paused: Option<Arc<str>>,
    /// Orders that this member has taken up; no longer than the list of wishes.
    taken: BTreeSet<Arc<str>>,
    /// Reports that didn't fit yet: at most one trip, and one answer per order.
    unsent: VecDeque<StageReport>,
}

impl Supervision {
    /// Supervises a member of `stage`.
    pub(crate) fn new(stage: &str, control: StageControl, options: BreakerOptions) -> Self {
        let paused = control.wishes.borrow().paused.clone();
        let breaker = Breaker::new(options);
        Self {
            stage: stage.into(),
            control,
            breaker,
            seen: (0, 0),
            tripped: None,
            paused,
            taken: BTreeSet::new(),
            unsent: VecDeque::new(),
        }
    }

    /// Why nothing may be started, if so.
    pub(crate) fn paused(&self) -> Option<&Arc<str>> {
        self.paused.as_ref()
    }

    /// Looks what is wished, tells the breaker how many tasks have ended so far, and says so in the metric.
    pub(crate) fn heed(&mut self, now_ms: i64, done: u64, dead: u64, metrics: &Metrics) {
        let (before_done, before_dead) = std::mem::replace(&mut self.seen, (done, dead));
        let (wished, version) = {
            let wishes = self.control.wishes.borrow();
            (wishes.paused.clone(), wishes.version)
        };
        if self.tripped.as_ref().is_some_and(|(seen, _)| version > *seen) {
            self.tripped = None;
        }
        let (done, dead) = (done.saturating_sub(before_done), dead.saturating_sub(before_dead));
        if wished.is_none()
            && self.tripped.is_none()
            && let Some(why) = self.breaker.note(now_ms, done, dead)
        {
            tracing::error!(stage = %self.stage, why, "the stage pauses itself; `orderflow stage resume` lets it go on");
            let reason: Arc<str> = why.into();
            self.tripped = Some((version, Arc::clone(&reason)));
            self.unsent.push_back(StageReport::Tripped { reason });
        }
        let paused = wished.or_else(|| self.tripped.as_ref().map(|(_, why)| Arc::clone(why)));
        if paused.is_some() != self.paused.is_some() {
            // What was counted before says nothing of what comes after.
            self.breaker.reset();
            match &paused {
                Some(why) => tracing::warn!(stage = %self.stage, %why, "the stage is paused"),
                None => tracing::info!(stage = %self.stage, "the stage goes on"),
            }
        }
        self.paused = paused;
        metrics.stage_paused.with_label_values(&[&*self.stage]).set(i64::from(self.paused.is_some()));
        self.send();
    }

    /// Orders that weren't taken up yet, for partitions of which `owned` is true. They count as taken.
    pub(crate) fn orders(&mut self, owned: impl Fn(i32) -> bool) -> Vec<Order> {
        let wishes = self.control.wishes.borrow();
        self.taken.retain(|id| wishes.orders.iter().any(|order| order.id == *id));
        let open = wishes.orders.iter().filter(|order| owned(order.partition));
        let fresh: Vec<Order> = open.filter(|order| !self.taken.contains(&order.id)).cloned().collect();
        drop(wishes);
        self.taken.extend(fresh.iter().map(|order| Arc::clone(&order.id)));
        fresh
    }

    /// Answers an order.
    pub(crate) fn answer(&mut self, id: Arc<str>, answer: Result<String, String>) {
        tracing::info!(stage = %self.stage, order = %id, ?answer, "an order of an operator is answered");
        self.unsent.push_back(StageReport::Answered { id, answer });
        self.send();
    }

    fn send(&mut self) {
        while let Some(report) = self.unsent.pop_front() {
            if let Err(tokio::sync::mpsc::error::TrySendError::Full(report)) =
                self.control.reports.try_send(report)
            {
                self.unsent.push_front(report);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Control, OrderKind, Wishes};
    use super::*;

    fn supervision() -> (Control, Supervision) {
        let (control, stage) = Control::new();
        let options = BreakerOptions { share: 0.5, at_least: 4, window: Duration::from_secs(60) };
        (control, Supervision::new("webhook", stage, options))
    }

    fn heed(supervision: &mut Supervision, done: u64, dead: u64) -> bool {
        supervision.heed(1_000, done, dead, &Metrics::new());
        supervision.paused().is_some()
    }

    fn wishes(paused: Option<&str>, version: i64) -> Wishes {
        Wishes { paused: paused.map(Into::into), version, orders: Vec::new() }
    }

    #[test]
    fn nothing_starts_before_the_wishes_are_known() {
        let (control, mut supervision) = supervision();
        assert!(heed(&mut supervision, 0, 0));
        control.wish(wishes(None, 0));
        assert!(!heed(&mut supervision, 0, 0));
        let mut free = Supervision::new("webhook", StageControl::default(), BreakerOptions::default());
        assert!(!heed(&mut free, 0, 0));
    }

    #[test]
    fn a_tripped_stage_stays_paused_until_it_is_resumed_after_the_trip() {
        let (mut control, mut supervision) = supervision();
        control.wish(wishes(None, 3));
        assert!(!heed(&mut supervision, 10, 0));
        assert!(heed(&mut supervision, 10, 11));
        assert!(matches!(control.report(), Some(StageReport::Tripped { .. })));
        // The store repeats what it knew before the trip.
        control.wish(wishes(None, 3));
        assert!(heed(&mut supervision, 10, 11));
        control.wish(wishes(Some("tripped"), 4));
        assert!(heed(&mut supervision, 10, 12));
        control.wish(wishes(None, 5));
        assert!(!heed(&mut supervision, 10, 12), "what died before the resume no longer counts");
        assert!(!heed(&mut supervision, 10, 15));
        assert!(heed(&mut supervision, 10, 16), "and it may trip again");
    }

    #[test]
    fn an_order_is_taken_up_once_and_by_the_owner_alone() {
        let (control, mut supervision) = supervision();
        let order = |id: &str, partition| Order {
            id: id.into(),
            partition,
            what: OrderKind::Release { lane: "a".into() },
        };
        control.wish(Wishes { orders: vec![order("1", 0), order("2", 1)], ..wishes(None, 0) });
        let taken: Vec<_> = supervision.orders(|partition| partition == 0);
        assert_eq!(taken, [order("1", 0)]);
        assert_eq!(supervision.orders(|_| true), [order("2", 1)]);
        assert_eq!(supervision.orders(|_| true), []);
    }
}
