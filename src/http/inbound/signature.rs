//! Checking the signature of a webhook that was sent to us: Standard Webhooks 1.0, and the plain HMAC of the body that
//! older senders know. Pure; the time comes in as an argument.
//!
//! What a secret's key is follows the Standard Webhooks libraries: an optional `whsec_` before base64; text that isn't
//! base64 is the key as it stands. For the plain form the key is the secret's text. A MAC is compared in constant time.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};

use crate::crypto::Secret;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const PLAIN: HeaderName = HeaderName::from_static("x-webhook-signature");

/// What Standard Webhooks puts in front of a symmetric secret.
const PREFIX: &str = "whsec_";
/// The longest `webhook-id`, in characters.
const LONGEST_ID: usize = 255;
/// Signatures of one request that are looked at: a sender has at most this many secrets live.
const MOST_SIGNATURES: usize = 20;

/// The keys that one secret stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    standard: Secret<Vec<u8>>,
    plain: Secret<Vec<u8>>,
}

impl Keys {
    pub(super) fn of(secret: &Secret<String>) -> Self {
        let text = secret.expose();
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let standard = STANDARD.decode(encoded).unwrap_or_else(|_| text.as_bytes().to_vec());
        Self { standard: Secret::new(standard), plain: Secret::new(text.as_bytes().to_vec()) }
    }

    /// Whether a MAC made with one of these keys can't be told from one that is made with the other's: also of one secret
    /// in two spellings.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let is_same =
            |of: fn(&Self) -> &Secret<Vec<u8>>| block(of(self).expose()) == block(of(other).expose());
        is_same(|keys| &keys.standard) || is_same(|keys| &keys.plain)
    }

    /// How long its keys are, in bytes: the shorter of the two.
    pub(super) fn bytes(&self) -> usize {
        self.standard.expose().len().min(self.plain.expose().len())
    }
}

/// Why a signature isn't looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A header is missing.
    Missing(&'static str),
    /// A header can't be read.
    Unreadable(&'static str),
    /// Its time lies too far from ours.
    Stale,
}

/// The headers of a Standard Webhooks request, its time already checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standard<'a> {
    /// The message's id, the same on every attempt.
    pub(super) id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
}

impl<'a> Standard<'a> {
    /// The headers of a request that came at `now_ms`.
    pub(super) fn read(headers: &'a HeaderMap, now_ms: i64, tolerance: Duration) -> Result<Self, Unusable> {
        let id = text(headers, &ID, "webhook-id")?;
        let timestamp = text(headers, &TIMESTAMP, "webhook-timestamp")?;
        let signatures = text(headers, &SIGNATURE, "webhook-signature")?;
        if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unusable::Unreadable("webhook-id"));
        }
        let unreadable = Unusable::Unreadable("webhook-timestamp");
        if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unreadable);
        }
        let seconds: u64 = timestamp.parse().map_err(|_| unreadable)?;
        let now = u64::try_from(now_ms.div_euclid(1_000)).unwrap_or_default();
        if seconds.abs_diff(now) > tolerance.as_secs() {
            return Err(Unusable::Stale);
        }
        Ok(Self { id, timestamp, signatures })
    }

    /// Whether one of the signatures is made of `body` with one of `keys`.
    pub(super) fn is_by(&self, keys: &[Keys], body: &[u8]) -> bool {
        let given: Vec<Vec<u8>> = self
            .signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(MOST_SIGNATURES)
            .filter_map(|encoded| STANDARD.decode(encoded).ok())
            .collect();
        let head = format!("{}.{}.", self.id, self.timestamp);
        !given.is_empty()
            && keys.iter().any(|keys| {
                let mac = mac(keys.standard.expose(), &[head.as_bytes(), body]);
                given.iter().any(|given| mac.clone().verify_slice(given).is_ok())
            })
    }
}

/// The MAC that the header of the plain form holds.
pub(super) fn plain(headers: &HeaderMap) -> Result<Vec<u8>, Unusable> {
    const NAME: &str = "X-Webhook-Signature";
    let hexadecimal = text(headers, &PLAIN, NAME)?.strip_prefix("sha256=");
    hexadecimal.and_then(|digits| hex::decode(digits).ok()).ok_or(Unusable::Unreadable(NAME))
}

/// Whether `given` is the plain MAC of `body` with one of `keys`.
pub(super) fn is_plainly_by(given: &[u8], keys: &[Keys], body: &[u8]) -> bool {
    keys.iter().any(|keys| mac(keys.plain.expose(), &[body]).verify_slice(given).is_ok())
}

/// A key as HMAC uses it (RFC 2104): hashed if it is longer than a block, and filled up with zeros, which are left out here.
fn block(key: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut key = if key.len() > BLOCK { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let behind = key.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    key.truncate(behind);
    key
}

fn text<'a>(headers: &'a HeaderMap, header: &HeaderName, name: &'static str) -> Result<&'a str, Unusable> {
    let value = headers.get(header).ok_or(Unusable::Missing(name))?;
    value.to_str().map_err(|_| Unusable::Unreadable(name))
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"orderId":"o-1","status":"paid"}"#;
    const NOW: i64 = 1_760_000_000;
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn keys(secret: &str) -> Keys {
        Keys::of(&Secret::new(secret.to_owned()))
    }

    /// The headers that the Standard Webhooks library would send.
    fn signed(secret: &str, id: &str, timestamp: i64) -> HeaderMap {
        let hook = standardwebhooks::Webhook::new(secret).unwrap();
        let signature = hook.sign(id, timestamp, BODY).unwrap();
        HeaderMap::from_iter([
            (ID, id.parse().unwrap()),
            (TIMESTAMP, timestamp.to_string().parse().unwrap()),
            (SIGNATURE, signature.parse().unwrap()),
        ])
    }

    fn read(headers: &HeaderMap) -> Result<Standard<'_>, Unusable> {
        Standard::read(headers, NOW * 1_000 + 999, TOLERANCE)
    }

    #[test]
    fn what_the_library_signs_is_taken_with_any_live_secret_and_with_no_other() {
        let headers = signed(SECRET, "msg_1", NOW);
        let standard = read(&headers).unwrap();
        assert_eq!(standard.id, "msg_1");
        assert!(standard.is_by(&[keys("whsec_AAAAAAAAAAAAAAAAAAAAAAAA"), keys(SECRET)], BODY));
        assert!(!standard.is_by(&[keys("whsec_AAAAAAAAAAAAAAAAAAAAAAAA")], BODY));
        assert!(!standard.is_by(&[], BODY));
        assert!(!standard.is_by(&[keys(SECRET)], br#"{"orderId":"o-1","status":"void"}"#));

        let mut other = headers.clone();
        other.insert(ID, "msg_2".parse().unwrap());
        assert!(!read(&other).unwrap().is_by(&[keys(SECRET)], BODY), "the id is signed");
        let mut other = headers.clone();
        other.insert(TIMESTAMP, (NOW + 1).to_string().parse().unwrap());
        assert!(!read(&other).unwrap().is_by(&[keys(SECRET)], BODY), "the time is signed");

        let right = headers[SIGNATURE].to_str().unwrap();
        let both = format!("v1,AAAA v1a,{} {right}", &right[3..]);
        let mut several = headers.clone();
        several.insert(SIGNATURE, both.parse().unwrap());
        assert!(read(&several).unwrap().is_by(&[keys(SECRET)], BODY), "one of several signatures will do");
        for wrong in ["", "v1,", "v1", &right[..20], &right[3..], &format!("v2,{}", &right[3..])] {
            several.insert(SIGNATURE, wrong.parse().unwrap());
            assert!(!read(&several).unwrap().is_by(&[keys(SECRET)], BODY), "{wrong}");
        }
    }

    #[test]
    fn a_time_outside_the_tolerance_is_stale_and_one_that_is_none_is_refused() {
        for (timestamp, fresh) in
            [(NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false)]
        {
            let headers = signed(SECRET, "msg_1", timestamp);
            assert_eq!(read(&headers).map(drop), if fresh { Ok(()) } else { Err(Unusable::Stale) });
        }
        let mut headers = signed(SECRET, "msg_1", NOW);
        for wrong in ["", "-9223372036854775808", "+1760000000", "1760000000.5", "99999999999999999999999"] {
            headers.insert(TIMESTAMP, wrong.parse().unwrap());
            assert_eq!(read(&headers).unwrap_err(), Unusable::Unreadable("webhook-timestamp"), "{wrong}");
        }
        for name in [ID, TIMESTAMP, SIGNATURE] {
            let mut headers = signed(SECRET, "msg_1", NOW);
            headers.remove(&name);
            assert!(matches!(read(&headers), Err(Unusable::Missing(missing)) if missing == name.as_str()));
        }
        let mut headers = signed(SECRET, "msg_1", NOW);
        headers.insert(ID, "x".repeat(256).parse().unwrap());
        assert_eq!(read(&headers).unwrap_err(), Unusable::Unreadable("webhook-id"));
    }

    #[test]
    fn one_key_in_two_spellings_is_one_key() {
        let bare = SECRET.strip_prefix("whsec_").expect("it has a prefix");
        let long = "x".repeat(100);
        let hashed = STANDARD.encode(Sha256::digest(STANDARD.decode(&long).expect("it is base64")));
        for (a, b, alike) in [
            (SECRET, SECRET, true),
            (SECRET, bare, true),
            (long.as_str(), hashed.as_str(), true),
            ("whsec_QUFBQUFBQUFBQUFBQUFBQQ==", "whsec_QUFBQUFBQUFBQUFBQUFBQQAA", true),
            (SECRET, "whsec_AAAAAAAAAAAAAAAAAAAAAAAB", false),
        ] {
            assert_eq!(keys(a).is_alike(&keys(b)), alike, "{a} and {b}");
            let signed = signed(a, "msg_1", NOW);
            assert_eq!(read(&signed).unwrap().is_by(&[keys(b)], BODY), alike, "{a} and {b}");
        }
    }

    #[test]
    fn the_plain_form_is_keyed_by_the_secrets_text() {
        // printf '{}' | openssl dgst -sha256 -hmac 'whsec_AAAA'
        let value = "sha256=be82b4032f683bd9abd5e7d6e03c84fff89c5d2219dad97a6c3130bcab2a28d1";
        let headers = HeaderMap::from_iter([(PLAIN, value.parse().unwrap())]);
        let given = plain(&headers).unwrap();
        assert!(is_plainly_by(&given, &[keys(SECRET), keys("whsec_AAAA")], b"{}"));
        assert!(!is_plainly_by(&given, &[keys("whsec_AAAA")], b"{} "));
        assert!(!is_plainly_by(&given[..16], &[keys("whsec_AAAA")], b"{}"), "a cut MAC is none");
        assert!(!is_plainly_by(&[], &[keys("whsec_AAAA")], b"{}"));
        assert_eq!(plain(&HeaderMap::new()).unwrap_err(), Unusable::Missing("X-Webhook-Signature"));
        let headers = HeaderMap::from_iter([(PLAIN, "be82b4".parse().unwrap())]);
        assert_eq!(plain(&headers).unwrap_err(), Unusable::Unreadable("X-Webhook-Signature"));
    }
}
