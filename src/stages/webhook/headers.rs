//! The headers of a webhook request. Pure; the attempt's time comes in as an argument.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::signature;
use super::target::Ready;

const AGENT: &str = concat!("orderflow/", env!("CARGO_PKG_VERSION"));

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
    pub(super) event: &'a str,
    /// What is signed and sent.
    pub(super) body: &'a [u8],
    /// Grows from event to event of an order: the record's offset.
    pub(super) sequence: i64,
    /// Whether it was delivered before, and somebody asked for it again.
    pub(super) resend: bool,
    /// The trace it belongs to.
    pub(super) traceparent: Option<&'a str>,
}

/// The headers of one attempt to tell the endpoint called `endpoint_id`.
pub(super) fn headers(endpoint_id: &str, ready: &Ready, told: Told<'_>, moment: Moment) -> HeaderMap {
    let timestamp = moment.now_ms.div_euclid(1_000);
    let Told { webhook_id, body, .. } = told;
    // The endpoint's own come first: whatever they are called, ours replace them.
    let mut headers = ready.own_headers.clone();
    headers.reserve(12);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let mut text = |name: &'static str, value: String| match HeaderValue::try_from(value) {
        Ok(value) => {
            headers.insert(HeaderName::from_static(name), value);
        }
        Err(_) => tracing::warn!(name, "a webhook header's value isn't text and is left out"),
    };
    text("webhook-id", webhook_id.to_owned());
    text("webhook-timestamp", timestamp.to_string());
    text("webhook-signature", signature::standard(&ready.signers, webhook_id, moment.now_ms, body));
    if let Some(plain) = signature::plain(&ready.signers, moment.now_ms, body) {
        text("x-webhook-signature", plain);
    }
    text("x-webhook-event", told.event.to_owned());
    text("x-webhook-id", endpoint_id.to_owned());
    text("x-webhook-sequence", told.sequence.to_string());
    text("x-webhook-attempt", moment.attempt.to_string());
    if told.resend {
        text("x-webhook-resend", "true".to_owned());
    }
    if let Some(traceparent) = told.traceparent {
        text("traceparent", traceparent.to_owned());
    }
    headers
}
