//! The limit: requests signed as Standard Webhooks asks for, over kept connections, in a loop, without a topic, order or
//! records of attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpStream;

use super::case::Case;
use super::receiver::event_id;
use super::{Measured, Repetition};
use crate::cli::bench::measure::{cpu, peak_rss};
use crate::cli::exit::Fault;
use crate::clock::Clock;
use crate::task;

/// Requests at once, each over a connection of its own.
const AT_ONCE: u64 = 64;
/// Bytes of a body.
const BODY_BYTES: usize = 500;
/// Signs them.
const KEY: &[u8] = b"a key of thirty-two bytes length";

pub(super) async fn repeat(asked: &Repetition) -> Result<Measured, Fault> {
    let next = Arc::new(AtomicU64::new(0));
    let began = cpu();
    let loops = (0..AT_ONCE).map(|_| {
        let (case, next) = (asked.case.clone(), Arc::clone(&next));
        task::spawn("bare client", post(case, asked.port, next))
    });
    for ended in futures_util::future::join_all(loops).await {
        let ended = ended.map_err(|ended| Fault::internal(ended.to_string()))?;
        ended.map_err(|error| Fault::failures(format!("the bare client: {error}")))?;
    }
    Ok(Measured { recorded_at: 0, cpu_seconds: (cpu() - began).as_secs_f64(), peak_rss_bytes: peak_rss() })
}

/// Posts until all deliveries of the case are made.
async fn post(case: Case, port: u16, next: Arc<AtomicU64>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = task::spawn("bare connection", connection);
    let (clock, key) = (Clock::system(), Hmac::<Sha256>::new_from_slice(KEY)?);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= case.deliveries() {
            driver.abort();
            return Ok(());
        }
        let endpoint = number % case.endpoints;
        let mut body = format!("{{\"orderId\":\"order-{number}\",\"filled\":\"");
        while body.len() + 2 < BODY_BYTES {
            body.push('x');
        }
        body.push_str("\"}");
        let (id, now) = (format!("evt_{}", event_id(number)), clock.now_ms().div_euclid(1_000));
        let signature = key.clone().chain_update(format!("{id}.{now}.")).chain_update(&body).finalize();
        let signature = format!("v1,{}", STANDARD.encode(signature.into_bytes()));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/{}/{endpoint}", case.mood(endpoint).as_str()))
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .header("x-webhook-sequence", number)
            .body(Full::new(Bytes::from(body)))?;
        sender.ready().await?;
        sender.send_request(request).await?.into_body().collect().await?;
    }
}
