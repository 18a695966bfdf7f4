//! The client against real TCP servers that behave as badly as they like.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::guard::Guard;
use super::*;
use crate::stages::webhook::verdict::{Verdict, judge};
use crate::task;

pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// A server that treats each connection as the test says.
pub(super) struct Receiver {
    pub(super) port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// `behave` is called with each connection and its number, from 1.
    pub(super) async fn start<F, Fut>(behave: F) -> Self
    where
        F: Fn(Peer, usize) -> Fut + Send + 'static,
        Fut: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", behave).await
    }

    /// The same at an address of the test's choice.
    pub(super) async fn start_at<F, Fut>(address: &str, behave: F) -> Self
    where
        F: Fn(Peer, usize) -> Fut + Send + 'static,
        Fut: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (accepted, counted) = (Arc::clone(&connections), Arc::clone(&requests));
        let serving = task::spawn("receiver", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let peer = Peer { stream, requests: Arc::clone(&counted) };
                let behaviour = behave(peer, number);
                task::spawn("receiver connection", async move { drop(behaviour.await) });
            }
        });
        Self { port, connections, requests, serving }
    }

    /// A server that answers every request with `answer`, on as many connections as there are.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut peer, _| async move {
            while peer.request().await? {
                peer.stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        })
        .await
    }

    pub(super) fn address(&self) -> Address {
        Address::of(&format!("http://127.0.0.1:{}/hook", self.port)).unwrap()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(super) struct Peer {
    pub(super) stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Peer {
    /// Reads one request with its two-byte body; false when the other side is done.
    pub(super) async fn request(&mut self) -> std::io::Result<bool> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n{}") {
            let mut byte = [0];
            if self.stream.read(&mut byte).await? == 0 {
                return Ok(false);
            }
            text.push(byte[0]);
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }
}

pub(super) fn open() -> Guard {
    Guard { allow_private_networks: true, ..Guard::default() }
}

pub(super) fn client(guard: Guard) -> Client {
    let (idle, settle) = (Duration::from_secs(5), Duration::from_secs(30));
    Client::new(guard, PoolLimits { per_origin: 2, total: 4, idle, settle })
}

pub(super) async fn post(client: &Client, address: &Address) -> Result<Answer, AttemptError> {
    client.post(address, HeaderMap::new(), Bytes::from_static(b"{}"), PATIENCE).await
}

async fn once(address: &Address) -> Result<Answer, AttemptError> {
    post(&client(open()), address).await
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let client = client(open());
    for _ in 0..5 {
        let answer = post(&client, &receiver.address()).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
    }
    assert_eq!((receiver.requests(), receiver.connections()), (5, 1));
}

/// The answer comes before the request was read, so that its connection is still busy with that when it is kept.
#[tokio::test]
async fn a_connection_that_is_about_to_end_its_exchange_is_waited_for() {
    const BODY: usize = 16 * 1024 * 1024;
    let (asked, may_read) = tokio::sync::watch::channel(0);
    let receiver = Receiver::start(move |mut peer, _| {
        let mut may_read = may_read.clone();
        async move {
            let mut body = vec![0; BODY];
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(peer.stream.read_u8().await?);
                }
                peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                let served = peer.requests.fetch_add(1, Ordering::SeqCst) + 1;
                may_read.wait_for(|asked| *asked >= served).await.expect("the test lasts longer");
                peer.stream.read_exact(&mut body).await?;
            }
        }
    })
    .await;
    let client = client(open());
    let post = async || {
        let (body, within) = (Bytes::from(vec![7; BODY]), Duration::from_secs(60));
        client.post(&receiver.address(), HeaderMap::new(), body, within).await.unwrap().status
    };
    assert_eq!(post().await, 204);
    let mut second = std::pin::pin!(post());
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!((receiver.requests(), receiver.connections()), (1, 1), "the first is not read yet");
    asked.send_replace(1);
    assert_eq!(second.await, 204);
    assert_eq!((receiver.requests(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn endpoints_of_one_origin_share_its_connections() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = client(open());
    for endpoint in 0..10 {
        let address = Address::of(&format!("http://127.0.0.1:{}/{endpoint}?a=b", receiver.port)).unwrap();
        assert_eq!(post(&client, &address).await.unwrap().status, 204);
    }
    assert_eq!((receiver.connections(), receiver.requests()), (1, 10));
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_delivery() {
    let receiver = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
    })
    .await;
    let client = client(open());
    for _ in 0..20 {
        assert_eq!(post(&client, &receiver.address()).await.unwrap().status, 204);
    }
    assert_eq!((receiver.requests(), receiver.connections()), (20, 20));
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_not_sent_twice_in_one_attempt() {
    let receiver = Receiver::start(|mut peer, number| async move {
        if number == 1 {
            peer.request().await?;
            peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        }
        peer.request().await?;
        Ok(())
    })
    .await;
    let client = client(open());
    post(&client, &receiver.address()).await.unwrap();
    let ended = post(&client, &receiver.address()).await;
    assert!(matches!(ended, Err(AttemptError::Exchange(_))), "{ended:?}");
    assert_eq!((receiver.requests(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_failures() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = once(&Address::of(&format!("http://127.0.0.1:{port}/")).unwrap()).await;
    assert!(matches!(refused, Err(AttemptError::Connect(_))), "{refused:?}");
    let unknown = once(&Address::of("http://no-such-host.invalid/").unwrap()).await;
    assert!(matches!(unknown, Err(AttemptError::Resolve(_) | AttemptError::TimedOut)), "{unknown:?}");
}

#[tokio::test]
async fn silence_and_a_dripping_answer_end_at_the_time_out() {
    let silent = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        std::future::pending().await
    })
    .await;
    let dripping = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await?;
        loop {
            peer.stream.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let dripping_head = Receiver::start(|mut peer, _| async move {
        loop {
            peer.stream.write_all(b"H").await?;
            peer.stream.write_all(b"TTP/1.1 200 OK\r\nX-A: ").await?;
            std::future::pending::<()>().await;
        }
    })
    .await;
    for receiver in [silent, dripping, dripping_head] {
        let ended = tokio::time::timeout(PATIENCE * 50, once(&receiver.address())).await;
        let ended = ended.expect("it ends by itself");
        assert!(matches!(ended, Err(AttemptError::TimedOut)), "{ended:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_its_bound_and_counts_by_its_status() {
    let receiver = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        peer.stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        loop {
            peer.stream.write_all(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).as_bytes()).await?;
        }
    })
    .await;
    let client = client(open());
    for _ in 0..2 {
        let answer = post(&client, &receiver.address()).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, KEPT));
    }
    assert_eq!(receiver.connections(), 2, "a connection with an unread rest is not kept");
}

#[tokio::test]
async fn a_huge_head_is_refused_not_buffered() {
    let receiver = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        peer.stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        for number in 0..10_000 {
            peer.stream.write_all(format!("X-{number}: {}\r\n", "x".repeat(1_000)).as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    let ended = once(&receiver.address()).await;
    assert!(matches!(ended, Err(AttemptError::Exchange(_))), "{ended:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_not_http_is_a_failure() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let receiver = Receiver::start(move |mut peer, _| async move {
            peer.request().await?;
            peer.stream.write_all(answer.as_bytes()).await
        })
        .await;
        let ended = once(&receiver.address()).await;
        assert!(matches!(ended, Err(AttemptError::Exchange(_))), "{answer:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let location = elsewhere.port;
    let receiver = Receiver::start(move |mut peer, _| async move {
        peer.request().await?;
        let answer = format!(
            "HTTP/1.1 301 Moved Permanently\r\nLocation: http://127.0.0.1:{location}/\r\nContent-Length: 0\r\n\r\n"
        );
        peer.stream.write_all(answer.as_bytes()).await
    })
    .await;
    let ended = once(&receiver.address()).await;
    assert_eq!(judge(&ended, 0).as_str(), "refused");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn gone_and_busy_are_told_apart() {
    let gone = Receiver::answering("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(judge(&once(&gone.address()).await, 0), Verdict::Gone);
    let busy = Receiver::answering("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").await;
    let verdict = judge(&once(&busy.address()).await, 0);
    assert!(
        matches!(verdict, Verdict::Failed { at_least: Some(wait), .. } if wait == Duration::from_secs(7)),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_as_literals_and_as_names() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let client = client(Guard::default());
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let ended = post(&client, &Address::of(&format!("http://{host}:{}/", receiver.port)).unwrap()).await;
        assert!(matches!(ended, Err(AttemptError::Forbidden)), "{host}: {ended:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_server_without_tls_is_no_https_endpoint() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let ended = once(&Address::of(&format!("https://127.0.0.1:{}/", receiver.port)).unwrap()).await;
    assert!(matches!(ended, Err(AttemptError::Tls(_) | AttemptError::TimedOut)), "{ended:?}");
    assert_eq!(receiver.requests(), 0);
}

const CERTIFICATE: &[u8] = include_bytes!("fixtures/localhost.cert.pem");
const KEY: &[u8] = include_bytes!("fixtures/localhost.key.pem");

/// A TLS server on loopback whose certificate is for `localhost`.
async fn tls_receiver() -> Receiver {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    Receiver::start(move |peer, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(peer.stream).await?;
            let mut text = Vec::new();
            loop {
                text.push(stream.read_u8().await?);
                if text.ends_with(b"\r\n\r\n{}") {
                    peer.requests.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                    text.clear();
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn https_is_spoken_to_who_proves_their_name_and_to_nobody_else() {
    let receiver = tls_receiver().await;
    let address = |host: &str| Address::of(&format!("https://{host}:{}/hook", receiver.port)).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let knowing = Client { connector: Connector::trusting(open(), trusted), ..client(open()) };
    for _ in 0..3 {
        assert_eq!(post(&knowing, &address("localhost")).await.unwrap().status, 204);
    }
    assert_eq!((receiver.requests(), receiver.connections()), (3, 1), "TLS connections are kept too");

    let other_name = post(&knowing, &address("127.0.0.1")).await;
    assert!(matches!(other_name, Err(AttemptError::Tls(_))), "{other_name:?}");
    let unknown = post(&client(open()), &address("localhost")).await;
    assert!(matches!(unknown, Err(AttemptError::Tls(_))), "{unknown:?}");
    assert_eq!(receiver.requests(), 3);
}
