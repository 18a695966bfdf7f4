//! A TCP proxy whose weather the test makes: open, cut, slow, stalled or half-closed. It never changes a byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orderflow::task;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything is forwarded.
    Open,
    /// Connections end at once, and new ones too.
    Cut,
    /// What is read waits this long before it goes on.
    Slow(Duration),
    /// Nothing is forwarded; what waits goes on when the weather changes.
    Stalled,
    /// The program reads the end of the stream, while what it writes still arrives.
    HalfClosed,
    /// What is written on the connections that there are arrives nowhere, and nothing comes back; new ones are served.
    Deaf,
}

/// Forwards to one address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// An open proxy on loopback before `target` (`host:port`).
    pub(crate) async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let weather = Arc::new(watch::Sender::new(Weather::Open));
        let (state, target) = (Arc::clone(&weather), target.to_owned());
        task::spawn("proxy", async move {
            while let Ok((inbound, _)) = listener.accept().await {
                task::spawn("proxied connection", forward(inbound, target.clone(), state.subscribe()));
            }
        });
        Self { address, weather }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn forward(inbound: TcpStream, target: String, weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(outbound) = TcpStream::connect(&target).await else { return };
    // Small requests and answers: a proxy that waits to fill packets would be a fault of its own.
    let _ = (inbound.set_nodelay(true), outbound.set_nodelay(true));
    let (client_reads, client_writes) = inbound.into_split();
    let (server_reads, server_writes) = outbound.into_split();
    // Either side's end is the end of both, but for a connection that is half-closed on purpose.
    tokio::select! {
        () = pump(client_reads, server_writes, weather.clone(), false) => {}
        () = pump(server_reads, client_writes, weather, true) => {}
    }
}

/// Forwards one direction until its end, a cut, or the end of a half-close.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    is_answers: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let is_deaf = *weather.borrow() != Weather::Deaf;
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Cut => return,
            Weather::HalfClosed if is_answers => {
                let _ = to.shutdown().await;
                let _ = weather.wait_for(|now| *now != Weather::HalfClosed).await;
                return;
            }
            Weather::Stalled => {
                let _ = weather.changed().await;
                continue;
            }
            Weather::Open | Weather::Slow(_) | Weather::HalfClosed | Weather::Deaf => {}
        }
        let read = tokio::select! {
            _ = weather.changed() => continue,
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else { return };
        if now == Weather::Deaf && is_deaf {
            continue;
        }
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
