//! Partners' servers that behave as badly as they can, over real TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a server does to whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Nobody listens.
    Refuses,
    /// Accepts and says nothing.
    Silent,
    /// Answers one byte a second.
    Drips,
    /// Answers 200 with a body that never ends.
    Endless,
    /// Answers 200 with 200 MB.
    Huge,
    /// Answers with a head of 10 MB.
    HugeHead,
    /// Promises more than it sends.
    Short,
    /// Proves itself by a certificate that nobody trusts.
    BadCertificate,
    /// Closes behind the head.
    ClosesAfterHead,
    /// Answers 200 when nobody waits any more.
    Late,
    /// These bytes, again and again.
    Answers(&'static str),
    /// One request a second.
    Slow,
}

/// A server. It ends when it is dropped.
pub(crate) struct Hostile {
    url: String,
    requests: Arc<AtomicUsize>,
    serving: Option<JoinHandle<()>>,
}

impl Hostile {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let tls = (behaviour == Behaviour::BadCertificate).then(acceptor);
        let url = match tls {
            Some(_) => format!("https://localhost:{port}/hooks"),
            None => format!("http://127.0.0.1:{port}/hooks"),
        };
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let serving = (behaviour != Behaviour::Refuses).then(|| {
            orderflow::task::spawn("hostile receiver", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (requests, tls) = (Arc::clone(&counted), tls.clone());
                    orderflow::task::spawn("hostile connection", async move {
                        // Whatever ends it, it is over.
                        let _ = match tls {
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => serve(stream, behaviour, &requests).await,
                                Err(error) => Err(error),
                            },
                            None => plain(stream, behaviour, &requests).await,
                        };
                    });
                }
            })
        });
        Self { url, requests, serving }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Requests that were read whole.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let certificate = include_bytes!("../../../src/stages/webhook/client/fixtures/localhost.cert.pem");
    let key = include_bytes!("../../../src/stages/webhook/client/fixtures/localhost.key.pem");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key).expect("a key"),
        )
        .expect("they belong together");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

async fn plain(stream: TcpStream, behaviour: Behaviour, requests: &AtomicUsize) -> std::io::Result<()> {
    if behaviour == Behaviour::Silent {
        // Not even reads.
        let _open = stream;
        return std::future::pending().await;
    }
    serve(stream, behaviour, requests).await
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    behaviour: Behaviour,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while read(&mut stream).await? {
        requests.fetch_add(1, Ordering::SeqCst);
        match behaviour {
            Behaviour::Refuses | Behaviour::Silent | Behaviour::BadCertificate => return Ok(()),
            Behaviour::Drips => {
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Behaviour::Endless | Behaviour::Huge => {
                let length = if behaviour == Behaviour::Huge {
                    "Content-Length: 209715200"
                } else {
                    "Transfer-Encoding: chunked"
                };
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").as_bytes()).await?;
                let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
                for _ in 0..209_715_200 / chunk.len() {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
            Behaviour::HugeHead => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                for number in 0..10_000 {
                    stream.write_all(format!("X-{number}: {}\r\n", "x".repeat(1_000)).as_bytes()).await?;
                }
            }
            Behaviour::Short => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour").await?;
                return Ok(());
            }
            Behaviour::ClosesAfterHead => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await?;
                return Ok(());
            }
            Behaviour::Late | Behaviour::Slow => {
                let pause = if behaviour == Behaviour::Late { 5 } else { 1 };
                tokio::time::sleep(Duration::from_secs(pause)).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            }
            Behaviour::Answers(answer) => stream.write_all(answer.as_bytes()).await?,
        }
    }
    Ok(())
}

/// Reads one request; false when the other side is done.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<bool> {
    let (mut text, mut byte) = (Vec::new(), [0; 1]);
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            return Ok(false);
        }
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(true)
}
