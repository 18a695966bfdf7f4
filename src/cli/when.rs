//! Times on the command line: RFC 3339, or how long ago.

use humantime_serde::re::humantime;

use crate::clock::Clock;

/// Epoch milliseconds of a time (`2026-01-31T12:00:00Z`), or of so long ago (`2h`).
///
/// # Errors
/// Says which forms there are.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    parse_at(text, Clock::system().now_ms())
}

fn parse_at(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "expected a time as 2026-01-31T12:00:00Z, or how long ago, as 2h".to_owned())?;
    Ok(now_ms - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let now_ms = 1_800_000_000_000;
        assert_eq!(parse_at("1970-01-01T00:00:01Z", now_ms), Ok(1_000));
        assert_eq!(parse_at("2h", now_ms), Ok(now_ms - 7_200_000));
        assert!(parse_at("yesterday", now_ms).is_err());
    }
}
