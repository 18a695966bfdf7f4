//! What an attempt means: delivered, gone, or failed, and if failed, whose fault it is and how long the other
//! side asks us to wait. Pure; the time comes in as an argument.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::client::{Answer, AttemptError};

/// No `Retry-After` holds us off for longer than this.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(12 * 60 * 60);

/// What an attempt means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx, and the answer ended or filled its bound in time.
    Delivered,
    /// 410: the endpoint wants nothing more, ever.
    Gone,
    /// Anything else: tried again by schedule.
    Failed {
        /// Whose fault it is.
        blame: Blame,
        /// The other side asked to be left alone for so long.
        at_least: Option<Duration>,
        /// One sentence, without the other side's words.
        error: String,
    },
}

/// Whose fault a failed attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The endpoint is away or overloaded: no connection, no answer in time, 408, 429, 5xx.
    Endpoint,
    /// The endpoint works and refuses this event: other 4xx, 3xx.
    Event,
}

impl Verdict {
    /// The name in receipts, the log and `webhook_attempts_total`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Failed { blame: Blame::Endpoint, .. } => "failed",
            Self::Failed { blame: Blame::Event, .. } => "refused",
        }
    }

    /// Every name there is, for initialising metrics.
    pub(super) const NAMES: [&'static str; 4] = ["delivered", "gone", "failed", "refused"];

    /// What went wrong, in one sentence.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Delivered => None,
            Self::Gone => Some("answered 410: the endpoint is gone"),
            Self::Failed { error, .. } => Some(error),
        }
    }
}

/// Judges how an attempt ended, at `now_ms`.
pub(super) fn judge(ended: &Result<Answer, AttemptError>, now_ms: i64) -> Verdict {
    let answer = match ended {
        Ok(answer) => answer,
        Err(error) => {
            return Verdict::Failed { blame: Blame::Endpoint, at_least: None, error: error.to_string() };
        }
    };
    let blame = match answer.status {
        200..=299 => return Verdict::Delivered,
        410 => return Verdict::Gone,
        408 | 429 | 500.. => Blame::Endpoint,
        _ => Blame::Event,
    };
    let at_least = match answer.status {
        429 | 503 => answer.retry_after.as_deref().and_then(|value| retry_after(value, now_ms)),
        _ => None,
    };
    let error = match answer.status {
        300..=399 => format!("answered {}: redirects are not followed", answer.status),
        status => format!("answered {status}"),
    };
    Verdict::Failed { blame, at_least, error }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or an HTTP date; at most [`LONGEST_WAIT`]. What is neither, or
/// lies in the past, says nothing.
fn retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "very long", which is bounded anyway.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST_WAIT));
    }
    let due = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
    let wait = u64::try_from(due.as_millisecond().checked_sub(now_ms)?).ok()?;
    Some(Duration::from_millis(wait).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Verdict {
        let answer = Answer { status, retry_after: retry_after.map(str::to_owned), body: Vec::new() };
        judge(&Ok(answer), 0)
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status, None), Verdict::Delivered, "{status}");
        }
        assert_eq!(answered(410, None), Verdict::Gone);
        for (status, name) in [
            (301, "refused"),
            (304, "refused"),
            (400, "refused"),
            (401, "refused"),
            (404, "refused"),
            (408, "failed"),
            (422, "refused"),
            (429, "failed"),
            (500, "failed"),
            (503, "failed"),
            (599, "failed"),
        ] {
            assert_eq!(answered(status, None).as_str(), name, "{status}");
        }
        assert_eq!(judge(&Err(AttemptError::TimedOut), 0).as_str(), "failed");
    }

    #[test]
    fn retry_after_is_honoured_in_both_forms_and_bounded() {
        let wait = |status, value| match answered(status, Some(value)) {
            Verdict::Failed { at_least, .. } => at_least.map(|wait| wait.as_secs()),
            Verdict::Delivered | Verdict::Gone => None,
        };
        for (value, expected) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("999999", Some(43_200)),
            ("99999999999999999999999999", Some(43_200)),
            ("Thu, 01 Jan 1970 00:02:00 GMT", Some(120)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", Some(43_200)),
            ("Wed, 31 Dec 1969 23:59:00 GMT", None),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(429, value), expected, "{value:?}");
            assert_eq!(wait(503, value), expected, "{value:?}");
        }
        assert_eq!(wait(500, "120"), None, "only 429 and 503 may ask for it");
    }
}
