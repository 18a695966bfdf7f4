//! What this process knows of how its endpoints fare: each one's breaker and pace, shared by all groups of the stage that
//! it runs. Never more than endpoints.
//!
//! The engine asks here before every start, so answers come from memory; decisions are in `breaker` and `pace`. An
//! endpoint that got another URL, or is served again, is of another generation: its breaker begins anew, and what was
//! under way at the earlier one says nothing of it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::breaker::{Breaker, BreakerOptions, Noted};
use super::doubt::{Doubted, Doubts};
use super::pace::{Pace, Rate};
use super::verdict::{Blame, Verdict};

/// What is known of endpoints by one process; cheap to clone, and the same for all clones.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    flows: Mutex<HashMap<Arc<str>, Flow>>,
    members: Mutex<Members>,
    /// The part of this process: of so many partitions (the lower half) it works on so many (the upper half).
    part: AtomicU64,
}

#[derive(Debug, Default)]
struct Flow {
    generation: i64,
    breaker: Breaker,
    pace: Pace,
}

impl Flow {
    /// Its breaker, if it is that of `generation`.
    fn breaker(&self, generation: i64) -> Option<&Breaker> {
        (self.generation == generation).then_some(&self.breaker)
    }

    /// Makes it one of `generation`, if that is newer. False if it is older.
    fn renew(&mut self, generation: i64) -> bool {
        if self.generation < generation {
            (self.generation, self.breaker) = (generation, Breaker::default());
        }
        self.generation == generation
    }
}

/// Members of groups of the stage in this process.
#[derive(Debug, Default)]
struct Members {
    joined: u64,
    known: BTreeMap<u64, Owned>,
}

#[derive(Debug)]
struct Owned {
    group: Arc<str>,
    /// Partitions of the group's source, and how many of them the member works on.
    of: u32,
    owned: u32,
}

impl Members {
    /// Partitions that are worked on, and of how many, over all groups of which there is a member.
    fn part(&self) -> (u32, u32) {
        let groups: BTreeMap<&str, u32> =
            self.known.values().map(|member| (&*member.group, member.of)).collect();
        let of = groups.values().fold(0u32, |sum, of| sum.saturating_add(*of));
        let owned = self.known.values().fold(0u32, |sum, member| sum.saturating_add(member.owned));
        (owned.min(of), of)
    }
}

impl Traffic {
    /// A member of `group`, with so many slots, that works on all `partitions` of its source until it says otherwise.
    pub(super) fn join(
        &self,
        group: &str,
        partitions: usize,
        slots: usize,
        options: BreakerOptions,
    ) -> Member {
        let of = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
        let no = self.change(|members| {
            members.joined += 1;
            members.known.insert(members.joined, Owned { group: group.into(), of, owned: of });
            members.joined
        });
        let (owned, doubts) = (AtomicU64::new(of.into()), Doubts::of(slots));
        Member { traffic: self.clone(), no, of, owned, doubts, options }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Members) -> T) -> T {
        let mut members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut members);
        let (owned, of) = members.part();
        self.0.part.store(u64::from(owned) << 32 | u64::from(of), Ordering::Relaxed);
        changed
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<Arc<str>, Flow>> {
        self.0.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint as it is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its id.
    pub(super) id: &'a Arc<str>,
    /// Which of its starts is meant.
    pub(super) generation: i64,
    /// Requests a second that it may get from all processes, at most.
    pub(super) rate: Option<u32>,
}

/// A group's member's view of the traffic; dropping it takes the member's partitions off.
#[derive(Debug)]
pub(super) struct Member {
    traffic: Traffic,
    no: u64,
    of: u32,
    owned: AtomicU64,
    doubts: Doubts,
    options: BreakerOptions,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.traffic.change(|members| members.known.remove(&self.no));
    }
}

impl Member {
    /// This member works on so many partitions from now on.
    pub(super) fn owns(&self, partitions: usize) {
        let owned = u32::try_from(partitions).unwrap_or(u32::MAX);
        self.owned.store(owned.into(), Ordering::Relaxed);
        self.traffic.change(|members| {
            if let Some(member) = members.known.get_mut(&self.no) {
                member.owned = owned;
            }
        });
    }

    /// This member's part of how many requests an endpoint may get at once from the whole group: by partitions, at least
    /// one.
    pub(super) fn share(&self, limit: u32) -> u32 {
        share(limit, self.owned.load(Ordering::Relaxed), self.of.into())
    }

    /// The part of this process, with all its groups, of the rate at which an endpoint may be told from all of them.
    fn rate(&self, asked: Asked<'_>) -> Option<Rate> {
        let part = self.traffic.0.part.load(Ordering::Relaxed);
        asked.rate.map(|limit| Rate(share(limit, part >> 32, part & u64::from(u32::MAX))))
    }

    /// When the next request to an endpoint may start, if not now.
    pub(super) fn not_before(&self, asked: Asked<'_>, now_ms: i64) -> Option<i64> {
        let flows = self.traffic.flows();
        let flow = flows.get(asked.id)?;
        let paced = self.rate(asked).and_then(|rate| flow.pace.not_before(rate, now_ms));
        let Some(breaker) = flow.breaker(asked.generation) else { return paced };
        match breaker.not_before(now_ms).max(paced) {
            later @ Some(at_ms) if at_ms > now_ms => later,
            // Who can start, but for the others, stands in line with them.
            now => now.max(breaker.is_doubtful().then(|| self.doubts.not_before(asked.id, now_ms)).flatten()),
        }
    }

    /// A request to an endpoint is under way until what this gives is dropped: it counts where the endpoint failed last.
    pub(super) fn underway(&self, asked: Asked<'_>) -> Option<Doubted<'_>> {
        self.about(asked, Breaker::is_doubtful).then(|| self.doubts.running())
    }

    /// A request to an endpoint starts.
    pub(super) fn starting(&self, asked: Asked<'_>, now_ms: i64) {
        let (mut flows, rate) = (self.traffic.flows(), self.rate(asked));
        let flow = match (flows.get_mut(asked.id), rate) {
            (Some(flow), _) => flow,
            (None, Some(_)) => flows.entry(Arc::clone(asked.id)).or_default(),
            (None, None) => return,
        };
        if flow.renew(asked.generation) {
            flow.breaker.starting();
            if flow.breaker.is_doubtful() {
                self.doubts.starting(asked.id, now_ms);
            }
        }
        if let Some(rate) = rate {
            flow.pace.starting(rate, now_ms);
        }
    }

    /// Whether requests to an endpoint go one at a time, to see whether it is back.
    pub(super) fn is_probing(&self, asked: Asked<'_>) -> bool {
        self.about(asked, Breaker::is_probing)
    }

    /// Whether nothing is to be expected of an endpoint but what a probe may show.
    pub(super) fn is_away(&self, asked: Asked<'_>) -> bool {
        self.about(asked, Breaker::is_away)
    }

    fn about(&self, asked: Asked<'_>, says: impl FnOnce(&Breaker) -> bool) -> bool {
        let flows = self.traffic.flows();
        flows.get(asked.id).and_then(|flow| flow.breaker(asked.generation)).is_some_and(says)
    }

    /// Notes how an attempt at an event of `order` ended. Gives until when nothing is to be expected of the endpoint, if
    /// therefore the attempt doesn't count.
    pub(super) fn note(&self, asked: Asked<'_>, order: &str, verdict: &Verdict, now_ms: i64) -> Option<i64> {
        let (mut flows, endpoint) = (self.traffic.flows(), asked.id);
        let at_least = match verdict {
            Verdict::Failed { blame: Blame::Endpoint, at_least, .. } => *at_least,
            Verdict::Delivered | Verdict::Gone | Verdict::Failed { blame: Blame::Event, .. } => {
                let known = flows.get_mut(endpoint).filter(|flow| flow.generation == asked.generation);
                if known.is_some_and(|flow| flow.breaker.alive()) {
                    tracing::info!(%endpoint, "an endpoint answers again; its breaker is closed");
                }
                return None;
            }
        };
        let mut hasher = DefaultHasher::new();
        order.hash(&mut hasher);
        let flow = flows.entry(Arc::clone(endpoint)).or_default();
        if !flow.renew(asked.generation) {
            return None;
        }
        match flow.breaker.failed(hasher.finish(), at_least, now_ms, &self.options) {
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
        let mut flows = self.traffic.flows();
        flows.retain(|_, flow| !flow.breaker.is_idle() || !flow.pace.is_idle(now_ms));
        flows.values().filter(|flow| flow.breaker.is_probing()).count()
    }

    /// Forgets endpoints that are gone; `generation` tells of the others which of their starts is theirs now.
    pub(super) fn keep(&self, generation: impl Fn(&str) -> Option<i64>) {
        self.traffic.flows().retain(|endpoint, flow| match generation(endpoint) {
            Some(newest) => {
                flow.renew(newest);
                true
            }
            None => false,
        });
    }
}

/// A part of `limit`, at least one: `owned` of `of`.
fn share(limit: u32, owned: u64, of: u64) -> u32 {
    let of = of.max(1);
    let share = u64::from(limit) * owned.min(of) / of;
    u32::try_from(share).unwrap_or(limit).max(1)
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

    fn asked(id: &Arc<str>) -> Asked<'_> {
        Asked { id, generation: 1, rate: None }
    }

    fn join(traffic: &Traffic, group: &str, partitions: usize) -> Member {
        traffic.join(group, partitions, 4, BreakerOptions::default())
    }

    fn open(member: &Member, endpoint: &Arc<str>) {
        for order in 0..5 {
            assert_eq!(member.note(asked(endpoint), &order.to_string(), &failed(), 0), None, "these count");
        }
    }

    #[test]
    fn an_endpoint_that_fails_for_all_orders_is_left_alone_and_no_other_is() {
        let traffic = join(&Traffic::default(), "webhook", 12);
        let (bad, good): (Arc<str>, Arc<str>) = ("bad".into(), "good".into());
        open(&traffic, &bad);
        assert_eq!(traffic.note(asked(&bad), "6", &failed(), 10), Some(1_000), "this was under way");
        assert_eq!(traffic.not_before(asked(&bad), 10), Some(1_000));
        assert_eq!((traffic.not_before(asked(&good), 10), traffic.is_probing(asked(&good))), (None, false));
        assert_eq!(traffic.tidy(10), 1);
        traffic.starting(asked(&bad), 1_000);
        assert!(!traffic.is_away(asked(&bad)), "its first probe runs");
        assert_eq!(traffic.note(asked(&bad), "6", &failed(), 1_000), Some(3_000));
        assert!(traffic.is_away(asked(&bad)));
        traffic.starting(asked(&bad), 3_000);
        assert!(traffic.is_away(asked(&bad)), "until a probe says otherwise");
        assert_eq!(traffic.note(asked(&bad), "6", &refused(), 3_000), None, "it answers, and this counts");
        assert_eq!((traffic.is_probing(asked(&bad)), traffic.is_away(asked(&bad))), (false, false));
        assert_eq!(traffic.tidy(3_000), 0);
        assert_eq!(traffic.traffic.flows().len(), 0, "nothing is left of it");
    }

    #[test]
    fn those_who_failed_last_share_half_of_the_slots_and_so_do_first_probes() {
        let traffic = join(&Traffic::default(), "webhook", 12);
        let [one, other, third, probed, good]: [Arc<str>; 5] = ["a", "b", "c", "d", "e"].map(Arc::from);
        for endpoint in [&one, &other, &third] {
            assert_eq!(traffic.note(asked(endpoint), "1", &failed(), 0), None);
        }
        open(&traffic, &probed);
        let running = [&one, &other, &good].map(|endpoint| traffic.underway(asked(endpoint)));
        assert!(running[1].is_some() && running[2].is_none(), "only those who failed are counted");
        let not_before = |endpoint| traffic.not_before(asked(endpoint), 5_000);
        assert_eq!((not_before(&third), not_before(&probed)), (Some(5_100), Some(5_100)));
        assert_eq!(not_before(&good), None);
        drop(running);
        assert_eq!((not_before(&third), not_before(&probed)), (None, None));
        traffic.note(asked(&third), "1", &Verdict::Delivered, 5_000);
        assert!(traffic.underway(asked(&third)).is_none(), "it answers again");
    }

    #[test]
    fn another_url_begins_anew_and_what_was_under_way_at_the_old_one_says_nothing_of_it() {
        let traffic = join(&Traffic::default(), "webhook", 12);
        let endpoint: Arc<str> = "moved".into();
        let moved = Asked { generation: 2, ..asked(&endpoint) };
        open(&traffic, &endpoint);
        assert!(traffic.not_before(asked(&endpoint), 10).is_some());
        assert_eq!((traffic.not_before(moved, 10), traffic.is_probing(moved)), (None, false));
        traffic.starting(moved, 10);
        assert_eq!(
            traffic.note(asked(&endpoint), "7", &failed(), 20),
            None,
            "it was the old one that failed"
        );
        assert_eq!(traffic.not_before(moved, 20), None);
        assert_eq!(traffic.note(moved, "8", &failed(), 20), None);
        traffic.note(asked(&endpoint), "9", &Verdict::Delivered, 30);
        assert!(!traffic.traffic.flows()["moved"].breaker.is_idle(), "the old one's answer isn't its own");

        open(&traffic, &"kept".into());
        traffic.keep(|endpoint| (endpoint == "kept").then_some(2));
        assert_eq!(traffic.tidy(30), 0, "what is seen of a new start closes the breaker of before");
    }

    #[test]
    fn members_share_what_an_endpoint_may_get_by_partitions_and_none_gets_nothing() {
        let traffic = join(&Traffic::default(), "webhook", 12);
        for (owned, limit, share) in
            [(12, 10, 10), (6, 10, 5), (1, 10, 1), (0, 10, 1), (5, 100, 41), (99, 7, 7)]
        {
            traffic.owns(owned);
            assert_eq!(traffic.share(limit), share, "{owned} of 12 at {limit}");
        }
    }

    #[test]
    fn the_groups_of_a_process_keep_one_rate_and_one_breaker() {
        let shared = Traffic::default();
        let (orders, jobs) = (join(&shared, "webhook", 12), join(&shared, "webhook-jobs", 6));
        let endpoint: Arc<str> = "slow".into();
        let slow = Asked { rate: Some(6), ..asked(&endpoint) };
        let rate = |limit| Some(Rate(limit));
        assert_eq!((orders.rate(slow), jobs.rate(slow)), (rate(6), rate(6)), "all of both sources is here");
        orders.starting(slow, 0);
        assert_eq!(jobs.not_before(slow, 0), Some(167), "the other group's request counts");
        orders.owns(3);
        assert_eq!((orders.rate(slow), jobs.rate(slow)), (rate(3), rate(3)), "nine of eighteen partitions");
        open(&jobs, &endpoint);
        assert_eq!(orders.not_before(asked(&endpoint), 10), Some(1_000));
        drop(jobs);
        assert_eq!(orders.rate(slow), rate(1), "three of twelve");
    }

    #[test]
    fn a_rate_holds_what_comes_too_early_and_is_forgotten_when_it_is_over() {
        let traffic = join(&Traffic::default(), "webhook", 12);
        let endpoint: Arc<str> = "slow".into();
        let slow = Asked { rate: Some(2), ..asked(&endpoint) };
        traffic.starting(slow, 0);
        assert_eq!(traffic.not_before(slow, 0), Some(500));
        assert_eq!(traffic.not_before(asked(&endpoint), 0), None, "the limit was taken away");
        traffic.tidy(400);
        assert_eq!(traffic.not_before(slow, 400), Some(500));
        traffic.tidy(500);
        assert_eq!(traffic.traffic.flows().len(), 0);
        traffic.starting(slow, 600);
        traffic.keep(|_| None);
        assert_eq!(traffic.traffic.flows().len(), 0);
    }
}
