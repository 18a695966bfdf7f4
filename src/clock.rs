//! The one place that reads the time.
//!
//! Decision code takes the time as an argument; shells ask a [`Clock`]. Tests hand in a manual clock and
//! move it. Clocks never name an effect: ids come from events, not from when they were handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Tells the time, and waits. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Epoch milliseconds of a manual clock; `None` reads the system's.
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands at `epoch_ms` until [`Clock::advance`] moves it.
    pub fn manual(epoch_ms: i64) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(epoch_ms))) }
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(at) => at.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Moves a manual clock on; a system clock is not ours to move and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(at) = &self.manual {
            at.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        }
    }

    /// Waits for `duration` of real (tokio) time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// `epoch_ms` as RFC 3339 in UTC with milliseconds, the form of every time in our JSON.
pub fn rfc3339(epoch_ms: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    PRINTER.timestamp_to_string(&Timestamp::from_millisecond(epoch_ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now_ms(), 3_000);
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
