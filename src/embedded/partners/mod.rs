//! Sample partners: HTTP servers on loopback that receive webhooks, verify them and keep books.
//!
//! They stand for somebody else's system, so they share no code with the sender: what it signs is verified
//! here from the text of the Standard Webhooks specification alone, and whether it kept the order, doubled or
//! lost something is judged by [`book::Book`] from what arrived.

pub mod book;
mod server;
mod verify;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use self::book::Book;
use super::chance;
use super::feed::Feed;
use crate::clock::Clock;
use crate::crypto::Secret;
use crate::event::EventType;
use crate::task;

/// How long a partner that answers too late lets its callers wait.
pub const HANGS_FOR: Duration = Duration::from_secs(3);

/// How a partner behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Accepts everything it can verify.
    Healthy,
    /// Fails some events when it sees them first; which ones is decided by the seed and the event's id.
    FailsAtTimes {
        /// Decides which.
        seed: u64,
        /// One event in this many fails.
        one_in: u64,
    },
    /// Refuses connections for that long, then is healthy.
    DownFor(Duration),
}

/// What a partner does with a request that it could verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Accept,
    /// Answers 500.
    Fail,
    /// Answers 503, but only after [`HANGS_FOR`], when a sensible caller has given up.
    Hang,
}

impl Behaviour {
    /// Whether the event called `id` (`evt_…`) is failed when it is seen first.
    pub fn fails(self, id: &str) -> bool {
        self.mood(id, 1) != Mood::Accept
    }

    /// How the `sighting`th (from 1) request with this id is met.
    fn mood(self, id: &str, sighting: u32) -> Mood {
        let Self::FailsAtTimes { seed, one_in } = self else { return Mood::Accept };
        if chance::roll(seed, id, one_in) != 0 {
            return Mood::Accept;
        }
        // Of ten that fail, seven fail once, two three times (long enough to be parked), one hangs once.
        let (mood, sightings) = match chance::roll(seed, &format!("{id} how"), 10) {
            0 => (Mood::Hang, 1),
            1 | 2 => (Mood::Fail, 3),
            _ => (Mood::Fail, 1),
        };
        if sighting <= sightings { mood } else { Mood::Accept }
    }
}

/// A running partner; it closes when this is dropped.
#[derive(Debug)]
pub struct Partner {
    name: String,
    wants: Vec<EventType>,
    address: SocketAddr,
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

/// What the server needs to receive one request.
#[derive(Debug)]
struct Desk {
    name: String,
    behaviour: Behaviour,
    clock: Clock,
    feed: Feed,
    secret: Mutex<Option<Secret<String>>>,
    book: Mutex<Book>,
}

impl Partner {
    /// Opens a partner on a free loopback port. It wants events of these types, of all types if there are none.
    /// Its books remember the newest `capacity` orders.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn open(
        name: &str,
        behaviour: Behaviour,
        wants: &[EventType],
        capacity: usize,
        clock: Clock,
        feed: Feed,
    ) -> io::Result<Self> {
        // A bound socket that doesn't listen yet keeps its port and refuses every connection.
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        let desk = Arc::new(Desk {
            name: name.to_owned(),
            behaviour,
            clock,
            feed,
            secret: Mutex::default(),
            book: Mutex::new(Book::new(capacity)),
        });
        let server = match behaviour {
            Behaviour::Healthy | Behaviour::FailsAtTimes { .. } => {
                let listener = listen(socket)?;
                task::spawn("partner", server::serve(listener, Arc::clone(&desk)))
            }
            Behaviour::DownFor(time) => {
                let desk = Arc::clone(&desk);
                task::spawn("partner", async move {
                    desk.clock.sleep(time).await;
                    match listen(socket) {
                        Ok(listener) => server::serve(listener, desk).await,
                        Err(error) => tracing::error!(partner = desk.name, %error, "a partner can't come up"),
                    }
                })
            }
        };
        Ok(Self { name: name.to_owned(), wants: wants.to_vec(), address, desk, server })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it behaves.
    pub fn behaviour(&self) -> Behaviour {
        self.desk.behaviour
    }

    /// The types it asks for when it registers; none is all.
    pub fn wants(&self) -> &[EventType] {
        &self.wants
    }

    /// Whether it asks for events of this (dotted) type.
    pub fn takes(&self, event_type: &str) -> bool {
        self.wants.is_empty() || self.wants.iter().any(|wanted| wanted.as_str() == event_type)
    }

    /// Where it wants its webhooks.
    pub fn url(&self) -> String {
        format!("http://{}/hooks/orders", self.address)
    }

    /// Hands the partner the secret that it was shown at registration (`whsec_…`). Without one it can verify
    /// nothing and refuses everything.
    pub fn learn_secret(&self, secret: Secret<String>) {
        *self.desk.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }

    /// The partner's books. Hold them for a moment only: requests wait meanwhile.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.desk.book()
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secret(&self) -> Option<Secret<String>> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(1024)
}

#[cfg(test)]
mod tests;
