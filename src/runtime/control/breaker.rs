//! The dead-letter breaker: when most of what ends is dead-lettered, the fault is rarely with the records. Pure.
//!
//! A sliding window of equal buckets counts how many tasks ended with an effect and how many were dead-lettered. Skipped
//! records don't count: a stage that takes one type of ten would never trip. Times are epoch milliseconds, passed in.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

/// Into how many buckets the window is cut: how exactly it slides.
const BUCKETS: i64 = 30;

/// When a stage pauses itself (`[runtime.breaker]`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerOptions {
    /// The share of dead letters among the tasks that ended within the window, from which on the stage pauses itself; above
    /// 1 it never does.
    pub share: f64,
    /// Below this many dead letters within the window it doesn't, whatever their share.
    pub at_least: u64,
    /// How far back is looked.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { share: 0.5, at_least: 50, window: Duration::from_secs(60) }
    }
}

/// Counts what ended within the window.
#[derive(Debug)]
pub(super) struct Breaker {
    options: BreakerOptions,
    /// Number of the bucket since the epoch, tasks done, tasks dead.
    buckets: VecDeque<(i64, u64, u64)>,
}

impl Breaker {
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self { options, buckets: VecDeque::new() }
    }

    /// Notes endings; says why to pause when there is too much dead among them. Having said so it begins anew.
    pub(super) fn note(&mut self, now_ms: i64, done: u64, dead: u64) -> Option<String> {
        let width = (i64::try_from(self.options.window.as_millis()).unwrap_or(i64::MAX) / BUCKETS).max(1);
        let number = now_ms / width;
        while self.buckets.front().is_some_and(|(first, ..)| *first <= number - BUCKETS) {
            self.buckets.pop_front();
        }
        match self.buckets.back_mut() {
            Some((last, known_done, known_dead)) if *last >= number => {
                *known_done += done;
                *known_dead += dead;
            }
            Some(_) | None => self.buckets.push_back((number, done, dead)),
        }
        if dead == 0 {
            return None;
        }
        let (done, dead) =
            self.buckets.iter().fold((0, 0), |(done, dead), bucket| (done + bucket.1, dead + bucket.2));
        let share = dead as f64 / (done + dead) as f64;
        if dead < self.options.at_least || share < self.options.share {
            return None;
        }
        self.buckets.clear();
        Some(format!(
            "{dead} of {} tasks that ended within {} were dead-lettered",
            done + dead,
            humantime_serde::re::humantime::format_duration(self.options.window)
        ))
    }

    /// Forgets what it counted.
    pub(super) fn reset(&mut self) {
        self.buckets.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker(share: f64, at_least: u64, window: u64) -> Breaker {
        Breaker::new(BreakerOptions { share, at_least, window: Duration::from_secs(window) })
    }

    #[test]
    fn it_trips_on_the_share_once_there_are_enough() {
        let mut breaker = breaker(0.5, 10, 60);
        assert_eq!(breaker.note(0, 0, 9), None, "too few to tell");
        assert_eq!(breaker.note(1_000, 20, 1), None, "most of it works");
        let why = breaker.note(2_000, 0, 15).expect("25 of 45");
        assert!(why.starts_with("25 of 45 ") && why.contains("1m"), "{why}");
        assert_eq!(breaker.note(2_000, 0, 9), None, "it began anew");
    }

    #[test]
    fn what_left_the_window_no_longer_counts() {
        let mut breaker = breaker(0.5, 10, 60);
        assert_eq!(breaker.note(0, 0, 9), None);
        assert_eq!(breaker.note(61_000, 0, 9), None);
        assert!(breaker.note(62_000, 0, 1).is_some());
    }

    #[test]
    fn a_share_above_one_switches_it_off() {
        let mut breaker = breaker(1.1, 1, 60);
        assert_eq!(breaker.note(0, 0, 1_000_000), None);
    }

    proptest! {
        /// Against a list of everything: never trips below the bounds, and holds no more than its buckets.
        #[test]
        fn it_never_trips_below_its_bounds(
            steps in prop::collection::vec((0i64..5_000, 0u64..20, 0u64..20), 1..100),
        ) {
            let mut breaker = breaker(0.6, 25, 60);
            let (mut now, mut all) = (0, Vec::new());
            for (step, done, dead) in steps {
                now += step;
                all.push((now, done, dead));
                let within: Vec<_> = all.iter().filter(|(at, ..)| *at > now - 62_000).collect();
                let dead_within: u64 = within.iter().map(|(.., dead)| dead).sum();
                match breaker.note(now, done, dead) {
                    Some(_) => {
                        prop_assert!(dead_within >= 25);
                        all.clear();
                    }
                    None => prop_assert!(breaker.buckets.len() <= BUCKETS as usize),
                }
            }
        }
    }
}
