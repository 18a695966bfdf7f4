//! Verifies a webhook as a partner would who has only the Standard Webhooks specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! Shares no code with the sender, on purpose: a mistake made there isn't made here again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A timestamp may be this many seconds off in either direction.
const TOLERANCE_SECONDS: i64 = 5 * 60;

/// Why a request isn't believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the secret isn't known yet")]
    NoSecret,
    #[error("the secret isn't base64")]
    BadSecret,
    #[error("webhook-timestamp isn't a number of seconds near now")]
    Timestamp,
    #[error("no signature of webhook-signature fits")]
    Signature,
}

/// Whether one of the space-separated `signatures` is the HMAC-SHA256 of `id.timestamp.body`.
pub(super) fn verify(
    secret: &str,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_ms: i64,
) -> Result<(), Doubt> {
    let sent: i64 = timestamp.parse().map_err(|_| Doubt::Timestamp)?;
    if (now_ms / 1000 - sent).abs() > TOLERANCE_SECONDS {
        return Err(Doubt::Timestamp);
    }
    let key =
        STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).map_err(|_| Doubt::BadSecret)?;
    let fits = |signature: &str| {
        let Some(claimed) = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok()) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.verify_slice(&claimed).is_ok()
    };
    if signatures.split(' ').any(fits) { Ok(()) } else { Err(Doubt::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const NOW_MS: i64 = 1_614_265_331_000;

    #[test]
    fn the_published_vector_verifies_also_among_others() {
        assert_eq!(verify(SECRET, ID, TIMESTAMP, SIGNATURE, BODY, NOW_MS), Ok(()));
        let several = format!("v1,AAAA v1a,xyz {SIGNATURE}");
        assert_eq!(verify(SECRET, ID, TIMESTAMP, &several, BODY, NOW_MS), Ok(()));
    }

    #[test]
    fn nothing_else_does() {
        let other_body = br#"{"test": 2432232315}"#;
        assert_eq!(verify(SECRET, ID, TIMESTAMP, SIGNATURE, other_body, NOW_MS), Err(Doubt::Signature));
        assert_eq!(verify(SECRET, "msg_2", TIMESTAMP, SIGNATURE, BODY, NOW_MS), Err(Doubt::Signature));
        assert_eq!(verify(SECRET, ID, "1614265331", SIGNATURE, BODY, NOW_MS), Err(Doubt::Signature));
        assert_eq!(verify("whsec_AAAA", ID, TIMESTAMP, SIGNATURE, BODY, NOW_MS), Err(Doubt::Signature));
        assert_eq!(verify(SECRET, ID, TIMESTAMP, "", BODY, NOW_MS), Err(Doubt::Signature));
        assert_eq!(verify(SECRET, ID, "soon", SIGNATURE, BODY, NOW_MS), Err(Doubt::Timestamp));
        let late = NOW_MS + 1000 * (TOLERANCE_SECONDS + 2);
        assert_eq!(verify(SECRET, ID, TIMESTAMP, SIGNATURE, BODY, late), Err(Doubt::Timestamp));
        assert_eq!(verify("not base64!", ID, TIMESTAMP, SIGNATURE, BODY, NOW_MS), Err(Doubt::BadSecret));
    }
}
