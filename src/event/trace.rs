//! What travels beside an event: CloudEvents headers (Kafka protocol binding 1.0, binary mode) and the W3C trace
//! context.
//!
//! Headers are a courtesy to readers: we write them always and need none of them, as the record says the same.

use std::fmt;
use std::str::FromStr;

use super::Event;
use super::time::rfc3339;

/// The headers of an event's record: `ce_*`, `content-type`, and `traceparent` if there is one.
pub fn headers(event: &Event, traceparent: Option<&TraceParent>) -> Vec<(String, Vec<u8>)> {
    let meta = event.meta();
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", meta.event_id.clone()),
        ("ce_type", event.event_type().as_str().to_owned()),
        ("ce_source", meta.source.clone().unwrap_or_else(|| "orderflow".to_owned())),
        ("ce_time", rfc3339(meta.occurred_at)),
        ("ce_subject", meta.order_id.clone()),
        ("ce_tenant", meta.tenant_id.clone()),
    ];
    if let Some(correlation_id) = &meta.correlation_id {
        headers.push(("ce_correlationid", correlation_id.clone()));
    }
    headers.push(("content-type", "application/avro".to_owned()));
    if let Some(traceparent) = traceparent {
        headers.push(("traceparent", traceparent.to_string()));
    }
    headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect()
}

/// A `traceparent` of W3C Trace Context, version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace's id, not zero.
    pub trace_id: [u8; 16],
    /// The id of the span that sent this, not zero.
    pub parent_id: [u8; 8],
    /// Bit 0 says that the trace is sampled.
    pub flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct NotATraceParent;

impl TraceParent {
    /// Begins a trace.
    pub fn random() -> TraceParent {
        TraceParent { trace_id: nonzero(rand::random()), parent_id: nonzero(rand::random()), flags: 1 }
    }

    /// The same trace, seen from a span of our own.
    pub fn child(self) -> TraceParent {
        TraceParent { parent_id: nonzero(rand::random()), ..self }
    }

    /// The one among a record's or request's headers, if there is a valid one.
    pub fn parse_header(value: &[u8]) -> Option<TraceParent> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<TraceParent, NotATraceParent> {
        let text = text.trim();
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NotATraceParent);
        let (version, trace, parent, flags) = (part()?, part()?, part()?, part()?);
        // A later version may append parts; version 00 has exactly three more, and ff is forbidden.
        if version.len() != 2 || version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(NotATraceParent);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotATraceParent);
        }
        let [_version] = bytes_of::<1>(version)?;
        let [flags] = bytes_of::<1>(flags)?;
        let (trace_id, parent_id) = (bytes_of::<16>(trace)?, bytes_of::<8>(parent)?);
        if trace_id == [0; 16] || parent_id == [0; 8] {
            return Err(NotATraceParent);
        }
        Ok(TraceParent { trace_id, parent_id, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace_id), hex::encode(self.parent_id), self.flags)
    }
}

fn bytes_of<const N: usize>(text: &str) -> Result<[u8; N], NotATraceParent> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| NotATraceParent)?;
    Ok(bytes)
}

fn nonzero<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    bytes[N - 1] = bytes[N - 1].max(1);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Factory;

    #[test]
    fn traceparents_are_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed: TraceParent = text.parse().expect("it is valid");
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.child().trace_id, parsed.trace_id);
        assert_ne!(parsed.child().parent_id, parsed.parent_id);
        assert!(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more".parse::<TraceParent>().is_ok()
        );
    }

    #[test]
    fn invalid_traceparents_are_refused() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NotATraceParent), "{text}");
        }
    }

    #[test]
    fn headers_tell_what_the_record_tells() {
        let factory = Factory::new("shop", "checkout").correlated("c-1");
        let event: Event = factory.order_completed("o-1", 1_760_000_000_123).into();
        let headers = headers(&event, Some(&TraceParent::random()));
        let get = |name: &str| {
            let value = headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())?;
            String::from_utf8(value).ok()
        };
        assert_eq!(get("ce_type").as_deref(), Some("order.completed"));
        assert_eq!(get("ce_time").as_deref(), Some("2025-10-09T08:53:20.123Z"));
        assert_eq!(get("ce_subject").as_deref(), Some("o-1"));
        assert_eq!(get("ce_correlationid").as_deref(), Some("c-1"));
        assert!(get("traceparent").is_some());
    }
}
