//! One POST, bounded in every way: one time-out over resolving, connecting, sending and reading, at most
//! [`BODY_LIMIT`] of the answer, no redirects, no cookies, no proxies.
//!
//! Connections are hyper's own, kept and capped per origin by [`pool`]; where they may go is decided by
//! [`guard`] on the address that is then connected to.

mod connect;
mod flushing;
pub(super) mod guard;
mod pool;
mod spare;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response};

use self::connect::Connector;
pub(super) use self::pool::PoolLimits;
use self::pool::{Connection, Pool};
use self::spare::Spare;
use super::target::Address;

/// How much of an answer's body is read.
const BODY_LIMIT: usize = 64 * 1024;

/// How much of an answer's body is kept for the log.
const KEPT: usize = 1024;

/// An answer, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// The beginning of the body, never trusted.
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// The endpoint can't be sent to as it is stored.
    #[error("the endpoint can't be delivered to: {0}")]
    Unusable(String),
    /// The whole attempt took longer than the endpoint's time-out.
    #[error("no complete answer within the time-out")]
    TimedOut,
    /// The name has no address.
    #[error("the host name can't be resolved: {0}")]
    Resolve(String),
    /// Every address is one that we don't connect to. Which it is stays with us: a partner that may register
    /// names could read our internal DNS from it.
    #[error(
        "the host is not one that requests are sent to (webhook.allow_private_networks, webhook.allowed_networks)"
    )]
    Forbidden,
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No TLS session.
    #[error("no TLS session: {0}")]
    Tls(String),
    /// The exchange broke off, or wasn't HTTP.
    #[error("the exchange broke off: {0}")]
    Exchange(String),
}

/// Sends requests. Made once; all endpoints share it.
#[derive(Debug)]
pub(super) struct Client {
    connector: Connector,
    pool: Pool,
    spare: Spare,
}

impl Client {
    /// A client that may connect as `guard` says. Reads the system's certificates.
    pub(super) fn new(guard: guard::Guard, limits: PoolLimits) -> Self {
        Self { connector: Connector::new(guard), pool: Pool::new(limits), spare: Spare::default() }
    }

    /// Headers without any, with room for those of a request.
    pub(super) fn blank(&self) -> HeaderMap {
        self.spare.take()
    }

    /// Posts `body` to `address` and waits for the answer, at most `within`.
    pub(super) async fn post(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, AttemptError> {
        let exchange = self.exchange(address, headers, body);
        tokio::time::timeout(within, exchange).await.unwrap_or(Err(AttemptError::TimedOut))
    }

    async fn exchange(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, AttemptError> {
        let mut request = request(address, headers, body);
        // A kept connection may have been closed by the other side at any time. Only if nothing of the request
        // was written is it sent again, on a fresh one; otherwise the other side may have acted on it.
        while let Some(mut kept) = self.pool.take(address) {
            if !kept.is_settled(self.pool.settle()).await {
                break;
            }
            match kept.sender.try_send_request(request).await {
                Ok(response) => return self.read(address, kept, response).await,
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(AttemptError::Exchange(reason(refused.error()))),
                },
            }
        }
        let mut fresh = self.connector.connect(address).await?;
        match fresh.sender.try_send_request(request).await {
            Ok(response) => self.read(address, fresh, response).await,
            Err(refused) => Err(AttemptError::Exchange(reason(refused.error()))),
        }
    }

    /// Reads the answer up to its bound, and keeps the connection if it can be used again.
    async fn read(
        &self,
        address: &Address,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Answer, AttemptError> {
        let (head, mut incoming) = response.into_parts();
        let mut answer = Answer {
            status: head.status.as_u16(),
            retry_after: head
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            body: Vec::new(),
        };
        // hyper made them in the memory of the request's.
        self.spare.keep(head.headers);
        let mut read = 0;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| AttemptError::Exchange(reason(&error)))?;
            let Some(data) = frame.data_ref() else { continue };
            read += data.len();
            let room = KEPT - answer.body.len();
            answer.body.extend_from_slice(&data[..room.min(data.len())]);
            if read > BODY_LIMIT {
                // The status is told; what follows is of no interest, and neither is the connection.
                return Ok(answer);
            }
        }
        self.pool.keep(address, connection);
        Ok(answer)
    }
}

fn request(address: &Address, mut headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    headers.insert(HOST, address.host_header.clone());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address.path.clone();
    *request.headers_mut() = headers;
    request
}

/// hyper's words with their cause, which is what tells a reset from a malformed answer.
fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
