//! The circuit breaker of one endpoint in one process. Pure; times are epoch milliseconds, passed in.
//!
//! ```text
//! closed ── failures in a row, of several orders ──► open ── its pause is over ──► half open ── a sign of life ──► closed
//!                                                     ▲                               │
//!                                                     └────── a longer pause ── the probe failed
//! ```
//!
//! Only what speaks against the endpoint counts as a failure; an answer that refuses one event is a sign of life. While
//! the breaker isn't closed no failure counts as an attempt: it says nothing of the event.

use std::time::Duration;

use serde::Deserialize;

/// When a breaker opens, and for how long (`[webhook.breaker]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerOptions {
    /// So many failures in a row open it, at least 1.
    pub failures: u32,
    /// If they are of so many orders: one order that is always refused says nothing of the others.
    pub orders: u32,
    /// How long it stays open before the first probe; doubled by every probe that fails.
    #[serde(with = "humantime_serde")]
    pub first_pause: Duration,
    /// No pause is longer, unless the endpoint asks for it.
    #[serde(with = "humantime_serde")]
    pub longest_pause: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            orders: 3,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(5 * 60),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breaker(State);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
        /// Of which orders they were, by hash; as many as are needed.
        orders: Vec<u64>,
    },
    Open {
        until_ms: i64,
        pause: Duration,
        /// Probes that failed.
        probes: u32,
    },
    HalfOpen {
        pause: Duration,
        probes: u32,
    },
}

/// What a failure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It counts as an attempt.
    Counts,
    /// It counts, and the breaker opened because of it.
    Opened,
    /// It doesn't count; nothing is to be expected of the endpoint before this time.
    NotCounted {
        /// Epoch milliseconds.
        until_ms: i64,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { failures: 0, orders: Vec::new() })
    }
}

impl Breaker {
    /// The endpoint answered, if only to refuse an event. True when the breaker wasn't closed.
    pub(super) fn alive(&mut self) -> bool {
        let was_closed = matches!(self.0, State::Closed { .. });
        *self = Self::default();
        !was_closed
    }

    /// An attempt at an event of `order` failed by the endpoint's fault, which asks to be left alone for `at_least`.
    pub(super) fn failed(
        &mut self,
        order: u64,
        at_least: Option<Duration>,
        now_ms: i64,
        options: &BreakerOptions,
    ) -> Noted {
        let behind = |pause: Duration| now_ms.saturating_add(millis(pause.max(at_least.unwrap_or_default())));
        match &mut self.0 {
            State::Closed { failures, orders } => {
                *failures = failures.saturating_add(1);
                let enough = usize::try_from(options.orders).unwrap_or(usize::MAX);
                if orders.len() < enough && !orders.contains(&order) {
                    orders.push(order);
                }
                if *failures < options.failures.max(1) || orders.len() < enough {
                    return Noted::Counts;
                }
                let pause = options.first_pause;
                self.0 = State::Open { until_ms: behind(pause), pause, probes: 0 };
                Noted::Opened
            }
            // It began before the breaker opened.
            State::Open { until_ms, .. } => {
                *until_ms = behind(Duration::ZERO).max(*until_ms);
                Noted::NotCounted { until_ms: *until_ms }
            }
            State::HalfOpen { pause, probes } => {
                let (pause, probes) =
                    (pause.saturating_mul(2).min(options.longest_pause), probes.saturating_add(1));
                let until_ms = behind(pause);
                self.0 = State::Open { until_ms, pause, probes };
                Noted::NotCounted { until_ms }
            }
        }
    }

    /// An attempt starts, which [`Breaker::not_before`] allowed: it is the probe, if the breaker is open.
    pub(super) fn starting(&mut self) {
        if let State::Open { pause, probes, .. } = self.0 {
            self.0 = State::HalfOpen { pause, probes };
        }
    }

    /// When the next attempt may start, if not now.
    pub(super) fn not_before(&self, now_ms: i64) -> Option<i64> {
        match self.0 {
            State::Open { until_ms, .. } => Some(until_ms).filter(|until_ms| *until_ms > now_ms),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Whether one attempt at a time is enough.
    pub(super) fn is_probing(&self) -> bool {
        !matches!(self.0, State::Closed { .. })
    }

    /// Whether a probe failed and none has shown a sign of life since.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.0, State::Open { probes, .. } | State::HalfOpen { probes, .. } if probes > 0)
    }

    /// Whether the endpoint failed last, and no probe has shown yet that it is away.
    pub(super) fn is_doubtful(&self) -> bool {
        match self.0 {
            State::Closed { failures, .. } => failures > 0,
            State::Open { probes, .. } | State::HalfOpen { probes, .. } => probes == 0,
        }
    }

    /// Whether nothing is to be remembered of the endpoint.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.0, State::Closed { failures: 0, .. })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: BreakerOptions = BreakerOptions {
        failures: 5,
        orders: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(10),
    };

    fn fail(breaker: &mut Breaker, order: u64, now_ms: i64) -> Noted {
        breaker.failed(order, None, now_ms, &OPTIONS)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for order in 0..4 {
            assert_eq!(fail(&mut breaker, order, 0), Noted::Counts);
        }
        assert_eq!(fail(&mut breaker, 4, 0), Noted::Opened);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_if_they_are_of_three_orders() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, 1, 0), Noted::Counts, "one order alone");
        }
        assert_eq!(fail(&mut breaker, 2, 0), Noted::Counts);
        assert_eq!(fail(&mut breaker, 3, 0), Noted::Opened);

        let mut breaker = Breaker::default();
        for order in 0..4 {
            fail(&mut breaker, order, 0);
        }
        assert!(!breaker.alive(), "it was closed");
        assert!(breaker.is_idle());
        assert_eq!(fail(&mut breaker, 5, 0), Noted::Counts, "no longer in a row");
    }

    #[test]
    fn an_open_one_lets_one_probe_through_after_pauses_that_grow_and_closes_by_a_sign_of_life() {
        let (mut breaker, mut now) = (opened(), 0);
        assert!(!breaker.is_away(), "the first pause is waited out");
        for pause in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(breaker.not_before(now), Some(now + pause));
            assert_eq!(breaker.not_before(now + pause - 1), Some(now + pause));
            now += pause;
            assert_eq!((breaker.not_before(now), breaker.is_probing()), (None, true));
            let was_away = breaker.is_away();
            breaker.starting();
            assert_eq!(breaker.is_away(), was_away, "until the probe ends");
            assert!(matches!(fail(&mut breaker, 9, now), Noted::NotCounted { .. }));
            assert!(breaker.is_away());
        }
        breaker.starting();
        assert!(breaker.alive());
        assert_eq!((breaker.is_probing(), breaker.is_idle(), breaker.not_before(now)), (false, true, None));
        assert!(!breaker.is_away());
    }

    #[test]
    fn what_began_before_it_opened_neither_counts_nor_changes_its_pause() {
        let mut breaker = opened();
        assert_eq!(fail(&mut breaker, 7, 500), Noted::NotCounted { until_ms: 1_000 });
        assert_eq!(breaker.not_before(500), Some(1_000));
    }

    #[test]
    fn an_endpoint_that_asks_for_longer_gets_it() {
        let mut breaker = opened();
        breaker.failed(1, Some(Duration::from_secs(3_600)), 0, &OPTIONS);
        assert_eq!(breaker.not_before(0), Some(3_600_000));
        breaker.starting();
        breaker.failed(1, Some(Duration::from_secs(60)), 0, &OPTIONS);
        assert_eq!(breaker.not_before(0), Some(60_000));
        breaker.starting();
        breaker.failed(1, Some(Duration::ZERO), 0, &OPTIONS);
        assert_eq!(breaker.not_before(0), Some(4_000), "but never less than the pause");
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Time goes by.
        Wait(i64),
        /// An attempt at an order's event starts, if it may.
        Start(u64),
        /// The oldest running attempt ends: well, or with what it asks for.
        End(Option<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0i64..3_000).prop_map(Step::Wait),
            (0u64..6).prop_map(Step::Start),
            prop_oneof![Just(None), (0u64..20).prop_map(Some), Just(Some(0)), Just(Some(0))]
                .prop_map(Step::End),
        ]
    }

    proptest! {
        /// Against the bare rules: it opens exactly when it must, lets at most one probe through, never for ever shuts
        /// an endpoint out, and counts nothing while it is open.
        #[test]
        fn it_keeps_its_rules_under_any_history(steps in prop::collection::vec(step(), 1..300)) {
            let (mut breaker, mut now) = (Breaker::default(), 0i64);
            let mut running: Vec<u64> = Vec::new();
            let mut row: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Start(order) => {
                        let allowed = breaker.not_before(now).is_none() && (!breaker.is_probing() || running.is_empty());
                        if allowed {
                            breaker.starting();
                            running.push(order);
                        }
                    }
                    Step::End(_) if running.is_empty() => {}
                    Step::End(None) => {
                        running.remove(0);
                        prop_assert_eq!(breaker.alive(), breaker_was_open(&row));
                        row.clear();
                        prop_assert!(breaker.is_idle());
                    }
                    Step::End(Some(asks)) => {
                        let order = running.remove(0);
                        let was_open = breaker_was_open(&row);
                        let noted = breaker.failed(order, Some(Duration::from_secs(asks)), now, &OPTIONS);
                        row.push(order);
                        match noted {
                            Noted::Counts => prop_assert!(!breaker_was_open(&row)),
                            Noted::Opened => prop_assert!(!was_open && breaker_was_open(&row)),
                            Noted::NotCounted { until_ms } => {
                                prop_assert!(was_open && until_ms >= now + i64::try_from(asks * 1_000).unwrap());
                            }
                        }
                        if breaker.is_probing() {
                            let until = breaker.not_before(now);
                            prop_assert!(until.is_none_or(|until| until <= now + 20_000), "bounded: {until:?}");
                        }
                    }
                }
            }
        }
    }

    /// The rule as the contract says it, over the failures since the last sign of life.
    fn breaker_was_open(row: &[u64]) -> bool {
        let distinct: std::collections::BTreeSet<_> = row.iter().collect();
        row.len() >= 5 && distinct.len() >= 3
    }
}
