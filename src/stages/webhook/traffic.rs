//! What this process knows of how its endpoints fare: each one's breaker and pace. Never more than endpoints.
//!
//! The engine asks here before every start, so answers come from memory; decisions are in `breaker` and `pace`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::breaker::{Breaker, BreakerOptions, Noted};
use super::pace::{Pace, Rate};
use super::verdict::{Blame, Verdict};

/// See the module.
#[derive(Debug)]
pub(super) struct Traffic {
    options: BreakerOptions,
    flows: Mutex<HashMap<Arc<str>, Flow>>,
    /// Partitions of the source, and how many of them this member works on.
    partitions: usize,
    owned: AtomicUsize,
}

#[derive(Debug, Default)]
struct Flow {
    breaker: Breaker,
    pace: Pace,
}

impl Traffic {
    /// Nothing is known yet. The source has so many `partitions`.
    pub(super) fn new(options: BreakerOptions, partitions: usize) -> Self {
        let partitions = partitions.max(1);
        Self { options, flows: Mutex::default(), partitions, owned: AtomicUsize::new(partitions) }
    }

    /// This member works on so many partitions from now on.
    pub(super) fn owns(&self, partitions: usize) {
        self.owned.store(partitions, Ordering::Relaxed);
    }

    /// This member's part of what an endpoint may get from all members together: by partitions, at least one.
    pub(super) fn share(&self, limit: u32) -> u32 {
        let (of, owned) = (self.partitions as u64, self.owned.load(Ordering::Relaxed) as u64);
        let share = u64::from(limit) * owned.min(of) / of;
        u32::try_from(share).unwrap_or(limit).max(1)
    }

    /// When the next request to `endpoint` may start, if not now.
    pub(super) fn not_before(&self, endpoint: &str, rate: Option<Rate>, now_ms: i64) -> Option<i64> {
        let flows = self.flows();
        let flow = flows.get(endpoint)?;
        let paced = rate.and_then(|rate| flow.pace.not_before(rate, now_ms));
        flow.breaker.not_before(now_ms).max(paced)
    }

    /// A request to `endpoint` starts.
    pub(super) fn starting(&self, endpoint: &str, rate: Option<Rate>, now_ms: i64) {
        let mut flows = self.flows();
        let flow = match (flows.get_mut(endpoint), rate) {
            (Some(flow), _) => flow,
            (None, Some(_)) => flows.entry(endpoint.into()).or_default(),
            (None, None) => return,
        };
        flow.breaker.starting();
        if let Some(rate) = rate {
            flow.pace.starting(rate, now_ms);
        }
    }

    /// Whether requests to `endpoint` go one at a time, to see whether it is back.
    pub(super) fn is_probing(&self, endpoint: &str) -> bool {
        self.flows().get(endpoint).is_some_and(|flow| flow.breaker.is_probing())
    }

    /// Whether nothing is to be expected of `endpoint` for a while.
    pub(super) fn is_away(&self, endpoint: &str, now_ms: i64) -> bool {
        self.flows().get(endpoint).is_some_and(|flow| flow.breaker.stays_open(now_ms))
    }

    /// Notes how an attempt at an event of `order` ended. Gives until when nothing is to be expected of the endpoint, if
    /// therefore the attempt doesn't count.
    pub(super) fn note(
        &self,
        endpoint: &Arc<str>,
        order: &str,
        verdict: &Verdict,
        now_ms: i64,
    ) -> Option<i64> {
        let mut flows = self.flows();
        let at_least = match verdict {
            Verdict::Failed { blame: Blame::Endpoint, at_least, .. } => *at_least,
            Verdict::Delivered | Verdict::Gone | Verdict::Failed { blame: Blame::Event, .. } => {
                if flows.get_mut(endpoint).is_some_and(|flow| flow.breaker.alive()) {
                    tracing::info!(%endpoint, "an endpoint answers again; its breaker is closed");
                }
                return None;
            }
        };
        let mut hasher = DefaultHasher::new();
        order.hash(&mut hasher);
        let breaker = &mut flows.entry(Arc::clone(endpoint)).or_default().breaker;
        match breaker.failed(hasher.finish(), at_least, now_ms, &self.options) {
            Noted::Counts => None,
            Noted::Opened => {
                tracing::warn!(%endpoint, "an endpoint fails for every order; its breaker is open");
                None
            }
            Noted::NotCounted { until_ms } => Some(until_ms),
        }
    }

    /// Forgets what has nothing to say. Answers how many breakers aren't closed.
    pub(super) fn tidy(&self, now_ms: i64) -> usize {
        let mut flows = self.flows();
        flows.retain(|_, flow| !flow.breaker.is_idle() || !flow.pace.is_idle(now_ms));
        flows.values().filter(|flow| flow.breaker.is_probing()).count()
    }

    /// Forgets endpoints that are gone.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.flows().retain(|endpoint, _| is_there(endpoint));
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<Arc<str>, Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Verdict {
        Verdict::Failed { blame: Blame::Endpoint, at_least: None, error: "answered 500".to_owned() }
    }

    fn refused() -> Verdict {
        Verdict::Failed { blame: Blame::Event, at_least: None, error: "answered 404".to_owned() }
    }

    #[test]
    fn an_endpoint_that_fails_for_all_orders_is_left_alone_and_no_other_is() {
        let (traffic, bad): (_, Arc<str>) = (Traffic::new(BreakerOptions::default(), 12), "bad".into());
        for order in 0..5 {
            assert_eq!(traffic.note(&bad, &order.to_string(), &failed(), 0), None, "these count");
        }
        assert_eq!(traffic.note(&bad, "6", &failed(), 10), Some(1_000), "this was under way");
        assert_eq!(traffic.not_before("bad", None, 10), Some(1_000));
        assert_eq!((traffic.not_before("good", None, 10), traffic.is_probing("good")), (None, false));
        assert_eq!(traffic.tidy(10), 1);
        traffic.starting("bad", None, 1_000);
        assert_eq!(traffic.note(&bad, "6", &failed(), 1_000), Some(3_000));
        assert!(traffic.is_away("bad", 1_000) && !traffic.is_away("bad", 3_000));
        traffic.starting("bad", None, 3_000);
        assert_eq!(traffic.note(&bad, "6", &refused(), 3_000), None, "it answers, and this counts");
        assert_eq!((traffic.is_probing("bad"), traffic.tidy(3_000)), (false, 0));
        assert_eq!(traffic.flows().len(), 0, "nothing is left of it");
    }

    #[test]
    fn members_share_what_an_endpoint_may_get_by_partitions_and_none_gets_nothing() {
        let traffic = Traffic::new(BreakerOptions::default(), 12);
        for (owned, limit, share) in
            [(12, 10, 10), (6, 10, 5), (1, 10, 1), (0, 10, 1), (5, 100, 41), (99, 7, 7)]
        {
            traffic.owns(owned);
            assert_eq!(traffic.share(limit), share, "{owned} of 12 at {limit}");
        }
    }

    #[test]
    fn a_rate_holds_what_comes_too_early_and_is_forgotten_when_it_is_over() {
        let traffic = Traffic::new(BreakerOptions::default(), 12);
        let rate = Some(Rate(2));
        traffic.starting("slow", rate, 0);
        assert_eq!(traffic.not_before("slow", rate, 0), Some(500));
        assert_eq!(traffic.not_before("slow", None, 0), None, "the limit was taken away");
        traffic.tidy(400);
        assert_eq!(traffic.not_before("slow", rate, 400), Some(500));
        traffic.tidy(500);
        assert_eq!(traffic.flows().len(), 0);
        traffic.starting("slow", rate, 600);
        traffic.keep(|_| false);
        assert_eq!(traffic.flows().len(), 0);
    }
}
