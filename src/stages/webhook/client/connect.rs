//! From an address as it was registered to a connection: resolve, check, connect to exactly what was checked,
//! and TLS where the URL says https.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AttemptError;
use super::flushing::Flushing;
use super::guard::Guard;
use super::pool::Connection;
use crate::stages::webhook::target::{Address, Host};

/// How many addresses of a name are tried.
const ADDRESSES: usize = 4;

/// The bound on what is buffered of an answer's head.
const HEAD_LIMIT: usize = 64 * 1024;

/// Finds the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Makes connections.
pub(super) struct Connector {
    guard: Guard,
    tls: TlsConnector,
    /// Asked once for each connection: what is checked is what is connected to.
    pub(super) lookup: Lookup,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that trusts the system's certificates.
    pub(super) fn new(guard: Guard) -> Self {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a system certificate can't be read");
        }
        let (trusted, _) = roots.add_parsable_certificates(system.certs);
        if trusted == 0 {
            tracing::warn!("the system has no certificates: webhooks to https endpoints will fail");
        }
        Self::trusting(guard, roots)
    }

    /// A connector that trusts `roots`.
    pub(super) fn trusting(guard: Guard, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider offers TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            guard,
            tls: TlsConnector::from(Arc::new(config)),
            lookup: Arc::new(|name| ask_system(name).boxed()),
        }
    }

    /// A fresh connection to `address`.
    pub(super) async fn connect(&self, address: &Address) -> Result<Connection, AttemptError> {
        let stream = self.reach(address).await?;
        if !address.tls {
            return handshake(stream).await;
        }
        let name = match &address.host {
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|e| AttemptError::Tls(e.to_string()))?
            }
            Host::Literal(ip) => ServerName::from(*ip),
        };
        let stream =
            self.tls.connect(name, stream).await.map_err(|error| AttemptError::Tls(error.to_string()))?;
        handshake(stream).await
    }

    /// Connects to the first of the checked addresses that answers.
    async fn reach(&self, address: &Address) -> Result<TcpStream, AttemptError> {
        let mut last = None;
        for ip in self.resolve(address).await? {
            match TcpStream::connect(SocketAddr::new(ip, address.port)).await {
                Ok(stream) => {
                    // Requests are written whole; waiting for more only delays them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY can't be set");
                    }
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(AttemptError::Connect(last.map_or_else(|| "no address".to_owned(), |error| error.to_string())))
    }

    /// The addresses that may be connected to, in the resolver's order. Literal addresses pass the same check.
    async fn resolve(&self, address: &Address) -> Result<Vec<IpAddr>, AttemptError> {
        let found: Vec<IpAddr> = match &address.host {
            Host::Literal(ip) => vec![*ip],
            Host::Name(name) => {
                (self.lookup)(name.clone()).await.map_err(|error| AttemptError::Resolve(error.to_string()))?
            }
        };
        let Some(first) = found.first().copied() else {
            return Err(AttemptError::Resolve("it has no address".to_owned()));
        };
        let allowed: Vec<IpAddr> =
            found.into_iter().filter(|ip| self.guard.allows(*ip)).take(ADDRESSES).collect();
        if allowed.is_empty() {
            tracing::warn!(host = ?address.host, address = %first, "a webhook's host has no address that may be sent to");
            return Err(AttemptError::Forbidden);
        }
        Ok(allowed)
    }
}

/// The system's own resolver.
async fn ask_system(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
}

/// Speaks HTTP/1.1 over `stream`.
pub(super) async fn handshake<S>(stream: S) -> Result<Connection, AttemptError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(Flushing::new(stream)))
        .await
        .map_err(|error| AttemptError::Connect(error.to_string()))?;
    Ok(Connection::new(sender, connection))
}
