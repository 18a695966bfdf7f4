//! Signatures: Standard Webhooks 1.0 (`webhook-signature`), and the plain HMAC of the body that older receivers
//! check (`X-Webhook-Signature`). Pure.
//!
//! A secret is text. For `webhook-signature` its key is what the Standard Webhooks libraries make of that text:
//! an optional `whsec_` in front of base64; text that isn't base64 is the key as it stands. For
//! `X-Webhook-Signature` the key is the text itself, as given or shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::crypto::Secret;

/// What Standard Webhooks puts in front of a symmetric secret.
const PREFIX: &str = "whsec_";

/// The keys that one secret stands for.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    standard: Secret<Vec<u8>>,
    plain: Secret<Vec<u8>>,
}

impl Keys {
    /// The keys of `secret`.
    pub(super) fn of(secret: &Secret<String>) -> Self {
        let text = secret.expose();
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let standard = STANDARD.decode(encoded).unwrap_or_else(|_| text.as_bytes().to_vec());
        Self { standard: Secret::new(standard), plain: Secret::new(text.as_bytes().to_vec()) }
    }
}

/// The value of `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, once for each
/// of `keys` with spaces between. `timestamp` is in seconds.
pub(super) fn standard(keys: &[Keys], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signed = |keys: &Keys| {
        let start = format!("{id}.{timestamp}.");
        format!("v1,{}", STANDARD.encode(hmac(keys.standard.expose(), &[start.as_bytes(), body])))
    };
    keys.iter().map(signed).collect::<Vec<_>>().join(" ")
}

/// The value of `X-Webhook-Signature`: `sha256=` and the hex of HMAC-SHA256 over the body.
pub(super) fn plain(keys: &Keys, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac(keys.plain.expose(), &[body])))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secret: &str) -> Keys {
        Keys::of(&Secret::new(secret.to_owned()))
    }

    #[test]
    fn the_published_example_comes_out() {
        let signature = standard(
            &[keys("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")],
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn every_active_secret_signs() {
        let both = standard(&[keys("whsec_AAAA"), keys("a secret of one's own")], "evt_1", 7, b"{}");
        let one = standard(&[keys("a secret of one's own")], "evt_1", 7, b"{}");
        assert_eq!(both.split(' ').nth(1), Some(one.as_str()));
        let foreign = standardwebhooks::Webhook::from_bytes(b"a secret of one's own".to_vec()).unwrap();
        assert_eq!(one, foreign.sign("evt_1", 7, b"{}").unwrap());
    }

    #[test]
    fn the_plain_signature_is_keyed_by_the_text() {
        // printf '{}' | openssl dgst -sha256 -hmac 'whsec_AAAA'
        assert_eq!(
            plain(&keys("whsec_AAAA"), b"{}"),
            "sha256=be82b4032f683bd9abd5e7d6e03c84fff89c5d2219dad97a6c3130bcab2a28d1"
        );
        assert!(!format!("{:?}", keys("hunter2hunter2")).contains("hunter2"));
    }
}
