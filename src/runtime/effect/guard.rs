//! The watchdog's eyes and hands: looks at every partition once a second, and does what is advised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::partition::Partition;
use super::report::Kind;
use crate::runtime::options::RuntimeOptions;
use crate::runtime::progress::PartitionState;
use crate::runtime::stage::EffectStage;
use crate::runtime::watchdog::{Advice, Head, LOST_WAKEUP, Look, Trouble, Watchdog, WatchdogOptions};

/// Between looks.
const EVERY: Duration = Duration::from_secs(1);

/// What is being done at one moment.
#[derive(Debug, Default)]
struct UnderWay {
    /// Source records that attempts are made at.
    busy: BTreeSet<(i32, i64)>,
    /// The first record of each partition whose attempt runs for too long.
    stuck: BTreeMap<i32, i64>,
    /// Partitions of which something has long been on its way to another topic, or its stage is being told so first.
    appending: BTreeSet<i32>,
}

/// When what was or will be looked at.
#[derive(Debug)]
pub(super) struct Guard {
    dog: Watchdog,
    options: WatchdogOptions,
    next_look: Instant,
    next_poll: Instant,
}

impl Guard {
    pub(super) fn new(options: &RuntimeOptions) -> Self {
        let options = options.watchdog.for_handlers(options.timeout, options.in_place_limit);
        let now = Instant::now();
        Self { dog: Watchdog::new(options), options, next_look: now, next_poll: now + options.poll_after }
    }

    /// What a partition suffers from, until it has gone on.
    pub(super) fn trouble(&self, partition: i32) -> Option<Trouble> {
        self.dog.trouble(partition)
    }
}

impl<S: EffectStage> Engine<S> {
    /// Looks at everything, when it is time to.
    pub(super) fn watch(&mut self) {
        let now = Instant::now();
        if now >= self.guard.next_poll {
            self.guard.next_poll = now + self.guard.options.poll_after;
            self.poll_unasked(now);
        }
        if now < self.guard.next_look {
            return;
        }
        self.guard.next_look = now + EVERY.min(self.guard.options.stalled_after / 4);
        let now_ms = self.env.clock.now_ms();
        let (_, waiting) = self.appends.overdue();
        let under_way = self.under_way(now);
        let mut advice = Vec::new();
        for (&number, owned) in self.partitions.iter() {
            let is_idle =
                owned.closed || self.supervision.paused().is_some() || waiting.contains_key(&number);
            let mut look = self.look_at(number, owned, &under_way);
            if is_idle {
                (look.fetches, look.head) = (false, Head::Idle);
            }
            let advised = self.guard.dog.look(number, look, now_ms);
            advice.extend(advised.map(|advice| (number, look.position, advice)));
        }
        self.guard.dog.forget_others(now_ms);
        for (partition, position, advice) in advice {
            match advice {
                // Behind a slow target its turn may come late.
                Advice::LookCloser if self.lanes.waits_its_turn(partition, position, now_ms) => {
                    self.guard.dog.excuse(partition, now_ms);
                }
                Advice::LookCloser => {}
                Advice::AskEnd => self.desk.ask_end(partition),
                Advice::TakeUp(trouble) => {
                    tracing::error!(stage = %self.name, partition, %trouble, "the partition is taken up anew");
                    self.found(trouble.kind());
                    self.take_up_anew(partition);
                }
            }
        }
    }

    /// A partition as it is.
    fn look_at(&self, number: i32, owned: &Partition, under_way: &UnderWay) -> Look {
        let (position, delivered) = (owned.source.committable(), owned.source.delivered());
        let nothing = Look {
            generation: owned.generation,
            position,
            fetched: 0,
            end: None,
            fetches: false,
            head: Head::Idle,
            stuck: under_way.stuck.get(&number).copied().filter(|_| !owned.closed),
        };
        match &owned.state {
            PartitionState::Flowing => {
                let in_memory = self.lanes.census(number).in_memory;
                Look {
                    fetched: delivered.max(owned.gauge.next_fetch()),
                    end: owned.gauge.asked_end(),
                    fetches: owned.queue.is_empty() && !owned.intake && in_memory == 0,
                    head: match owned.cursors.as_deref() {
                        _ if position >= delivered => Head::None,
                        _ if owned.intake => Head::Intake,
                        Some(own) if own.covers(position) => Head::Cursor,
                        _ if under_way.appending.contains(&number) => Head::Append,
                        _ if under_way.busy.contains(&(number, position)) => Head::Attempt,
                        _ => Head::Rests,
                    },
                    ..nothing
                }
            }
            // Its own marker is still to be read. Before it is written the cursors are claimed, for which the store is waited.
            PartitionState::Starting => {
                let has_cursors = self.spec.cursors.is_none() || owned.cursors.is_some();
                Look {
                    fetched: owned.retry.delivered(),
                    end: owned.gauge.asked_end().map(|_| i64::MAX),
                    fetches: !owned.tenure.is_claiming() && has_cursors,
                    ..nothing
                }
            }
            PartitionState::Waiting(_) | PartitionState::Stopped(_) => nothing,
        }
    }

    fn under_way(&self, now: Instant) -> UnderWay {
        let mut found = UnderWay::default();
        for (label, began) in self.running.all() {
            let no = match label.kind {
                Kind::Attempt(Some(no)) | Kind::Load(no) => no,
                Kind::Append | Kind::Record(_) => {
                    if now.duration_since(began) >= EVERY {
                        found.appending.insert(label.partition);
                    }
                    continue;
                }
                Kind::Attempt(None) | Kind::Intake => continue,
            };
            let Some(identity) = self.lanes.known(no) else { continue };
            found.busy.insert((identity.partition, identity.offset));
            if now.duration_since(began) >= self.guard.options.attempt_after {
                let first = found.stuck.entry(identity.partition).or_insert(identity.offset);
                *first = identity.offset.min(*first);
            }
        }
        found
    }

    /// Polls what runs for long although nobody woke it. What is ready then would have waited for ever.
    fn poll_unasked(&mut self, now: Instant) {
        let Some(since) = now.checked_sub(self.guard.options.poll_after) else { return };
        let polled = self.running.nudge(since);
        if polled.is_empty() {
            return;
        }
        // What is left of the last turn, and then these.
        while self.turn() {}
        while self.turn() {}
        for (partition, slot, began) in polled {
            if !self.running.holds(slot, began) {
                tracing::error!(stage = %self.name, partition, waited = ?now.duration_since(began),
                    "work was ready, but nothing had woken it");
                self.found(LOST_WAKEUP);
            }
        }
    }

    fn found(&self, kind: &str) {
        self.env.metrics.watchdog.with_label_values(&[&*self.name, kind]).inc();
    }
}
