//! Signatures: Standard Webhooks 1.0 (`webhook-signature`), and the plain HMAC of the body that older receivers
//! check (`X-Webhook-Signature`). Pure.
//!
//! A secret is text. For `webhook-signature` its key is what the Standard Webhooks libraries make of that text:
//! an optional `whsec_` in front of base64; text that isn't base64 is the key as it stands. For
//! `X-Webhook-Signature` the key is the text itself, as given or shown. A key pair of ours (`v1a`) signs
//! `webhook-signature` alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::crypto::{Secret, SigningKey};
use crate::store::webhooks::{SignatureScheme, SigningSecret};

/// What Standard Webhooks puts in front of a symmetric secret.
const PREFIX: &str = "whsec_";

/// Bytes of an HMAC-SHA256, and of a signature by a key pair.
const MAC: usize = 32;
const SIGNATURE: usize = 64;

/// One secret of an endpoint, ready to sign.
#[derive(Debug)]
pub(super) struct Signer {
    keys: Keys,
    /// Until when it signs, epoch milliseconds; `None` is for good.
    expires_at: Option<i64>,
}

/// What one secret stands for. Shared ones are scheduled: of a body of some hundred bytes that is a quarter of the work.
#[derive(Debug)]
enum Keys {
    Shared { standard: Box<Secret<Hmac<Sha256>>>, plain: Box<Secret<Hmac<Sha256>>> },
    Pair(SigningKey),
}

impl Signer {
    /// The signer that `secret` makes, or in words why it makes none.
    pub(super) fn of(secret: &SigningSecret) -> Result<Self, String> {
        let keys = match secret.scheme() {
            SignatureScheme::Hmac => Keys::shared(&secret.secret),
            SignatureScheme::Ed25519 => {
                Keys::Pair(SigningKey::read(&secret.secret).map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { keys, expires_at: secret.expires_at })
    }

    fn signs(&self, now_ms: i64) -> bool {
        self.expires_at.is_none_or(|end| end > now_ms)
    }
}

impl Keys {
    fn shared(secret: &Secret<String>) -> Self {
        let text = secret.expose();
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let standard = STANDARD.decode(encoded).unwrap_or_else(|_| text.as_bytes().to_vec());
        Self::Shared { standard: scheduled(&standard), plain: scheduled(text.as_bytes()) }
    }
}

/// Adds the value of `webhook-signature` at `now_ms` to `text`: for each of `signers` that hasn't expired `v1,` and the
/// base64 of HMAC-SHA256, or `v1a,` and that of ed25519, over `id.timestamp.body`, with spaces between. The timestamp is
/// in seconds.
pub(super) fn standard(text: &mut BytesMut, signers: &[Signer], id: &str, now_ms: i64, body: &[u8]) {
    let start = format!("{id}.{}.", now_ms.div_euclid(1_000));
    let active = signers.iter().filter(|signer| signer.signs(now_ms));
    for (at, signer) in active.enumerate() {
        if at > 0 {
            text.put_u8(b' ');
        }
        match &signer.keys {
            Keys::Shared { standard, .. } => {
                text.extend_from_slice(b"v1,");
                base64(text, &hmac(standard.expose(), &[start.as_bytes(), body]));
            }
            Keys::Pair(key) => {
                text.extend_from_slice(b"v1a,");
                base64(text, key.sign(&[start.as_bytes(), body].concat()).as_ref());
            }
        }
    }
}

/// Adds the value of `X-Webhook-Signature` at `now_ms` to `text`: `sha256=` and the hex of HMAC-SHA256 over the body, with
/// the first of `signers` that is a shared secret and hasn't expired. False when there is none.
pub(super) fn plain(text: &mut BytesMut, signers: &[Signer], now_ms: i64, body: &[u8]) -> bool {
    let active = signers.iter().filter(|signer| signer.signs(now_ms));
    let newest = active.map(|signer| &signer.keys).find_map(|keys| match keys {
        Keys::Shared { plain, .. } => Some(plain),
        Keys::Pair(_) => None,
    });
    let Some(newest) = newest else { return false };
    let mut digits = [0; 2 * MAC];
    hex::encode_to_slice(hmac(newest.expose(), &[body]), &mut digits).expect("a byte has two digits");
    text.extend_from_slice(b"sha256=");
    text.extend_from_slice(&digits);
    true
}

fn base64(text: &mut BytesMut, signature: &[u8]) {
    let mut digits = [0; 4 * SIGNATURE.div_ceil(3)];
    let written = STANDARD.encode_slice(signature, &mut digits).expect("signatures have 64 bytes at most");
    text.extend_from_slice(&digits[..written]);
}

fn scheduled(key: &[u8]) -> Box<Secret<Hmac<Sha256>>> {
    Secret::new(Hmac::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)")).into()
}

fn hmac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; MAC] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(signers: &[Signer], id: &str, now_ms: i64, body: &[u8]) -> String {
        let mut text = BytesMut::new();
        super::standard(&mut text, signers, id, now_ms, body);
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn plain(signers: &[Signer], now_ms: i64, body: &[u8]) -> Option<String> {
        let mut text = BytesMut::new();
        let there = super::plain(&mut text, signers, now_ms, body);
        there.then(|| String::from_utf8(text.to_vec()).unwrap())
    }

    fn signer(secret: &str, expires_at: Option<i64>) -> Signer {
        let secret = Secret::new(secret.to_owned());
        Signer::of(&SigningSecret { secret, created_at: 0, expires_at, request: None }).unwrap()
    }

    #[test]
    fn the_published_example_comes_out() {
        let signature = standard(
            &[signer("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", None)],
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553_999,
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn every_secret_signs_until_it_expires() {
        let signers = [signer("whsec_AAAA", None), signer("a secret of one's own", Some(9_000))];
        let both = standard(&signers, "evt_1", 8_999, b"{}");
        let foreign = standardwebhooks::Webhook::from_bytes(b"a secret of one's own".to_vec()).unwrap();
        assert_eq!(both.split(' ').nth(1), Some(foreign.sign("evt_1", 8, b"{}").unwrap().as_str()));
        let one = standard(&signers, "evt_1", 9_000, b"{}");
        assert_eq!(one, standard(&signers[..1], "evt_1", 9_000, b"{}"));
    }

    #[test]
    fn a_key_pair_signs_what_its_public_key_verifies() {
        use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
        let key = SigningKey::generate().unwrap();
        let signers = [signer(key.private().unwrap().expose(), None), signer("whsec_AAAA", None)];
        let both = standard(&signers, "evt_1", 7_000, b"{}");
        let (pair, shared) = both.split_once(' ').unwrap();
        let signature = STANDARD.decode(pair.strip_prefix("v1a,").unwrap()).unwrap();
        let public = STANDARD.decode(key.public().strip_prefix("whpk_").unwrap()).unwrap();
        UnparsedPublicKey::new(&ED25519, public).verify(b"evt_1.7.{}", &signature).unwrap();
        assert_eq!(shared, standard(&signers[1..], "evt_1", 7_000, b"{}"));
        assert_eq!(plain(&signers, 7_000, b"{}"), plain(&signers[1..], 7_000, b"{}"));
        assert_eq!(plain(&signers[..1], 7_000, b"{}"), None);
    }

    #[test]
    fn the_plain_signature_is_keyed_by_the_text() {
        // printf '{}' | openssl dgst -sha256 -hmac 'whsec_AAAA'
        assert_eq!(
            plain(&[signer("whsec_AAAA", None)], 1, b"{}").unwrap(),
            "sha256=be82b4032f683bd9abd5e7d6e03c84fff89c5d2219dad97a6c3130bcab2a28d1"
        );
        assert!(!format!("{:?}", signer("hunter2hunter2", None)).contains("hunter2"));
    }
}
