//! How many requests a second an endpoint gets: the generic cell rate algorithm (ITU-T I.371), one number of memory.
//! Pure; the time is passed in.
//!
//! The engine asks before a start and tells when one happens, so asking must cost nothing: rate limiters that are to be
//! had (`governor`) take a cell by asking and read a clock of their own.

/// The time at which a next request would come if all came evenly, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace(i64);

/// Requests a second, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(pub(super) u32);

impl Rate {
    fn interval_ns(self) -> i64 {
        1_000_000_000 / i64::from(self.0.max(1))
    }

    /// How far a request may come before its time: a tenth of a second's requests may come at once.
    fn tolerance_ns(self) -> i64 {
        (i64::from(self.0 / 10).max(1) - 1) * self.interval_ns()
    }
}

impl Pace {
    /// When the next request may start, in epoch milliseconds, if not now.
    pub(super) fn not_before(self, rate: Rate, now_ms: i64) -> Option<i64> {
        let from_ns = self.0.saturating_sub(rate.tolerance_ns());
        let from_ms = from_ns.div_euclid(1_000_000) + i64::from(from_ns.rem_euclid(1_000_000) > 0);
        Some(from_ms).filter(|from_ms| *from_ms > now_ms)
    }

    /// A request starts.
    pub(super) fn starting(&mut self, rate: Rate, now_ms: i64) {
        self.0 = self.0.max(now_ms.saturating_mul(1_000_000)).saturating_add(rate.interval_ns());
    }

    /// Whether nothing is to be remembered.
    pub(super) fn is_idle(self, now_ms: i64) -> bool {
        self.0 <= now_ms.saturating_mul(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_a_second_is_one_a_second() {
        let (mut pace, rate) = (Pace::default(), Rate(1));
        assert_eq!(pace.not_before(rate, 5_000), None);
        pace.starting(rate, 5_000);
        assert_eq!(pace.not_before(rate, 5_000), Some(6_000));
        assert_eq!(pace.not_before(rate, 5_999), Some(6_000));
        assert_eq!(pace.not_before(rate, 6_000), None);
        assert!(!pace.is_idle(5_999) && pace.is_idle(6_000));
    }

    proptest! {
        /// Whoever always asks as soon as it may gets its rate: never more than a tenth beyond it in any second, and not
        /// noticeably less.
        #[test]
        fn any_second_holds_the_rate_and_its_tenth_and_no_second_is_wasted(rate in 1u32..3_000, begin in 0i64..10_000) {
            let (mut pace, limit, mut now) = (Pace::default(), Rate(rate), begin);
            let mut starts: Vec<i64> = Vec::new();
            while now < begin + 3_000 {
                match pace.not_before(limit, now) {
                    Some(at) => {
                        prop_assert!(at > now);
                        now = at;
                    }
                    None => {
                        pace.starting(limit, now);
                        starts.push(now);
                    }
                }
            }
            let burst = u64::from(rate / 10).max(1);
            // Starts are told by the millisecond: a second of them may be one longer at either end.
            let rounded = 2 + 2 * u64::from(rate) / 1_000;
            let mut behind = 0;
            for (first, at) in starts.iter().enumerate() {
                behind += starts[behind..].iter().take_while(|start| **start < at + 1_000).count();
                let within = behind - first;
                prop_assert!(within as u64 <= u64::from(rate) + burst + rounded, "{within} in a second at {rate}");
            }
            prop_assert!(starts.len() as u64 >= u64::from(rate) * 3, "{} in three seconds at {rate}", starts.len());
        }
    }
}
