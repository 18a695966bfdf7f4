//! Growing pauses while something is away.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from a tenth of a second to five seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// True once a pause was asked for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.tries > 0
    }

    /// The next pause.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(2u32.saturating_pow(self.tries.min(16))).min(LONGEST);
        self.tries += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_waiting());
        let pauses: Vec<_> = (0..8).map(|_| backoff.next_pause()).collect();
        assert_eq!(pauses[0], FIRST);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses[7], LONGEST);
    }
}
