//! Test requests: whom they may go to, and what is shown of them. They are sent beyond this room, through a port.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{FieldFault, Registrar, Registration, WebhookError, secrets, settings};
use crate::clock::rfc3339;
use crate::event::WebhookAttempt;
use crate::store::webhooks::{self, Endpoint, SigningSecret};

/// Tests that one process sends at once; more wait.
const AT_ONCE: usize = 16;

/// The port: sends a test to an endpoint and gives its headers without secrets, its body, and how it ended. The real one
/// is the webhook stage's (`stages::webhook::trial`), which keeps to its guard and time-outs.
pub type SendTest = Arc<
    dyn Fn(Endpoint) -> BoxFuture<'static, (Vec<(String, String)>, Vec<u8>, WebhookAttempt)> + Send + Sync,
>;

/// Whom a test goes to.
#[derive(Debug, Clone)]
pub enum TestOf {
    /// A registered endpoint, enabled or not.
    Webhook(String),
    /// A URL that may be registered later, signed with a secret made for this.
    Url(String),
}

/// A test request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestShown {
    /// Where it went.
    pub url: String,
    /// The headers that were sent; values of the endpoint's own are not told.
    pub request_headers: BTreeMap<String, String>,
    /// The body that was sent: an event of type `webhook.test`.
    pub request_body: String,
    /// `delivered`, `failed`, `refused` or `gone`.
    pub outcome: String,
    /// The HTTP status, if one was answered.
    pub status: Option<i32>,
    /// The whole exchange, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub response: Option<String>,
    /// When it was sent.
    pub attempted_at: String,
    /// What the test of a URL was signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Sends tests. Cheap to clone.
#[derive(Clone)]
pub struct Trials {
    registrar: Registrar,
    send: SendTest,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Trials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trials").field("registrar", &self.registrar).finish_non_exhaustive()
    }
}

impl Trials {
    /// Tests for endpoints as `registrar` knows them, sent through `send`.
    pub fn new(registrar: Registrar, send: SendTest) -> Self {
        Self { registrar, send, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends a test and waits for what comes of it. The endpoint stays as it is, and nothing is kept.
    ///
    /// # Errors
    /// See [`WebhookError`]. That the test fails is no error.
    pub async fn run(
        &self,
        tenant: &str,
        owner: Option<&str>,
        of: TestOf,
    ) -> Result<TestShown, WebhookError> {
        let (endpoint, secret) = match of {
            TestOf::Webhook(id) => {
                let found = webhooks::find(&self.registrar.db, tenant, &id, owner).await?;
                (found.ok_or(WebhookError::NotFound(id))?, None)
            }
            TestOf::Url(url) => self.unregistered(tenant, owner, url)?,
        };
        let url = endpoint.url.clone();
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let (headers, body, receipt) = (self.send)(endpoint).await;
        Ok(TestShown {
            url,
            request_headers: headers.into_iter().collect(),
            request_body: String::from_utf8_lossy(&body).into_owned(),
            outcome: receipt.outcome,
            status: receipt.status,
            latency_ms: receipt.latency_ms,
            error: receipt.error,
            response: receipt.response,
            attempted_at: rfc3339(receipt.attempted_at),
            secret,
        })
    }

    /// An endpoint as it would be registered for `url`, with a secret of its own.
    fn unregistered(
        &self,
        tenant: &str,
        owner: Option<&str>,
        url: String,
    ) -> Result<(Endpoint, Option<String>), WebhookError> {
        let Registrar { vault, clock, rules, .. } = &self.registrar;
        let registration = Registration { url, ..Registration::default() };
        let accepted = rules.check(&registration).map_err(WebhookError::Fields)?;
        let now_ms = clock.now_ms();
        let mut endpoint = settings::blank(tenant, "wh_test".to_owned(), owner, now_ms);
        accepted.apply(&mut endpoint, vault)?;
        let secret = secrets::fresh(None, None)?;
        let shown = secret.expose().clone();
        let signing = SigningSecret { secret, created_at: now_ms, expires_at: None, request: None };
        endpoint.secrets = webhooks::seal_secrets(vault, tenant, &[signing])?;
        Ok((endpoint, Some(shown)))
    }
}

impl TestOf {
    /// Reads what names a webhook or a URL, of which there must be one.
    ///
    /// # Errors
    /// Names the field when there are both or none.
    pub fn either(webhook: Option<String>, url: Option<String>) -> Result<Self, WebhookError> {
        let message = match (webhook, url) {
            (Some(id), None) => return Ok(Self::Webhook(id)),
            (None, Some(url)) => return Ok(Self::Url(url)),
            (Some(_), Some(_)) => "can't be given beside webhookId: name one of them",
            (None, None) => "is missing: name a url or a webhookId",
        };
        let fault = FieldFault { field: "url".to_owned(), message: message.to_owned(), unknown_event: false };
        Err(WebhookError::Fields(vec![fault]))
    }
}
