//! Notices that a client can't go on, and puts a new one in its place.
//!
//! Two things are noticed: an error that librdkafka calls fatal (the producer was fenced, or lost its place with the
//! broker), and a record that isn't acknowledged although another client hears from the cluster that its partition has a
//! leader. The latter is a known fault of librdkafka: after a broker was stopped in good order and started again, a
//! client may believe for ever that a partition has no leader (librdkafka issue 5430); a connection that swallows what it
//! is given looks the same.
//!
//! Only sends that wait look whether something is wrong, and only while something seems to be is there a thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Inner;
use super::book::{Oldest, lock};
use super::client::{Client, Sent};
use crate::task;

/// Why a client was replaced, as a metric label.
pub(super) const REASONS: [&str; 2] = [FATAL, STUCK];
const FATAL: &str = "fatal";
const STUCK: &str = "stuck";

/// A record that waits for longer makes one ask the cluster.
const OVERDUE: Duration = Duration::from_secs(2);
/// How long it may wait from the moment on when the cluster says that it has a leader; doubles while new clients don't help.
const GRACE: Duration = Duration::from_secs(4);
const LONGEST_GRACE: Duration = Duration::from_secs(120);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(250);
/// After a client was replaced: how long the new one is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts a thread that looks after the client, if something is wrong and none does.
pub(super) fn look_after(inner: &Arc<Inner>) {
    // Thousands of sends may wait, and each of them asks.
    if inner.is_looked_after.load(Ordering::Relaxed) {
        return;
    }
    let is_wrong = !lock(&inner.line).client.is_well() || inner.overdue().is_some();
    if !is_wrong || inner.is_looked_after.swap(true, Ordering::Relaxed) {
        return;
    }
    let weak = Arc::downgrade(inner);
    let started = task::spawn_thread("producer-care", move || {
        let mut care = Care { probe: None, doubt: None, grace: GRACE, pause: LEFT_ALONE };
        while let Some(inner) = weak.upgrade() {
            if !care.look(&inner) {
                inner.is_looked_after.store(false, Ordering::Relaxed);
                return;
            }
            drop(inner);
            std::thread::sleep(PAUSE);
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread to look after the kafka producer");
        inner.is_looked_after.store(false, Ordering::Relaxed);
    }
}

/// What is known of an overdue record.
struct Care {
    /// Asks the cluster, and takes the client's place if it has to.
    probe: Option<Client>,
    /// The overdue record, and since when the cluster has a leader for it.
    doubt: Option<(u64, Instant)>,
    grace: Duration,
    /// How long the next new client is left alone; doubles while they break.
    pause: Duration,
}

impl Care {
    /// One look. False when everything is well.
    fn look(&mut self, inner: &Inner) -> bool {
        let client = Arc::clone(&lock(&inner.line).client);
        if let Some(fault) = client.fault() {
            self.replace(inner, &client, FATAL, &fault);
            return true;
        }
        let Some(oldest) = inner.overdue() else { return false };
        if self.is_stuck(inner, &client, &oldest) {
            let why = format!(
                "a record for {} is not acknowledged, though its partition has a leader",
                oldest.record.topic
            );
            self.replace(inner, &client, STUCK, &why);
            // When the new one doesn't get it there either, it isn't the client.
            self.grace = (self.grace * 2).min(LONGEST_GRACE);
        }
        true
    }

    fn is_stuck(&mut self, inner: &Inner, client: &Client, oldest: &Oldest) -> bool {
        if self.probe.is_none() {
            self.probe = Client::new(&inner.kafka, &inner.book, client.number() + 1)
                .inspect_err(|error| tracing::error!(%error, "a kafka producer can't be made"))
                .ok();
        }
        if !self.probe.as_ref().is_some_and(|probe| probe.has_leader(&oldest.record)) {
            self.doubt = None;
            return false;
        }
        match self.doubt {
            Some((number, since)) if number == oldest.number => {
                since.elapsed() >= self.grace && lock(&inner.book).is_open(number)
            }
            Some(_) | None => {
                self.doubt = Some((oldest.number, Instant::now()));
                false
            }
        }
    }

    /// Puts a new client in the place of `old`, and has it send what the old one didn't get there, in order.
    fn replace(&mut self, inner: &Inner, old: &Client, reason: &'static str, why: &str) {
        self.doubt = None;
        let made =
            self.probe.take().map_or_else(|| Client::new(&inner.kafka, &inner.book, old.number() + 1), Ok);
        let fresh = match made {
            Ok(fresh) => Arc::new(fresh),
            Err(error) => {
                tracing::error!(%error, "the kafka producer can't go on, and a new one can't be made; trying again");
                return;
            }
        };
        tracing::error!(reason, why, "the kafka producer can't go on; a new one takes its place");
        lock(&inner.line).moving = true;
        old.give_up();
        loop {
            let mut line = lock(&inner.line);
            if inner.send_again(&fresh) {
                line.client = fresh;
                line.moving = false;
                break;
            }
            drop(line);
            std::thread::sleep(PAUSE);
        }
        if let Some(metrics) = inner.metrics.get() {
            metrics.producer_rebuilds.with_label_values(&[reason]).inc();
        }
        std::thread::sleep(self.pause);
        if reason == FATAL {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Inner {
    /// The record that waits for too long.
    fn overdue(&self) -> Option<Oldest> {
        lock(&self.book).oldest().filter(|oldest| oldest.waits >= OVERDUE)
    }

    /// Gives `fresh` everything that it doesn't have. False when its queue is full: then it isn't all of it.
    fn send_again(&self, fresh: &Client) -> bool {
        let mut records = lock(&self.book).hand_on(fresh.number()).into_iter();
        while let Some((number, record)) = records.next() {
            match fresh.send(&record, number) {
                Ok(Sent::OnItsWay) => {}
                Ok(Sent::Broken) => lock(&self.book).give_back(number, fresh.number()),
                Err(error)
                    if error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::QueueFull) =>
                {
                    let mut book = lock(&self.book);
                    book.give_back(number, fresh.number());
                    records.for_each(|(number, _)| book.give_back(number, fresh.number()));
                    return false;
                }
                Err(error) => lock(&self.book).failed(number, fresh.number(), error),
            }
        }
        true
    }
}
