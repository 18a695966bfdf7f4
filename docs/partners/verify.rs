//! Receives orderflow's webhooks: verifies each, takes each event once, and tells newer from older.
//!
//! ```toml
//! axum = "0.8"
//! serde_json = "1"
//! standardwebhooks = "1"
//! ```
//! Serve [`router`] with `axum::serve`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use standardwebhooks::{Webhook, WebhookError};

/// In your system these are rows, written in the transaction that does the work: a unique webhook-id, and per order (or
/// job) the highest sequence seen.
#[derive(Default)]
struct Known {
    taken: HashSet<String>,
    newest: HashMap<String, i64>,
}

/// Does something with an event that is verified; the text says what it is.
type Done = Box<dyn Fn(&Value, &str) + Send + Sync>;

struct Receiver {
    hook: Webhook,
    known: Mutex<Known>,
    done: Done,
}

/// A receiver that hands each verified event to `done`, with what it is: `new`, `repeat` or `older`.
pub(crate) fn router(
    secret: &str,
    done: impl Fn(&Value, &str) + Send + Sync + 'static,
) -> Result<Router, WebhookError> {
    let receiver = Receiver { hook: Webhook::new(secret)?, known: Mutex::default(), done: Box::new(done) };
    Ok(Router::new().fallback(receive).with_state(Arc::new(receiver)))
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // The raw bytes are signed: verify before anything parses them.
    if receiver.hook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let sequence = headers.get("x-webhook-sequence").and_then(|value| value.to_str().ok()?.parse().ok());
    let (Ok(event), Some(sequence)) = (serde_json::from_slice::<Value>(&body), sequence) else {
        return StatusCode::BAD_REQUEST;
    };
    let verdict = receiver.known.lock().map_or("unknown", |mut known| known.take(&event, sequence));
    (receiver.done)(&event, verdict);
    StatusCode::NO_CONTENT // for repeats too: anything else is tried again
}

impl Known {
    /// What an event is to us: `new`, a `repeat` of one that we have, or `older` than what we know of its order.
    fn take(&mut self, event: &Value, sequence: i64) -> &'static str {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let about = text(&event["data"]["orderId"]).or(text(&event["data"]["jobId"])).unwrap_or_default();
        if !self.taken.insert(text(&event["id"]).unwrap_or_default()) {
            return "repeat";
        }
        let newest = self.newest.entry(about).or_insert(-1);
        if sequence < *newest {
            return "older";
        }
        *newest = sequence;
        "new"
    }
}
