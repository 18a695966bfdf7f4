//! `Idempotency-Key` on every POST: a repeat gets the first answer and does nothing.
//!
//! What a key remembers: a success for `http.idempotency_ttl`. A refusal (4xx) did nothing, so it forgets the
//! key and a corrected request may use it; after a failure (5xx) the same request may try again, and what it
//! makes then carries the same id and time as in the first try.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Caller, Code, Parts, Problem};
use crate::crypto::{Sealed, Subject};
use crate::event::event_id_for_key;
use crate::store::idempotency::{self as stored, Answer, Reservation, Reserved};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in characters.
const MAX_KEY: usize = 255;
/// The largest answer that is kept, in bytes; ours are far smaller.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much longer than the request's own limit a key stays locked if the process dies.
const LOCK_MARGIN: Duration = Duration::from_secs(5);
/// The key of the running request, for handlers that make something with an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    tenant: String,
    key: String,
    /// When the request was first tried, epoch milliseconds: the time of what it makes.
    pub first_seen_ms: i64,
}

impl IdempotencyKey {
    /// The id of what this request makes, an event or an endpoint: the same in every try, in every process.
    pub fn id(&self) -> Uuid {
        event_id_for_key(&self.tenant, &self.key, self.first_seen_ms)
    }
}

/// Runs a POST that carries a key at most once. Stands inside the role check, so that the caller is known.
pub(super) async fn once_per_key(
    State(parts): State<Parts>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let Some(key) = key(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let tenant = match request.extensions().get::<Caller>() {
        Some(caller) => caller.tenant.clone(),
        None => return Err(Problem::internal("an idempotency key was read before the role check")),
    };
    let (head, body) = request.into_parts();
    let body = to_bytes(body, parts.options.max_body_bytes)
        .await
        .map_err(|_| Problem::new(Code::TooLarge, "the body is larger than http.max_body_bytes"))?;
    let subject = head.extensions.get::<Caller>().map(|caller| caller.subject.clone()).unwrap_or_default();
    let hash = fingerprint(&subject, &head.uri.to_string(), &body);
    let remembered = parts.options.idempotency_ttl;
    let first_seen_ms = match reserve(&parts, &tenant, &key, &hash, remembered).await? {
        Reserved::Ours { first_seen_ms } => first_seen_ms,
        Reserved::Done(answer) => return replay(&parts, &tenant, answer),
        Reserved::InFlight => {
            return Err(in_flight("a request with this key is still running"));
        }
        Reserved::OtherRequest => {
            return Err(Problem::new(
                Code::IdempotencyKeyReused,
                "this Idempotency-Key was used with another request; a new request needs a new key",
            ));
        }
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(IdempotencyKey {
        tenant: tenant.clone(),
        key: key.clone(),
        first_seen_ms,
    });
    let response = next.run(request).await;
    remember(&parts, &tenant, &key, response).await
}

/// The key, if one was sent.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > MAX_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("must be 1 to {MAX_KEY} visible ASCII characters");
        return Err(Problem::field("Idempotency-Key", message));
    }
    Ok(Some(text.to_owned()))
}

/// What makes the request what it is: who asks, where, and what; length-prefixed, so that nothing shifts.
pub(super) fn fingerprint(subject: &str, uri: &str, body: &Bytes) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [subject.as_bytes(), uri.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// The answer to a request whose like is running.
pub(super) fn in_flight(words: &str) -> Problem {
    Problem::new(Code::IdempotencyInFlight, words)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// Reserves a key of a tenant for what `hash` stands for; it is remembered for as long as `remembered`.
pub(super) async fn reserve(
    parts: &Parts,
    tenant: &str,
    key: &str,
    hash: &[u8],
    remembered: Duration,
) -> Result<Reserved, Problem> {
    let now_ms = parts.clock.now_ms();
    let after = |duration: Duration| now_ms + i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
    let wanted = Reservation {
        tenant,
        key,
        request_hash: hash,
        now_ms,
        locked_until_ms: after(parts.options.request_timeout + LOCK_MARGIN),
        expires_at_ms: after(remembered),
    };
    Ok(stored::reserve(&parts.db, &wanted).await?)
}

/// Keeps a success, frees the key of anything else.
pub(super) async fn remember(
    parts: &Parts,
    tenant: &str,
    key: &str,
    response: Response,
) -> Result<Response, Problem> {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, MAX_ANSWER).await.map_err(Problem::internal)?;
    let mut tx = parts.db.begin().await?;
    if head.status.is_success() {
        let sealed = parts.vault.seal(Subject::Tenant { tenant }, &body).map_err(Problem::internal)?;
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let answer = Answer {
            status: i64::from(head.status.as_u16()),
            content_type: content_type.map(str::to_owned),
            body: sealed,
        };
        stored::complete(&mut tx, tenant, key, &answer).await?;
    } else if head.status.is_server_error() {
        stored::unlock(&mut tx, tenant, key).await?;
    } else {
        stored::release(&mut tx, tenant, key).await?;
    }
    tx.commit().await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

/// A kept answer, as it was given.
pub(super) fn replay(parts: &Parts, tenant: &str, answer: Answer) -> Result<Response, Problem> {
    let Answer { status, content_type, body } = answer;
    let body = open(parts, tenant, &body)?;
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    if let Some(value) = content_type.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn open(parts: &Parts, tenant: &str, body: &Sealed) -> Result<Vec<u8>, Problem> {
    parts.vault.open(Subject::Tenant { tenant }, body).map_err(Problem::internal)
}
