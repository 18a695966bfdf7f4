//! Test requests: one at once to an endpoint, by the same client, guard and signatures as deliveries.
//!
//! A test tells of no event: its type is `webhook.test`, its id begins with `evt_test_`, and its order is `test`. Nothing
//! of it is kept. Whoever may ask for one comes through `admin::webhooks`, which knows only the port made here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use hyper::header::HeaderMap;
use serde_json::json;

use super::client::guard::Guard;
use super::client::{AttemptError, Client, PoolLimits};
use super::headers::{Moment, Told, headers};
use super::options::WebhookOptions;
use super::target::Target;
use super::verdict::judge;
use crate::clock::{Clock, rfc3339};
use crate::crypto::Vault;
use crate::event::{WebhookAttempt, random_event_id};
use crate::runtime::retry::Schedule;
use crate::store::webhooks::Endpoint;

/// The type that a test is told as.
const TYPE: &str = "webhook.test";

/// A test takes no longer than this, whatever the endpoint's time-out: somebody waits for the answer.
const LONGEST: Duration = Duration::from_secs(10);

/// What was sent, headers without secrets and body, and how it ended.
pub type Tried = (Vec<(String, String)>, Vec<u8>, WebhookAttempt);

/// Sends a test request to an endpoint, registered or not.
pub type Try = Arc<dyn Fn(Endpoint) -> BoxFuture<'static, Tried> + Send + Sync>;

/// The port through which tests are sent. Reads the system's certificates.
pub fn trial(options: &WebhookOptions, vault: Vault, clock: Clock) -> Try {
    let guard = Guard {
        allow_private_networks: options.allow_private_networks,
        allowed: options.allowed_networks.as_slice().into(),
    };
    // A test is worth a connection of its own: it shows whether one can be made.
    let (idle, settle) = (options.idle_timeout, PoolLimits::SETTLE);
    let limits = PoolLimits { per_origin: 1, total: 0, idle, settle };
    let trial = Arc::new(Trial { client: Client::new(guard, limits), vault, clock });
    Arc::new(move |endpoint| {
        let trial = Arc::clone(&trial);
        async move { trial.send(&endpoint).await }.boxed()
    })
}

struct Trial {
    client: Client,
    vault: Vault,
    clock: Clock,
}

impl Trial {
    async fn send(&self, endpoint: &Endpoint) -> Tried {
        let now_ms = self.clock.now_ms();
        let target = Target::of(endpoint, &self.vault, &Schedule::default(), now_ms);
        let event_id = random_event_id(now_ms);
        let webhook_id = format!("evt_test_{event_id}");
        let body = body(&webhook_id, now_ms);
        let begun = Instant::now();
        let (shown, ended) = match &target.ready {
            Ok(ready) => {
                let told = Told {
                    webhook_id: &webhook_id,
                    event: TYPE,
                    body: &body,
                    sequence: 0,
                    resend: false,
                    traceparent: None,
                };
                let headers = headers(self.client.blank(), ready, told, Moment { attempt: 1, now_ms });
                let (shown, within) = (shown(&headers), target.timeout.min(LONGEST));
                (shown, self.client.post(&ready.address, headers, body.clone(), within).await)
            }
            Err(why) => (Vec::new(), Err(AttemptError::Unusable(why.clone()))),
        };
        let verdict = judge(&ended, self.clock.now_ms());
        let answer = ended.ok();
        let receipt = WebhookAttempt {
            attempt_id: event_id.to_string(),
            tenant_id: endpoint.tenant.clone(),
            endpoint_id: endpoint.id.clone(),
            webhook_id,
            event_id: event_id.to_string(),
            event_type: TYPE.to_owned(),
            order_id: "test".to_owned(),
            attempt: 1,
            outcome: verdict.as_str().to_owned(),
            status: answer.as_ref().map(|answer| i32::from(answer.status)),
            latency_ms: i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX),
            error: verdict.error().map(str::to_owned),
            response: answer
                .filter(|answer| !answer.body.is_empty())
                .map(|answer| String::from_utf8_lossy(&answer.body).into_owned()),
            attempted_at: now_ms,
            ..WebhookAttempt::default()
        };
        (shown, body.to_vec(), receipt)
    }
}

/// In the form of every body, so that a receiver that reads the order's id doesn't stumble.
fn body(webhook_id: &str, now_ms: i64) -> Bytes {
    let body = json!({
        "id": webhook_id,
        "event": TYPE,
        "created": rfc3339(now_ms),
        "data": {"orderId": "test", "metadata": {"test": true}},
    });
    Bytes::from(body.to_string())
}

/// Headers as they may be seen by whoever may see the endpoint: its own hold tokens.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        let value = match value.is_sensitive() {
            true => "«redacted»".to_owned(),
            false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        (name.as_str().to_owned(), value)
    };
    headers.iter().map(text).collect()
}
