//! The receiver: a process of its own that answers as its paths say, and keeps what it needs to say afterwards
//! whether everything came, once and in order, and how long it took.
//!
//! It prints its port on the first line, then one report for each line that it reads; it ends when nobody is left
//! to read from. A request's id holds when its event was sent, by the clock that all processes of a machine share.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::case::Mood;
use crate::cli::exit::Fault;
use crate::cli::output;
use crate::task;

/// Microseconds of the clock that all processes share.
pub(super) fn micros() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.num_microseconds());
    u64::try_from(now).unwrap_or(0)
}

/// The id of event `number`, sent now.
pub(super) fn event_id(number: u64) -> Uuid {
    Uuid::from_u64_pair(number, micros())
}

/// What the endpoints that accept have seen since the last report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seen {
    /// Different deliveries.
    pub(super) accepted: u64,
    /// Those that came again.
    pub(super) repeats: u64,
    /// Those that came after a later one of their order and endpoint.
    pub(super) order_breaks: u64,
    pub(super) first_at: u64,
    pub(super) last_at: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

#[derive(Debug, Default)]
struct Book {
    seen: Seen,
    ids: HashSet<(u64, u128)>,
    newest: HashMap<(u64, String), i64>,
    took: Vec<u64>,
}

impl Book {
    /// Notes one delivery to `endpoint`.
    fn note(&mut self, endpoint: u64, headers: &HeaderMap, body: &[u8]) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text("webhook-id").and_then(|id| id.trim_start_matches("evt_").parse::<Uuid>().ok());
        let Some(id) = id else { return };
        let now = micros();
        if !self.ids.insert((endpoint, id.as_u128())) {
            self.seen.repeats += 1;
            return;
        }
        self.seen.accepted += 1;
        self.seen.last_at = now;
        if self.seen.accepted == 1 {
            self.seen.first_at = now;
        }
        self.took.push(now.saturating_sub(id.as_u64_pair().1));
        let sequence = text("x-webhook-sequence").and_then(|sequence| sequence.parse::<i64>().ok());
        if let (Some(order), Some(sequence)) = (order_id(body), sequence) {
            let newest = self.newest.entry((endpoint, order)).or_insert(i64::MIN);
            self.seen.order_breaks += u64::from(sequence < *newest);
            *newest = sequence.max(*newest);
        }
    }

    /// Says what there was, and forgets it.
    fn report(&mut self) -> Seen {
        let mut book = std::mem::take(self);
        // The first tenth warms caches and connections.
        book.took.drain(..book.took.len() / 10);
        book.took.sort_unstable();
        let at = |share: f64| {
            let place = (book.took.len() as f64 * share) as usize;
            book.took.get(place.min(book.took.len().saturating_sub(1))).map_or(0.0, |&took| took as f64 / 1e3)
        };
        Seen { p50_ms: at(0.5), p99_ms: at(0.99), ..book.seen }
    }
}

/// The order that a body tells of, without reading the rest.
fn order_id(body: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\"orderId\":\"";
    let start = body.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let end = body[start..].iter().position(|&byte| byte == b'"')? + start;
    Some(String::from_utf8_lossy(&body[start..end]).into_owned())
}

/// Serves until stdin ends.
pub(super) async fn serve() -> Result<(), Fault> {
    let unable = |error: std::io::Error| Fault::internal(format!("the receiver: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unable)?;
    output::json(&listener.local_addr().map_err(unable)?.port())?;
    let book = Arc::new(Mutex::new(Book::default()));
    let taking = task::spawn("receiver", accept(listener, Arc::clone(&book)));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await.map_err(unable)?.is_some() {
        output::json(&book.lock().unwrap_or_else(PoisonError::into_inner).report())?;
    }
    taking.abort();
    Ok(())
}

async fn accept(listener: TcpListener, book: Arc<Mutex<Book>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        task::spawn("receiver connection", converse(stream, Arc::clone(&book)));
    }
}

async fn converse(stream: TcpStream, book: Arc<Mutex<Book>>) {
    // Without it answers wait for the other side's acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&book)));
    // How a connection ends is the client's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, book: Arc<Mutex<Book>>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let mut path = head.uri.path().split('/').skip(1);
    let mood = path.next().and_then(Mood::parse).unwrap_or(Mood::Accepts);
    let endpoint = path.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    // What broke off is no delivery.
    let Ok(body) = body.collect().await else { return Ok(empty(StatusCode::BAD_REQUEST)) };
    Ok(match mood {
        Mood::Accepts => {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            book.note(endpoint, &head.headers, &body.to_bytes());
            empty(StatusCode::NO_CONTENT)
        }
        Mood::Fails => empty(StatusCode::INTERNAL_SERVER_ERROR),
        Mood::Hangs => std::future::pending().await,
        Mood::Drips => {
            let drops = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok(Frame::data(Bytes::from_static(b"."))), ()))
            });
            Response::new(BodyExt::boxed_unsync(StreamBody::new(drops)))
        }
    })
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(BodyExt::boxed_unsync(Empty::new()));
    *answer.status_mut() = status;
    answer
}
