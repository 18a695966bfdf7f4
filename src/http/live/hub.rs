//! The rooms: who is connected, and what came last.
//!
//! One lock guards all rooms; it is held for a look-up and a few pushes, never while waiting. Everything is
//! bounded: clients, each client's queue, what is kept per user and in all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::{LiveMessage, LiveOptions};
use crate::clock::Clock;
use crate::event::LiveNotification;
use crate::telemetry::Metrics;

/// How far the broker's clock and ours may differ before a client misses what is new, in milliseconds.
const CLOCK_SKEW_MS: i64 = 30_000;

/// (tenant, user): equal user ids of two tenants are two people.
type RoomKey = (Arc<str>, Arc<str>);

/// The rooms of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: LiveOptions,
    metrics: Arc<Metrics>,
    clock: Clock,
    closing: CancellationToken,
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    by_user: HashMap<RoomKey, Room>,
    clients: usize,
    /// Connections that haven't said yet whose they are.
    waiting: usize,
    next_client: u64,
    /// How many messages the rings hold together.
    kept: usize,
    /// Room and place of each message, oldest first. What a ring forgot by itself may still stand here for a
    /// while.
    ages: VecDeque<(RoomKey, u64)>,
}

#[derive(Debug, Default)]
struct Room {
    ring: VecDeque<Kept>,
    /// The place of the next message among all that this room ever had.
    next_place: u64,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Kept {
    place: u64,
    id: String,
    json: Arc<str>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    joined_at_ms: i64,
    queue: mpsc::Sender<Queued>,
}

/// A message on its way to one client.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) json: Arc<str>,
}

/// Why a client isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// The process has as many clients as it takes.
    #[error("as many clients are connected as this server takes")]
    Server,
    /// The user has.
    #[error("this user has as many connections as one may have")]
    User,
}

/// A client's place in its room; dropping it leaves the room.
#[derive(Debug)]
pub(super) struct Session {
    hub: Hub,
    room: RoomKey,
    number: u64,
    joined_place: u64,
    /// Ends when the client was too slow.
    pub(super) queue: mpsc::Receiver<Queued>,
}

/// The place of a connection without a user yet; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Waiting(Hub);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.rooms().waiting -= 1;
    }
}

impl Hub {
    /// Empty rooms.
    pub fn new(options: LiveOptions, metrics: Arc<Metrics>, clock: Clock) -> Self {
        for outcome in ["sent", "nobody", "slow", "duplicate"] {
            metrics.ws_messages.with_label_values(&[outcome]);
        }
        let closing = CancellationToken::new();
        Self(Arc::new(Inner { options, metrics, clock, closing, rooms: Mutex::default() }))
    }

    /// Shows `message` to the user's clients and keeps it for those that come back. A message that is kept
    /// already (the topic may repeat) changes nothing.
    pub fn deliver(&self, tenant: &str, user: &str, message: &LiveMessage) {
        let key: RoomKey = (tenant.into(), user.into());
        let json: Arc<str> = message.to_json().into();
        let mut guard = self.rooms();
        let rooms = &mut *guard;
        let room = rooms.by_user.entry(key.clone()).or_default();
        if room.ring.iter().any(|kept| kept.id == message.id) {
            self.count("duplicate");
            return;
        }
        let place = room.next_place;
        room.ring.push_back(Kept { place, id: message.id.clone(), json: Arc::clone(&json) });
        room.next_place += 1;
        let (mut sent, mut slow, before) = (0, 0, room.clients.len());
        room.clients.retain(|client| {
            if message.published_at_ms < client.joined_at_ms - CLOCK_SKEW_MS {
                return true;
            }
            match client.queue.try_send(Queued { json: Arc::clone(&json) }) {
                Ok(()) => {
                    sent += 1;
                    true
                }
                Err(TrySendError::Full(_)) => {
                    slow += 1;
                    false
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
        let gone = before - room.clients.len();
        rooms.clients -= gone;
        rooms.kept += 1;
        rooms.ages.push_back((key.clone(), place));
        rooms.trim(&key, &self.0.options);
        self.show_clients(rooms);
        drop(guard);
        self.0.metrics.ws_messages.with_label_values(&["sent"]).inc_by(sent);
        self.0.metrics.ws_messages.with_label_values(&["slow"]).inc_by(slow);
        if sent == 0 && slow == 0 {
            self.count("nobody");
        }
    }

    /// [`Hub::deliver`] for a record of `notifications.live` that was put there at `published_at_ms`.
    pub fn show(&self, notification: &LiveNotification, published_at_ms: i64) {
        let message = LiveMessage {
            id: notification.notification_id.clone(),
            kind: notification.event_type.clone(),
            order_id: notification.order_id.clone(),
            message: notification.message.clone(),
            occurred_at_ms: notification.occurred_at,
            published_at_ms,
        };
        self.deliver(&notification.tenant_id, &notification.user_id, &message);
    }

    /// Ends every connection, with the reason that the server goes away; nobody is let in afterwards.
    pub fn close(&self) {
        self.0.closing.cancel();
    }

    pub(super) fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    pub(super) fn options(&self) -> &LiveOptions {
        &self.0.options
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Takes a place for a connection that hasn't said yet whose it is: those count, too.
    pub(super) fn wait(&self) -> Result<Waiting, Full> {
        let mut rooms = self.rooms();
        self.has_place(&rooms)?;
        rooms.waiting += 1;
        Ok(Waiting(self.clone()))
    }

    fn has_place(&self, rooms: &Rooms) -> Result<(), Full> {
        let taken = rooms.clients + rooms.waiting;
        match taken < self.0.options.max_clients && !self.0.closing.is_cancelled() {
            true => Ok(()),
            false => Err(Full::Server),
        }
    }

    pub(super) fn join(&self, tenant: &str, user: &str) -> Result<Session, Full> {
        let room_key: RoomKey = (tenant.into(), user.into());
        let joined_at_ms = self.0.clock.now_ms();
        let mut guard = self.rooms();
        let rooms = &mut *guard;
        self.has_place(rooms)?;
        let room = rooms.by_user.entry(room_key.clone()).or_default();
        if room.clients.len() >= self.0.options.max_clients_per_user {
            return Err(Full::User);
        }
        let (sender, queue) = mpsc::channel(self.0.options.queue.max(1));
        let number = rooms.next_client;
        rooms.next_client += 1;
        rooms.clients += 1;
        room.clients.push(Client { number, joined_at_ms, queue: sender });
        let joined_place = room.next_place;
        self.show_clients(rooms);
        Ok(Session { hub: self.clone(), room: room_key, number, joined_place, queue })
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_clients(&self, rooms: &Rooms) {
        let clients = i64::try_from(rooms.clients).unwrap_or(i64::MAX);
        self.0.metrics.ws_clients.with_label_values::<&str>(&[]).set(clients);
    }

    fn count(&self, outcome: &str) {
        self.0.metrics.ws_messages.with_label_values(&[outcome]).inc();
    }
}

impl Rooms {
    /// Forgets the oldest messages beyond the bounds: first of the room that just grew, then of all.
    fn trim(&mut self, grown: &RoomKey, options: &LiveOptions) {
        if let Some(room) = self.by_user.get_mut(grown)
            && room.ring.len() > options.kept_per_user
        {
            room.ring.pop_front();
            self.kept -= 1;
        }
        while self.kept > options.kept_in_all {
            let Some((key, place)) = self.ages.pop_front() else { break };
            if let Some(room) = self.by_user.get_mut(&key)
                && room.ring.front().is_some_and(|oldest| oldest.place == place)
            {
                room.ring.pop_front();
                self.kept -= 1;
            }
            self.forget_if_empty(&key);
        }
        if self.ages.len() > 2 * options.kept_in_all.max(1) {
            let rooms = &self.by_user;
            self.ages.retain(|(key, place)| {
                let oldest = rooms.get(key).and_then(|room| room.ring.front());
                oldest.is_some_and(|oldest| oldest.place <= *place)
            });
        }
    }

    fn forget_if_empty(&mut self, key: &RoomKey) {
        if self.by_user.get(key).is_some_and(|room| room.clients.is_empty() && room.ring.is_empty()) {
            self.by_user.remove(key);
        }
    }
}

impl Session {
    /// What came after the message `last_id` and before this client joined (what came later is in its queue).
    /// `None` when that isn't known any more.
    pub(super) fn missed(&self, last_id: &str) -> Option<Vec<Arc<str>>> {
        let rooms = self.hub.rooms();
        let ring = &rooms.by_user.get(&self.room)?.ring;
        let last = ring.iter().find(|kept| kept.id == last_id)?.place;
        let missed = ring.iter().filter(|kept| kept.place > last && kept.place < self.joined_place);
        Some(missed.map(|kept| Arc::clone(&kept.json)).collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut guard = self.hub.rooms();
        let rooms = &mut *guard;
        if let Some(room) = rooms.by_user.get_mut(&self.room) {
            let before = room.clients.len();
            room.clients.retain(|client| client.number != self.number);
            rooms.clients -= before - room.clients.len();
        }
        rooms.forget_if_empty(&self.room);
        self.hub.show_clients(rooms);
    }
}
