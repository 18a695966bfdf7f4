//! What the outside sees of an effect stage: progress and metrics, a few times a second.

use std::collections::BTreeMap;

use super::engine::Engine;
use crate::runtime::progress::{Balance, PartitionProgress, Progress};
use crate::runtime::series;
use crate::runtime::stage::EffectStage;

impl<S: EffectStage> Engine<S> {
    pub(super) fn publish(&mut self, joined: bool) {
        self.tally.flush();
        let mut partitions = BTreeMap::new();
        let mut balance = Balance { parked: 0, in_flight: 0, ..self.balance };
        for (&number, owned) in &self.partitions {
            let census = self.lanes.census(number);
            balance.parked += census.parked;
            balance.in_flight += census.in_memory + owned.records_moving;
            let position = owned.source.committable();
            let end = owned.gauge.end().max(position);
            series::lag(&self.env.metrics, &self.spec, number, end - position);
            series::maps(&self.env.metrics, &self.spec, number, owned.map_characters());
            let state = owned.state.clone();
            partitions.insert(number, PartitionProgress { position, end, parked: census.parked, state });
        }
        for (&number, fault) in &self.faulted {
            partitions.insert(number, PartitionProgress::stopped(fault));
        }
        let lanes = self.lanes.count();
        let (metrics, name) = (&self.env.metrics, [&*self.name]);
        let running: usize = self.partitions.values().map(|owned| owned.jobs).sum();
        metrics.tasks_in_flight.with_label_values(&name).set(running as i64);
        metrics.lanes_active.with_label_values(&name).set((lanes.lanes - lanes.parked) as i64);
        metrics.lanes_parked.with_label_values(&name).set(lanes.parked as i64);
        metrics.lanes_held.with_label_values(&name).set(lanes.held as i64);
        let waits_ms = lanes.oldest_failed_ms.map_or(0, |failed| (self.env.clock.now_ms() - failed).max(0));
        metrics.retry_oldest.with_label_values(&name).set(waits_ms as f64 / 1_000.0);
        metrics.retry_depth.with_label_values(&name).set(balance.parked as i64);
        let paused = self.supervision.paused().cloned();
        let now = Progress { joined, paused, partitions, balance };
        self.progress.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
