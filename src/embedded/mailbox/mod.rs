//! A mail server on loopback that keeps what it accepts in memory, for the ledger, tests and the terminal.
//!
//! It speaks as much SMTP (RFC 5321) as a sender needs and delivers nothing anywhere. It can fail at times:
//! a seeded share of recipients is put off with 451 once.

mod message;
mod session;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::chance;
use super::feed::Feed;
use crate::task;

pub use message::Mail;

/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;

/// Which recipients are put off once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutsOff {
    /// Decides which.
    pub seed: u64,
    /// One recipient in this many.
    pub one_in: u64,
}

/// What was accepted.
#[derive(Debug, Default)]
pub struct Letters {
    /// The newest mails, oldest first.
    pub mails: VecDeque<Mail>,
    /// Mails accepted, also those no longer kept.
    pub accepted: u64,
    /// Mails whose `Message-ID` (with the same recipients) had been accepted before.
    pub duplicates: u64,
    /// Recipients put off with 451.
    pub put_off: u64,
    seen: HashSet<(String, Vec<String>)>,
    put_off_before: HashSet<String>,
}

/// A running mail server; it closes when this is dropped.
#[derive(Debug)]
pub struct Mailbox {
    address: SocketAddr,
    room: Arc<Room>,
    server: JoinHandle<()>,
}

/// What the sessions share.
#[derive(Debug)]
struct Room {
    letters: Mutex<Letters>,
    capacity: usize,
    puts_off: Option<PutsOff>,
    feed: Feed,
}

impl Mailbox {
    /// Opens a mail server on a free loopback port that keeps the newest `capacity` mails.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn open(capacity: usize, puts_off: Option<PutsOff>, feed: Feed) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let room = Arc::new(Room { letters: Mutex::default(), capacity: capacity.max(1), puts_off, feed });
        let server = task::spawn("mailbox", serve(listener, Arc::clone(&room)));
        Ok(Self { address, room, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was accepted. Hold it for a moment only: sessions wait meanwhile.
    pub fn letters(&self) -> MutexGuard<'_, Letters> {
        self.room.letters()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Room {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this recipient is to try again later; asked again, it no longer is.
    fn puts_off(&self, recipient: &str) -> bool {
        let Some(PutsOff { seed, one_in }) = self.puts_off else { return false };
        if chance::roll(seed, recipient, one_in) != 0 {
            return false;
        }
        let mut letters = self.letters();
        // Bounded by starting over: a recipient put off twice is as real as one put off once.
        if letters.put_off_before.len() >= self.capacity {
            letters.put_off_before.clear();
        }
        let first = letters.put_off_before.insert(recipient.to_owned());
        letters.put_off += u64::from(first);
        first
    }

    fn accept(&self, mail: Mail) {
        for recipient in &mail.to {
            self.feed.tell(recipient, "mailbox", format!("mail to {recipient}: {}", mail.subject));
        }
        let mut letters = self.letters();
        letters.accepted += 1;
        if !letters.seen.insert(mail.identity()) {
            letters.duplicates += 1;
        }
        letters.mails.push_back(mail);
        while letters.mails.len() > self.capacity {
            if let Some(oldest) = letters.mails.pop_front() {
                letters.seen.remove(&oldest.identity());
            }
        }
    }
}

async fn serve(listener: TcpListener, room: Arc<Room>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Sessions belong to this task: they end with it.
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while sessions.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let room = Arc::clone(&room);
                sessions.spawn(async move {
                    if let Err(error) = session::run(stream, &room).await {
                        tracing::debug!(%error, "a mail session broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => tracing::warn!(%error, "the mailbox can't accept a connection"),
        }
    }
}

#[cfg(test)]
mod tests;
