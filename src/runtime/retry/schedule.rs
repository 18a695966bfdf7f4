//! When a failed task is tried again.

use std::time::Duration;

use crate::runtime::outcome::{ErrorClass, Failure, Outcome};

/// Delays between attempts, with a jitter that depends on the task alone, so that a restart computes the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// All attempts counted, at least 1.
    pub attempts: u32,
    /// Delay after the first, second, … attempt; the last one repeats.
    pub delays: Vec<Duration>,
    /// Jitter in percent of the delay, up or down.
    pub jitter_percent: u32,
}

impl Default for Schedule {
    /// Three retries, a second apart.
    fn default() -> Self {
        Self { attempts: 4, delays: vec![Duration::from_secs(1)], jitter_percent: 0 }
    }
}

impl Schedule {
    /// `attempts` attempts with doubling delays: `first` × 2^(n−1), at most `longest`.
    pub fn doubling(attempts: u32, first: Duration, longest: Duration) -> Self {
        let steps = attempts.saturating_sub(1).min(64);
        let delays =
            (0..steps).map(|step| first.saturating_mul(2u32.saturating_pow(step)).min(longest)).collect();
        Self { attempts: attempts.max(1), delays, jitter_percent: 10 }
    }

    /// This schedule, unless `attempts` or `first` says otherwise: then a doubling one, with what isn't said
    /// taken from here, and no delay longer than `longest`.
    pub fn overridden(&self, attempts: Option<u32>, first: Option<Duration>, longest: Duration) -> Self {
        if attempts.is_none() && first.is_none() {
            return self.clone();
        }
        let first = first.or(self.delays.first().copied()).unwrap_or_default();
        Self {
            jitter_percent: self.jitter_percent,
            ..Self::doubling(attempts.unwrap_or(self.attempts), first, longest)
        }
    }

    /// How long to wait after attempt number `attempt` (from 1) failed; `None` when it was the last. `seed` is
    /// a hash of the task. Never shorter than `at_least` (a `Retry-After`).
    pub fn after(&self, attempt: u32, seed: u64, at_least: Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let step = attempt.saturating_sub(1) as usize;
        let base = self.delays.get(step).or(self.delays.last()).copied().unwrap_or_default();
        let jittered = jitter(base, self.jitter_percent, mix(seed ^ u64::from(attempt)));
        Some(jittered.max(at_least.unwrap_or_default()))
    }
}

impl Schedule {
    /// What becomes of a task whose attempt number `attempt` failed by `why`: it is tried again, or given up after the
    /// last one.
    pub fn outcome(&self, attempt: u32, seed: u64, why: Failure) -> Outcome {
        match self.after(attempt, seed, None) {
            Some(after) => Outcome::Retry { after, why },
            None => {
                let message = format!("given up after {attempt} attempts: {}", why.message);
                Outcome::Dead(Failure::new(ErrorClass::Exhausted, message).with_answer(why.answered))
            }
        }
    }
}

/// `base` moved by up to `percent` up or down, as `random` says.
fn jitter(base: Duration, percent: u32, random: u64) -> Duration {
    let percent = u64::from(percent.min(100));
    let base_ms = u64::try_from(base.as_millis()).unwrap_or(u64::MAX / 400);
    let span = base_ms.saturating_mul(percent) / 100;
    let moved = if span == 0 { 0 } else { random % (2 * span + 1) };
    Duration::from_millis(base_ms - span + moved)
}

/// SplitMix64's finaliser: spreads a seed over all bits.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_attempt_has_no_delay_behind_it() {
        let schedule = Schedule::doubling(3, Duration::from_secs(1), Duration::from_secs(60));
        assert!(schedule.after(1, 7, None).is_some());
        assert!(schedule.after(2, 7, None).is_some());
        assert_eq!(schedule.after(3, 7, None), None);
    }

    #[test]
    fn a_target_overrides_attempts_or_delay_and_the_rest_follows() {
        let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        let policy = Schedule { attempts: 4, delays: seconds(&[5, 300, 1800]), jitter_percent: 10 };
        let longest = Duration::from_secs(12);
        assert_eq!(policy.overridden(None, None, longest), policy);
        let fewer = policy.overridden(Some(3), None, longest);
        assert_eq!((fewer.attempts, fewer.delays), (3, seconds(&[5, 10])));
        let slower = policy.overridden(None, Some(Duration::from_secs(4)), longest);
        assert_eq!((slower.attempts, slower.delays), (4, seconds(&[4, 8, 12])));
    }

    #[test]
    fn a_retry_after_is_never_undercut() {
        let schedule = Schedule::doubling(8, Duration::from_secs(1), Duration::from_secs(60));
        let asked = Duration::from_secs(120);
        assert_eq!(schedule.after(1, 1, Some(asked)), Some(asked));
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_jitter(attempt in 1u32..8, seed: u64) {
            let schedule = Schedule::doubling(9, Duration::from_secs(1), Duration::from_secs(3600));
            let base = Duration::from_secs(1 << (attempt - 1));
            let delay = schedule.after(attempt, seed, None).expect("not the last");
            prop_assert!(delay >= base.mul_f64(0.9) && delay <= base.mul_f64(1.1));
            prop_assert_eq!(Some(delay), schedule.after(attempt, seed, None));
        }
    }
}
