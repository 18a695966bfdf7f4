//! Which headers an endpoint may have besides ours. Pure.

use std::collections::BTreeMap;

use super::rules::Faults;
use crate::crypto::Secret;
use crate::store::webhooks::Headers;

const MOST: usize = 20;
const MOST_NAME_BYTES: usize = 64;
const MOST_VALUE_BYTES: usize = 2_048;
const MOST_BYTES: usize = 8_192;

/// Headers that we write, or that belong to the connection or to proxies.
const OURS: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "user-agent",
    "traceparent",
    "tracestate",
    "forwarded",
    "via",
    "date",
];
/// Families of such headers.
const OUR_FAMILIES: &[&str] = &["content-", "accept-", "proxy-", "webhook-", "x-webhook-", "x-forwarded-"];

/// The headers by their names in lower case; what is wrong with them goes to `faults`.
pub(super) fn check(given: &BTreeMap<String, Secret<String>>, faults: &mut Faults) -> Headers {
    let mut headers = Headers::new();
    if given.len() > MOST {
        faults.add("headers", format!("must be at most {MOST}"));
        return headers;
    }
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
    if bytes > MOST_BYTES {
        faults.add("headers", format!("must have at most {MOST_BYTES} bytes in all"));
    }
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let shown: String = name.chars().take(MOST_NAME_BYTES).collect();
        match checked(&lower, value.expose()) {
            Err(message) => faults.add(format!("headers.{shown}"), message),
            Ok(()) if headers.insert(lower, value.clone()).is_some() => {
                faults.add(format!("headers.{shown}"), "is there twice: names are the same in any case");
            }
            Ok(()) => {}
        }
    }
    headers
}

/// RFC 9110: a name is a token, a value visible ASCII with spaces or tabs within.
fn checked(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MOST_NAME_BYTES || !name.bytes().all(is_token) {
        return Err(format!("must be a header's name of at most {MOST_NAME_BYTES} characters"));
    }
    if OURS.contains(&name) || OUR_FAMILIES.iter().any(|family| name.starts_with(family)) {
        return Err("is not one that an endpoint may set".to_owned());
    }
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    if value.len() > MOST_VALUE_BYTES || value.trim() != value || !value.bytes().all(is_text) {
        return Err(format!("must have a value of at most {MOST_VALUE_BYTES} printable ASCII characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_sets_headers_of_its_own_and_none_of_ours() {
        for (name, value, right) in [
            ("Authorization", "Bearer abc.def", true),
            ("X-Api-Key", "", true),
            ("X-Note", "a b\tc", true),
            ("", "x", false),
            ("X Api", "x", false),
            ("X-Api:", "x", false),
            ("Hôte", "x", false),
            ("Host", "internal", false),
            ("Content-Length", "0", false),
            ("Transfer-Encoding", "chunked", false),
            ("Webhook-Signature", "v1,x", false),
            ("X-Webhook-Event", "x", false),
            ("X-Api", "a\r\nHost: b", false),
            ("X-Api", " a", false),
            ("X-Api", "é", false),
        ] {
            assert_eq!(checked(&name.to_ascii_lowercase(), value).is_ok(), right, "{name}: {value}");
        }
        assert!(checked("x", &"v".repeat(MOST_VALUE_BYTES + 1)).is_err());
        assert!(checked(&"n".repeat(MOST_NAME_BYTES + 1), "v").is_err());
    }
}
