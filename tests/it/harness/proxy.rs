//! A TCP proxy that can be cut: what stands behind it is then away, for the program alone.

use std::net::SocketAddr;
use std::sync::Arc;

use orderflow::task;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to one address while it is open.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// A proxy on loopback before `target` (`host:port`).
    pub(crate) async fn before(target: &str, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(watch::Sender::new(open));
        let (state, target) = (Arc::clone(&open), target.to_owned());
        task::spawn("proxy", async move {
            while let Ok((inbound, _)) = listener.accept().await {
                let (mut state, target) = (state.subscribe(), target.clone());
                task::spawn("proxied connection", async move {
                    if *state.borrow_and_update() {
                        tokio::select! {
                            () = forward(inbound, &target) => {}
                            _ = state.wait_for(|open| !open) => {}
                        }
                    }
                });
            }
        });
        Self { address, open }
    }

    /// Ends every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub(crate) fn restore(&self) {
        self.open.send_replace(true);
    }
}

async fn forward(mut inbound: TcpStream, target: &str) {
    if let Ok(mut outbound) = TcpStream::connect(target).await {
        // Either side hanging up ends it, which is all that a proxy has to say about it.
        let _ = copy_bidirectional(&mut inbound, &mut outbound).await;
    }
}

/// `url` with the address in it replaced by the proxy's, and the address it had (`host:port`).
pub(crate) fn address_of(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    let port = url.port_or_known_default().expect("a port");
    format!("{}:{port}", url.host_str().expect("a host"))
}

/// `url` with its host and port replaced.
pub(crate) fn through(url: &str, proxy: &Proxy) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_host(Some(&proxy.address.ip().to_string())).expect("a host");
    url.set_port(Some(proxy.address.port())).expect("a port");
    url.to_string()
}
