//! The headers of a webhook request. Pure; the attempt's time comes in as an argument.

use std::fmt::Write as _;

use bytes::BytesMut;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::signature;
use super::target::Ready;

const AGENT: &str = concat!("orderflow/", env!("CARGO_PKG_VERSION"));

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const X_WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");
const X_WEBHOOK_EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
const X_WEBHOOK_ID: HeaderName = HeaderName::from_static("x-webhook-id");
const X_WEBHOOK_SEQUENCE: HeaderName = HeaderName::from_static("x-webhook-sequence");
const X_WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("x-webhook-attempt");
const X_WEBHOOK_RESEND: HeaderName = HeaderName::from_static("x-webhook-resend");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers that are not the endpoint's own, with those that the client and hyper add.
pub(super) const OURS: usize = 16;

/// Bytes of what is made for an attempt, with two secrets.
const ROOM: usize = 320;

/// What differs from one attempt to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// From 1.
    pub(super) attempt: u32,
    /// When it begins, epoch milliseconds.
    pub(super) now_ms: i64,
}

/// What is the same on every attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    /// The body's `id`.
    pub(super) webhook_id: &'a str,
    /// The type.
    pub(super) event: &'static str,
    /// What is signed and sent.
    pub(super) body: &'a [u8],
    /// Grows from event to event of an order: the record's offset.
    pub(super) sequence: i64,
    /// Whether it was delivered before, and somebody asked for it again.
    pub(super) resend: bool,
    /// The trace it belongs to.
    pub(super) traceparent: Option<&'a str>,
}

/// The headers of one attempt, put into `headers`, which is empty.
///
/// What is made for this attempt stands in one piece of memory of which each value is a part.
pub(super) fn headers(mut headers: HeaderMap, ready: &Ready, told: Told<'_>, moment: Moment) -> HeaderMap {
    debug_assert!(headers.is_empty(), "another endpoint's headers are its own");
    headers.reserve(ready.own_headers.len() + OURS);
    // The endpoint's own come first: whatever they are called, ours replace them.
    headers.extend(ready.own_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let mut text = BytesMut::with_capacity(ROOM);
    text.extend_from_slice(told.webhook_id.as_bytes());
    put(&mut headers, WEBHOOK_ID, &mut text);
    digits(&mut text, moment.now_ms.div_euclid(1_000));
    put(&mut headers, WEBHOOK_TIMESTAMP, &mut text);
    signature::standard(&mut text, &ready.signers, told.webhook_id, moment.now_ms, told.body);
    put(&mut headers, WEBHOOK_SIGNATURE, &mut text);
    if signature::plain(&mut text, &ready.signers, moment.now_ms, told.body) {
        put(&mut headers, X_WEBHOOK_SIGNATURE, &mut text);
    }
    headers.insert(X_WEBHOOK_EVENT, HeaderValue::from_static(told.event));
    headers.insert(X_WEBHOOK_ID, ready.id.clone());
    digits(&mut text, told.sequence);
    put(&mut headers, X_WEBHOOK_SEQUENCE, &mut text);
    digits(&mut text, moment.attempt);
    put(&mut headers, X_WEBHOOK_ATTEMPT, &mut text);
    if told.resend {
        headers.insert(X_WEBHOOK_RESEND, HeaderValue::from_static("true"));
    }
    if let Some(traceparent) = told.traceparent {
        text.extend_from_slice(traceparent.as_bytes());
        put(&mut headers, TRACEPARENT, &mut text);
    }
    headers
}

/// Takes the header called `name` from `text`.
fn put(headers: &mut HeaderMap, name: HeaderName, text: &mut BytesMut) {
    match HeaderValue::from_maybe_shared(text.split().freeze()) {
        Ok(value) => {
            headers.insert(name, value);
        }
        Err(_) => tracing::warn!(%name, "a webhook header's value isn't text and is left out"),
    }
}

fn digits(text: &mut BytesMut, number: impl std::fmt::Display) {
    write!(text, "{number}").expect("memory takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::webhook::target::tests::ready;

    fn shown(headers: &HeaderMap) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_headers_of_a_request_are_these_to_the_byte() {
        let ready = ready("wh_1", &[("x-token", "t-1"), ("user-agent", "theirs")]);
        let told = Told {
            webhook_id: "evt_1",
            event: "order.paid",
            body: b"{}",
            sequence: -7,
            resend: true,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        };
        let moment = Moment { attempt: 3, now_ms: 1_649_367_553_999 };
        let mut standard = BytesMut::new();
        signature::standard(&mut standard, &ready.signers, "evt_1", moment.now_ms, b"{}");
        let expected = [
            "x-token: t-1",
            concat!("user-agent: orderflow/", env!("CARGO_PKG_VERSION")),
            "content-type: application/json",
            "webhook-id: evt_1",
            "webhook-timestamp: 1649367553",
            &format!("webhook-signature: {}", std::str::from_utf8(&standard).unwrap()),
            // printf '{}' | openssl dgst -sha256 -hmac 'whsec_AAAA'
            "x-webhook-signature: sha256=be82b4032f683bd9abd5e7d6e03c84fff89c5d2219dad97a6c3130bcab2a28d1",
            "x-webhook-event: order.paid",
            "x-webhook-id: wh_1",
            "x-webhook-sequence: -7",
            "x-webhook-attempt: 3",
            "x-webhook-resend: true",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        assert_eq!(shown(&headers(HeaderMap::new(), &ready, told, moment)), expected);
        let told = Told { webhook_id: "evt\n1", resend: false, traceparent: None, ..told };
        let without = shown(&headers(HeaderMap::new(), &ready, told, moment));
        assert!(without.iter().all(|header| !header.contains("evt") && !header.starts_with("trace")));
        assert_eq!(without.len(), expected.len() - 3);
    }
}
