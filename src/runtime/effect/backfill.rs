//! Carries out what is asked of cursors: backfills begin, keep their pace, and are cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::runtime::cursor::{Backfill, CursorWish, Wish};
use crate::runtime::stage::EffectStage;

/// What a backfill may make up for at once when it was not looked at for a while, in microseconds.
const SLACK_US: i64 = 1_000_000;

/// When the next event of each backfill is due. Pure.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<Arc<str>, i64>);

impl Paces {
    /// Whether an event of the backfill of `target` may be brought at `now_ms`.
    pub(super) fn is_due(&self, target: &str, now_ms: i64) -> bool {
        self.0.get(target).is_none_or(|due_us| *due_us <= micros(now_ms))
    }

    /// An event of the backfill of `target` was brought; the next is due `every` later.
    pub(super) fn brought(&mut self, target: &Arc<str>, every: Duration, now_ms: i64) {
        let now_us = micros(now_ms);
        let due_us = self.0.get(target).copied().unwrap_or(now_us).max(now_us - SLACK_US);
        let step = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
        self.0.insert(Arc::clone(target), due_us.saturating_add(step));
    }

    /// Forgets targets without a backfill.
    pub(super) fn keep(&mut self, runs: impl Fn(&str) -> bool) {
        self.0.retain(|target, _| runs(target));
    }
}

fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1_000)
}

impl<S: EffectStage> Engine<S> {
    pub(super) fn on_wishes(&mut self, partition: i32, wishes: Vec<(i64, CursorWish)>) {
        let Some(own) = self.cursors_of(partition) else { return };
        own.asking = false;
        for (id, CursorWish { target, wish }) in wishes {
            match wish {
                Wish::Backfill(asked) => self.backfill(partition, &target, &asked),
                Wish::CancelBackfill(backfill) => self.cancel_backfill(partition, &target, &backfill),
            }
            if let Some(own) = self.cursors_of(partition) {
                own.table.grant(id);
            }
            self.update_gate(partition, &target);
        }
    }

    fn backfill(&mut self, partition: i32, target: &Arc<str>, asked: &Backfill) {
        // One that is paused is held, one that is gone has no cursor any more.
        self.look_after(partition, target);
        let Some(own) = self.cursors_of(partition) else { return };
        let other = own.table.backfilling(target).map(|running| Arc::clone(&running.id));
        if let Some(other) = other {
            self.cancel_backfill(partition, target, &other);
        }
        let detached = self.cursors_of(partition).is_some_and(|own| own.table.is_detached(target));
        if !detached && !self.is_gone(target) {
            self.detach(partition, target, "a backfill begins");
        }
        tracing::info!(stage = %self.name, partition, %target, backfill = %asked.id, from = asked.from, to = asked.to,
            "a backfill begins");
        if let Some(own) = self.cursors_of(partition) {
            own.table.backfill(target, asked);
        }
    }

    /// What waits of a backfill is void.
    fn cancel_backfill(&mut self, partition: i32, target: &Arc<str>, backfill: &str) {
        let Some(own) = self.cursors_of(partition) else { return };
        let Some(below) = own.table.cancel_backfill(target, backfill) else { return };
        tracing::info!(stage = %self.name, partition, %target, backfill, "a backfill is cancelled");
        for task in self.lanes.of_target(partition, target) {
            let is_void = task.idle && task.place.is_none() && task.offset < below;
            if is_void && self.cursors_of(partition).is_some_and(|own| own.has(task.no)) {
                self.give_back(partition, task.no);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events of a backfill come in so many steps of 200 ms.
    fn brought(every: Duration, steps: i64) -> u64 {
        let (mut paces, target, mut count) = (Paces::default(), Arc::from("a"), 0);
        for now_ms in (0..steps).map(|step| step * 200) {
            while paces.is_due("a", now_ms) {
                paces.brought(&target, every, now_ms);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_backfill_keeps_its_pace_however_rarely_it_is_looked_at() {
        assert_eq!(brought(Duration::from_millis(20), 51), 501, "50 a second for ten seconds");
        assert_eq!(brought(Duration::from_secs(2), 51), 6, "one in two seconds");
        let (mut paces, target) = (Paces::default(), Arc::from("a"));
        paces.brought(&target, Duration::from_millis(100), 0);
        paces.brought(&target, Duration::from_millis(100), 60_000);
        let burst = (0..).take_while(|_| {
            let due = paces.is_due("a", 60_000);
            paces.brought(&target, Duration::from_millis(100), 60_000);
            due
        });
        assert_eq!(burst.count(), 10, "a minute of silence is no reason for more than a second's worth");
        paces.keep(|_| false);
        assert!(paces.is_due("a", 0));
    }
}
