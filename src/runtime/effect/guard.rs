//! The watchdog's eyes and hands: looks at every partition once a second, and does what is advised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::partition::Partition;
use super::report::Kind;
use crate::runtime::consumer::Rewind;
use crate::runtime::options::RuntimeOptions;
use crate::runtime::progress::PartitionState;
use crate::runtime::stage::EffectStage;
use crate::runtime::watchdog::{Advice, LOST_WAKEUP, Look, Trouble, Watchdog, WatchdogOptions};

/// Between looks.
const EVERY: Duration = Duration::from_secs(1);

/// See [`Engine::under_way`].
type UnderWay = (BTreeSet<(i32, i64)>, BTreeMap<i32, i64>, BTreeSet<i32>);

/// When what was or will be looked at.
#[derive(Debug)]
pub(super) struct Guard {
    dog: Watchdog,
    options: WatchdogOptions,
    next_look: Instant,
    next_poll: Instant,
    /// Since when the positions stand.
    heads: BTreeMap<i32, (i64, Instant)>,
}

impl Guard {
    pub(super) fn new(options: &RuntimeOptions) -> Self {
        let options = options.watchdog.for_handlers(options.timeout, options.in_place_limit);
        let now = Instant::now();
        Self {
            dog: Watchdog::new(options),
            options,
            next_look: now,
            next_poll: now + options.poll_after,
            heads: BTreeMap::new(),
        }
    }

    /// Whether the position stands for so long that it is worth a look at all tasks why.
    fn stands_long(&mut self, partition: i32, position: i64, now: Instant) -> bool {
        let head = self.heads.entry(partition).or_insert((position, now));
        if head.0 != position {
            *head = (position, now);
        }
        now.duration_since(head.1) >= self.options.head_after / 2
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
        let (busy, stuck, appending) = self.under_way(now);
        self.guard.heads.retain(|number, _| self.partitions.contains_key(number));
        let mut advice = Vec::new();
        for (&number, owned) in &self.partitions {
            let is_excused =
                owned.closed || self.supervision.paused().is_some() || waiting.contains_key(&number);
            let mut look = self.look_at(number, owned);
            look.fetches &= !is_excused;
            look.rests &=
                !is_excused && !appending.contains(&number) && !busy.contains(&(number, look.position));
            // Behind a slow target its turn may come late.
            look.rests &= !(self.guard.stands_long(number, look.position, now)
                && self.lanes.waits_its_turn(number, look.position));
            look.stuck = stuck.get(&number).copied().filter(|_| !owned.closed);
            advice.extend(
                self.guard.dog.look(number, look, now_ms).map(|advice| (number, owned.generation, advice)),
            );
        }
        self.guard.dog.forget_others(now_ms);
        for (partition, generation, advice) in advice {
            match advice {
                Advice::AskEnd => self.desk.ask_end(partition),
                Advice::TakeUp(trouble) => {
                    tracing::error!(stage = %self.name, partition, %trouble, "the partition is taken up anew");
                    self.found(trouble.kind());
                    self.desk.rewinds.ask(Rewind { order: None, partition, generation, to: None });
                }
            }
        }
    }

    /// Without what runs, and without what excuses everything.
    fn look_at(&self, number: i32, owned: &Partition) -> Look {
        let generation = owned.generation;
        let (position, delivered) = (owned.source.committable(), owned.source.delivered());
        let nothing =
            Look { generation, position, fetched: 0, end: None, fetches: false, rests: false, stuck: None };
        match &owned.state {
            PartitionState::Flowing => {
                let census = self.lanes.census(number);
                let is_empty = owned.queue.is_empty() && !owned.intake && census.in_memory == 0;
                let fetched = delivered.max(owned.gauge.next_fetch());
                let end = owned.gauge.asked_end();
                let is_covered = owned.cursors.as_deref().is_some_and(|own| own.covers(position));
                Look {
                    fetched,
                    end,
                    fetches: is_empty,
                    rests: position < delivered && !owned.intake && !is_covered,
                    ..nothing
                }
            }
            // Its own marker is still to be read. Before it is written the cursors are claimed, for which the store is waited.
            PartitionState::Starting => {
                let fetched = owned.retry.delivered();
                let end = owned.gauge.asked_end().map(|_| i64::MAX);
                let has_cursors = self.spec.cursors.is_none() || owned.cursors.is_some();
                Look { fetched, end, fetches: !owned.tenure.is_claiming() && has_cursors, ..nothing }
            }
            PartitionState::Waiting(_) | PartitionState::Stopped(_) => nothing,
        }
    }

    /// Source records that attempts are made at, the first one of each partition whose attempt runs for too long, and
    /// partitions of which something has long been on its way to another topic, or its stage is being told so first.
    fn under_way(&self, now: Instant) -> UnderWay {
        let (mut busy, mut stuck, mut appending) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        for (label, began) in self.running.all() {
            let no = match label.kind {
                Kind::Attempt(Some(no)) | Kind::Load(no) => no,
                Kind::Append => {
                    if now.duration_since(began) >= EVERY {
                        appending.insert(label.partition);
                    }
                    continue;
                }
                Kind::Attempt(None) | Kind::Intake => continue,
            };
            let Some(identity) = self.lanes.identity(no) else { continue };
            busy.insert((identity.partition, identity.offset));
            if now.duration_since(began) >= self.guard.options.attempt_after {
                let first = stuck.entry(identity.partition).or_insert(identity.offset);
                *first = identity.offset.min(*first);
            }
        }
        (busy, stuck, appending)
    }

    /// Polls what runs for long although nobody woke it. What is ready then would have waited for ever.
    fn poll_unasked(&mut self, now: Instant) {
        let Some(since) = now.checked_sub(self.guard.options.poll_after) else { return };
        let polled = self.running.nudge(since);
        if polled.is_empty() {
            return;
        }
        self.turn();
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
