//! From the client's borrowed message to our own [`Record`].
//!
//! Copied at once, key and payload in one buffer: a borrowed message pins its whole fetch response.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};

use crate::runtime::record::{Headers, Record};

/// `message` as a record of its own; `topic` is the shared name of the topic it came from.
pub(crate) fn to_record(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Record {
    let key = message.key();
    let payload = message.payload();
    let mut buffer = BytesMut::with_capacity(key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len));
    let mut take = |part: &[u8]| -> Bytes {
        buffer.extend_from_slice(part);
        buffer.split().freeze()
    };
    let key = key.map(&mut take);
    let payload = payload.map(&mut take);
    let headers = message.headers().map_or_else(Headers::default, to_headers);
    Record {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key,
        payload,
        headers,
    }
}

/// The headers in order. The client panics on a name that isn't UTF-8: such a header is left out and logged,
/// because one odd header must not end the member.
fn to_headers(headers: &BorrowedHeaders) -> Headers {
    let pairs = (0..headers.count()).filter_map(|at| {
        let read = std::panic::AssertUnwindSafe(|| {
            let header = headers.get(at);
            (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))
        });
        std::panic::catch_unwind(read)
            .inspect_err(|_| tracing::warn!(header = at, "a header whose name is not UTF-8 was left out"))
            .ok()
    });
    Headers::new(pairs.collect())
}
