//! Times on the command line: RFC 3339, or how long ago.

use humantime_serde::re::humantime;

use crate::clock::Clock;

/// Epoch milliseconds of a time (`2026-01-31T12:00:00Z`), or of so long ago (`2h`).
///
/// # Errors
/// Says which forms there are.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "expected a time as 2026-01-31T12:00:00Z, or how long ago, as 2h".to_owned())?;
    Ok(Clock::system().now_ms() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(1_000));
        let ago = Clock::system().now_ms() - parse("2h").expect("a duration");
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        assert!(parse("yesterday").is_err());
    }
}
