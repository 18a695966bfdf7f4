//! The whole program in one process: for `orderflow demo`, and for tests that want to see all of it.
//!
//! ```text
//! traffic ──► orders.events (in-process broker) ──► all stages ──► SQLite in a temporary folder
//!                      ▲                              │  │  └────► partners (HTTP, verify signatures)
//!                      └──────── outbox relay ◄───────┘  └───────► mailbox (SMTP)
//! ```
//!
//! Nothing here is simulated but the outside: the stages, the relay and the API are those that run in
//! production, on wires of their own. Its secrets are made at start and gone at the end.

pub mod audit;
pub mod calm;
mod plant;
pub mod story;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::audit::{Audit, AuditError, Published, Witnesses};
use self::calm::{Calm, CalmError, Remaining};
pub use self::plant::DemoError;
use self::plant::Plant;
use self::story::Sample;
use crate::admin::publish::{InOrder, PublishError};
use crate::crypto::Secret;
use crate::embedded::partners::Partner;
use crate::embedded::traffic::{Traffic, TrafficOptions};

/// The tenant of the demo's traffic.
pub const TENANT: &str = "shop-1";

/// Events on their way to the broker at once, at most.
const ON_THEIR_WAY: usize = 200;
/// Records that the stages may be behind before the traffic waits: the in-process broker keeps only so many.
const MOST_BEHIND: i64 = 8_000;
/// How often (in events) the traffic looks how far behind the stages are.
const LOOK_EVERY: u64 = 500;

/// What to show.
#[derive(Debug, Clone, PartialEq)]
pub struct DemoOptions {
    /// How many orders.
    pub orders: u64,
    /// Events a second; `None` is as fast as the stages follow.
    pub rate: Option<f64>,
    /// The same seed gives the same orders and the same failures.
    pub seed: u64,
    /// Where the API listens.
    pub http: SocketAddr,
    /// How long the third partner is down at the start.
    pub partner_down_for: Duration,
}

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    options: DemoOptions,
    plant: Plant,
    calm: Calm,
    sample: Option<Sample>,
    published: AtomicU64,
    orders: AtomicU64,
    remaining: Mutex<Option<Remaining>>,
    began: Instant,
}

/// Where everything is, for a screen.
#[derive(Debug, Clone)]
pub struct Places {
    /// The broker's `host:port`.
    pub kafka: String,
    /// The registry's URL.
    pub registry: String,
    /// The API's URL.
    pub http: String,
    /// The mail server's `host:port`.
    pub smtp: String,
    /// Which topology applies.
    pub topology: String,
    /// The id of the registration of the partner that fails at times.
    pub webhook: String,
    /// A token of the demo's tenant with the roles service, admin and operator.
    pub token: Secret<String>,
}

/// How far the demo is. Read from the outside and the store, like the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Orders begun.
    pub orders: u64,
    /// Events published.
    pub events: u64,
    /// Events in the history, those of the stages included.
    pub history: u64,
    /// Messages in conversations.
    pub messages: u64,
    /// Mails accepted.
    pub mails: u64,
    /// Webhooks accepted by partners.
    pub webhooks: u64,
    /// Of these, after a retry.
    pub retried: u64,
    /// Disputes opened.
    pub disputes: u64,
    /// What is still to be done, once everything is published.
    pub remaining: Option<Remaining>,
}

/// Why a run broke off.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An event couldn't be published.
    #[error("the traffic broke off: {0}")]
    Publish(#[from] PublishError),
    /// It can't be seen how far the stages are.
    #[error(transparent)]
    Calm(#[from] CalmError),
    /// The ledger couldn't be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Demo {
    /// Starts everything; when it returns, every part listens and every stage was asked to start.
    ///
    /// # Errors
    /// When a part can't start; what was started ends.
    pub async fn start(options: DemoOptions, stop: CancellationToken) -> Result<Self, DemoError> {
        let plant = Plant::start(&options, stop).await?;
        let calm = plant.calm()?;
        let sample = story::choose(Traffic::new(traffic_options(&options)), |event| {
            let id = format!("evt_{}", event.meta().event_id);
            plant.partners.iter().any(|partner| partner.behaviour().fails(&id))
        });
        Ok(Self {
            options,
            plant,
            calm,
            sample,
            published: AtomicU64::new(0),
            orders: AtomicU64::new(0),
            remaining: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// Where everything is.
    pub fn places(&self) -> Places {
        Places {
            kafka: self.plant.services.broker.address().to_owned(),
            registry: self.plant.services.registry.url().to_owned(),
            http: format!("http://{}", self.plant.http),
            smtp: self.plant.mailbox.address().to_string(),
            topology: self.plant.topology.name.clone(),
            webhook: self.plant.failing_webhook(),
            token: self.plant.token.clone(),
        }
    }

    /// The partners, for their names and books.
    pub fn partners(&self) -> &[Partner] {
        &self.plant.partners
    }

    /// How many orders there are to be.
    pub fn orders(&self) -> u64 {
        self.options.orders
    }

    /// The order whose story is worth telling; none without orders.
    pub fn sample(&self) -> Option<&Sample> {
        self.sample.as_ref()
    }

    /// Tells the sample's story until `stop`.
    pub fn tell_story(&self, lines: tokio::sync::mpsc::Sender<story::Line>, stop: CancellationToken) {
        if let Some(sample) = self.sample.clone() {
            let (db, feed) = (self.plant.db.clone(), self.plant.feed.clone());
            drop(crate::task::spawn("story", story::tell(sample, db, feed, lines, stop)));
        }
    }

    /// Publishes all orders, or until `stop`; gives what was published and acknowledged.
    ///
    /// # Errors
    /// When the broker refuses an event.
    pub async fn publish(&self, stop: &CancellationToken) -> Result<Published, RunError> {
        let mut published = Published::default();
        let mut sending = InOrder::new(self.plant.publisher.clone(), ON_THEIR_WAY);
        let began = tokio::time::Instant::now();
        for (number, event) in (0..).zip(Traffic::new(traffic_options(&self.options))) {
            if let Some(rate) = self.options.rate {
                let due = began + Duration::from_secs_f64(number as f64 / rate);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            if number % LOOK_EVERY == LOOK_EVERY - 1 {
                self.wait_for_stages(stop).await?;
            }
            if stop.is_cancelled() {
                break;
            }
            // What isn't acknowledged ends the run, so what was pushed may be noted as published.
            published.add(&event);
            let begins = event.event_type() == crate::event::EventType::OrderCreated;
            self.orders.fetch_add(u64::from(begins), Ordering::Relaxed);
            let mut known = sending.push((), &event).await.or_else(|| sending.known());
            while let Some(((), ended)) = known {
                ended?;
                self.published.fetch_add(1, Ordering::Relaxed);
                known = sending.known();
            }
        }
        while let Some(((), ended)) = sending.next().await {
            ended?;
            self.published.fetch_add(1, Ordering::Relaxed);
        }
        Ok(published)
    }

    /// Waits until nothing is left to do, `patience` has passed without any progress, or `stop`.
    ///
    /// # Errors
    /// When broker or store don't answer.
    pub async fn settle(&self, patience: Duration, stop: &CancellationToken) -> Result<Remaining, RunError> {
        let (mut before, mut changed) = (Remaining::default(), Instant::now());
        loop {
            let remaining = self.calm.remaining().await?;
            *self.remaining.lock().unwrap_or_else(PoisonError::into_inner) = Some(remaining);
            if remaining.is_none() {
                return Ok(remaining);
            }
            if remaining != before {
                (before, changed) = (remaining, Instant::now());
            }
            if changed.elapsed() > patience || stop.is_cancelled() {
                return Ok(remaining);
            }
            self.plant.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// The ledger of what was `published`; everything must have settled before.
    ///
    /// # Errors
    /// When broker or store don't answer.
    pub async fn audit(&self, published: &Published) -> Result<Audit, RunError> {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let witnesses = Witnesses {
            db: &self.plant.db,
            partners: &self.plant.partners,
            mailbox: &self.plant.mailbox,
            kafka: &self.plant.kafka,
            topology: &self.plant.topology,
        };
        Ok(audit::audit(&witnesses, published, elapsed_ms).await?)
    }

    /// How far it is.
    pub async fn progress(&self) -> Progress {
        let stored = self.plant.stored_counts().await.unwrap_or_default();
        let counts = self.plant.partners.iter().map(|partner| partner.book().counts());
        let (webhooks, retried) = counts.fold((0, 0), |(accepted, retried), counts| {
            (accepted + counts.accepted, retried + counts.accepted - counts.first_try)
        });
        Progress {
            orders: self.orders.load(Ordering::Relaxed),
            events: self.published.load(Ordering::Relaxed),
            history: stored.history,
            messages: stored.messages,
            mails: self.plant.mailbox.letters().accepted,
            webhooks,
            retried,
            disputes: stored.disputes,
            remaining: *self.remaining.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Drains and ends everything; gives what failed on the way.
    pub async fn stop(self) -> Vec<String> {
        let Self { plant, calm, .. } = self;
        // Its clients go before their broker does.
        drop(calm);
        plant.stop().await
    }

    async fn wait_for_stages(&self, stop: &CancellationToken) -> Result<(), RunError> {
        while self.calm.remaining().await?.records > MOST_BEHIND && !stop.is_cancelled() {
            self.plant.clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn traffic_options(options: &DemoOptions) -> TrafficOptions {
    TrafficOptions { tenants: vec![TENANT.to_owned()], ..TrafficOptions::new(options.orders, options.seed) }
}

#[cfg(test)]
mod tests;
