//! Times as they are written for people and other programs: RFC 3339 in UTC with milliseconds.
//!
//! Inside the program a time is a number of milliseconds since the epoch; this is the only place that converts.

use jiff::Timestamp;

/// The time as text, such as `2025-10-09T08:53:20.123Z`. Times beyond the calendar are cut to its ends.
pub fn rfc3339(epoch_ms: i64) -> String {
    let limit = if epoch_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(epoch_ms).unwrap_or(limit))
}

/// The milliseconds since the epoch that a text of RFC 3339 stands for.
pub fn epoch_ms(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Whether it is a time that can be written as text.
pub(super) fn is_in_calendar(epoch_ms: i64) -> bool {
    Timestamp::from_millisecond(epoch_ms).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_went() {
        for ms in [0, -1, 1_760_000_000_123] {
            assert_eq!(epoch_ms(&rfc3339(ms)), Some(ms));
        }
        assert_eq!(epoch_ms("2025-10-09T10:53:20+02:00"), Some(1_760_000_000_000));
        assert_eq!(epoch_ms("yesterday"), None);
        assert_eq!(rfc3339(i64::MAX), rfc3339(Timestamp::MAX.as_millisecond()));
    }
}
