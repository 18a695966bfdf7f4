//! At most so many a second, over everything that runs side by side.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Hands out moments at a fixed distance.
#[derive(Debug)]
pub(super) struct Pace {
    step: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// `per_second` moments a second; without, no bound.
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let step = per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { step, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next moment.
    pub(super) async fn turn(&self) {
        if !self.step.is_zero() {
            tokio::time::sleep_until(self.book(Instant::now())).await;
        }
    }

    /// The moment that is given to whoever asks at `now`.
    fn book(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        *next = at + self.step;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_distance_and_what_was_not_used_is_gone() {
        let (pace, now) = (Pace::new(Some(10.0)), Instant::now() + Duration::from_secs(1));
        let step = Duration::from_millis(100);
        assert_eq!([pace.book(now), pace.book(now), pace.book(now)], [now, now + step, now + 2 * step]);
        let later = now + Duration::from_secs(5);
        assert_eq!([pace.book(later), pace.book(later)], [later, later + step]);
    }
}
