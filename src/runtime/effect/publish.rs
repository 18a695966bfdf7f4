//! What the outside sees of an effect stage: progress and metrics, a few times a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::sparing::Sparing;
use crate::runtime::lanes::{Count, Lanes};
use crate::runtime::progress::{Balance, PartitionProgress, PartitionState, Progress};
use crate::runtime::series;
use crate::runtime::stage::EffectStage;

/// Counting all lanes may take one part in so many of the engine's time.
const COUNTING_SHARE: u32 = 50;
/// What is shown of them is no older than this.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// What was counted last: with a million lanes a count takes long.
#[derive(Debug)]
pub(super) struct Counted {
    lanes: Count,
    sparing: Sparing,
}

impl Default for Counted {
    fn default() -> Self {
        Self { lanes: Count::default(), sparing: Sparing::new(COUNTING_SHARE, COUNTED_WITHIN) }
    }
}

impl Counted {
    fn of(&mut self, lanes: &Lanes) -> Count {
        if self.sparing.wait().is_none() {
            let began = Instant::now();
            self.lanes = lanes.count();
            self.sparing.done(began);
        }
        self.lanes
    }
}

impl<S: EffectStage> Engine<S> {
    pub(super) fn publish(&mut self, joined: bool) {
        self.tally.flush();
        let (mut partitions, mut cursor_lag, mut all_unread) = (BTreeMap::new(), 0, 0);
        let (appends_waiting, waiting_for) = self.appends.overdue();
        self.env.metrics.appends_waiting.with_label_values(&[&*self.name]).set(appends_waiting as i64);
        let mut balance = Balance { parked: 0, in_flight: 0, ..self.balance };
        for (&number, owned) in self.partitions.iter() {
            let census = self.lanes.census(number);
            balance.parked += census.parked;
            let own = owned.cursors.as_deref();
            let covered = own.map_or(0, |own| own.to_be_handed());
            balance.in_flight += census.in_memory + owned.records_moving + covered;
            let position = owned.source.committable();
            let end = owned.gauge.end().max(position);
            series::lag(&self.env.metrics, &self.spec, number, end - position);
            series::maps(&self.env.metrics, &self.spec, number, owned.map_characters());
            let state = match (&owned.state, waiting_for.get(&number)) {
                (PartitionState::Starting | PartitionState::Flowing, Some(topic)) => {
                    PartitionState::Waiting(format!("records for {topic} wait for Kafka's acknowledgement"))
                }
                (state, _) => state.clone(),
            };
            let (detached, held) = own.map_or((0, 0), |own| own.table.count());
            cursor_lag += own.map_or(0, |own| own.table.lag(owned.next_admitted()));
            let parked = census.parked;
            let trouble = self.guard.trouble(number);
            let unread = self.unread(owned);
            all_unread += unread;
            let of_partition =
                PartitionProgress { position, end, parked, unread, detached, held, state, trouble };
            partitions.insert(number, of_partition);
        }
        for (&number, fault) in &self.faulted {
            partitions.insert(number, PartitionProgress::stopped(fault));
        }
        self.tell_unread(all_unread);
        let lanes = self.counted.of(&self.lanes);
        let (metrics, name) = (&self.env.metrics, [&*self.name]);
        let running: usize = self.partitions.values().map(|owned| owned.jobs).sum();
        metrics.tasks_in_flight.with_label_values(&name).set(running as i64);
        metrics.lanes_active.with_label_values(&name).set((lanes.lanes - lanes.parked) as i64);
        metrics.lanes_parked.with_label_values(&name).set(lanes.parked as i64);
        metrics.lanes_held.with_label_values(&name).set(lanes.held as i64);
        let waits_ms = lanes.oldest_failed_ms.map_or(0, |failed| (self.env.clock.now_ms() - failed).max(0));
        metrics.retry_oldest.with_label_values(&name).set(waits_ms as f64 / 1_000.0);
        metrics.retry_depth.with_label_values(&name).set(balance.parked as i64);
        metrics.cursor_lag.with_label_values(&name).set(i64::try_from(cursor_lag).unwrap_or(i64::MAX));
        self.hands.stage.cursors_lag(cursor_lag);
        series::troubles(metrics, &self.name, partitions.values());
        let paused = self.supervision.paused().cloned();
        let outside = self.desk.outside();
        let now = Progress { joined, paused, outside, partitions, balance };
        self.progress.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
