//! Does seldom what takes long.

use std::time::{Duration, Instant};

/// What takes less is done whenever somebody wants it.
const NOTHING: Duration = Duration::from_millis(1);

/// Something that grows with what there is to look at, and may take one part in so many of the engine's time.
#[derive(Debug)]
pub(super) struct Sparing {
    share: u32,
    /// It is done as often as this, whatever it costs.
    at_least: Duration,
    next: Option<Instant>,
}

impl Sparing {
    /// It may take one part in `share` of the time, but waits no longer than `at_least`.
    pub(super) fn new(share: u32, at_least: Duration) -> Self {
        Self { share, at_least, next: None }
    }

    /// How long it has to wait, if it has to.
    pub(super) fn wait(&self) -> Option<Duration> {
        let wait = self.next?.saturating_duration_since(Instant::now());
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// It was done; it began at `began`.
    pub(super) fn done(&mut self, began: Instant) {
        let (now, took) = (Instant::now(), began.elapsed());
        self.next = (took >= NOTHING).then(|| now + (took * self.share).min(self.at_least));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_waits_a_multiple_of_it_and_what_did_not_never() {
        let mut sparing = Sparing::new(50, Duration::from_secs(450));
        assert_eq!(sparing.wait(), None);
        let now = Instant::now();
        sparing.done(now.checked_sub(Duration::from_secs(10)).expect("the machine runs for longer"));
        let wait = sparing.wait().expect("it waits");
        assert!(wait > Duration::from_secs(400) && wait <= Duration::from_secs(450));
        sparing.done(Instant::now() + Duration::from_secs(1));
        assert_eq!(sparing.wait(), None);
    }
}
