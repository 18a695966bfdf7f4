//! Rule 6: keeps the open part of a retry partition short. A lane that waits for hours would pin everything behind its
//! place: the map of what is complete there, what the next owner has to read, and what can't be deleted.
//!
//! When the map passes half of what a commit takes, or the open part spans more than twice what is open in it, the lowest
//! waiting records are copied to the end unchanged, but for the epoch, and their old places are complete then. While
//! places wait for a cursor to be stored, nothing is copied twice.

use std::sync::Arc;

use super::engine::Engine;
use super::own_cursors::OwnCursors;
use super::put_aside;
use super::report::{Aside, What};
use crate::runtime::backoff::Backoff;
use crate::runtime::lanes::TaskNo;
use crate::runtime::offsets::MOST_CHARACTERS;
use crate::runtime::producer::OutRecord;
use crate::runtime::retry;
use crate::runtime::stage::EffectStage;

/// Records of one partition that are copied at a time.
const AT_ONCE: usize = 64;
/// Records that are looked up together, to be copied one part after the other: looking them up takes a look at all tasks.
const LOOKED_UP: usize = 4_096;
/// Complete records among the open ones that are worth no copy.
const SLACK: i64 = 1_000;

/// True when the open part of a retry partition, `span` records of which `open` are open, takes too much.
fn is_due(map_characters: usize, span: i64, open: u64) -> bool {
    let open = i64::try_from(open).unwrap_or(i64::MAX / 4);
    open > 0 && (map_characters > MOST_CHARACTERS / 2 || span > 2 * open + SLACK)
}

impl<S: EffectStage> Engine<S> {
    pub(super) fn carry_all_forward(&mut self) {
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.carry_forward(number));
    }

    /// Copies the lowest waiting records of a partition, if that is due and none is on its way.
    fn carry_forward(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.closed || !owned.tenure.is_held() || !owned.carried.is_empty() {
            return;
        }
        let span = owned.retry.delivered() - owned.retry.committable();
        if !is_due(owned.retry.map_characters(0), span, self.lanes.census(partition).placed) {
            owned.to_carry.clear();
            return;
        }
        // What waits for the store counts as open: copying would go round and round.
        let waits = owned.cursors.as_deref().is_some_and(OwnCursors::has_places_waiting);
        let end = owned.retry.delivered();
        owned.carry_below = waits.then(|| owned.carry_below.unwrap_or(end));
        let below = owned.carry_below.unwrap_or(i64::MAX);
        if owned.to_carry.is_empty() {
            owned.to_carry = self.lanes.lowest_places(partition, LOOKED_UP).into();
        }
        let epoch = owned.tenure.own();
        let mut carried = Vec::new();
        while carried.len() < AT_ONCE
            && let Some((known, no)) = owned.to_carry.pop_front_if(|(known, _)| *known < below)
        {
            let is_there = self.lanes.place(no).is_some_and(|place| place.offset == known);
            carried.extend(is_there.then(|| self.lanes.carry(no)).flatten().map(|place| (no, place)));
        }
        owned.carried.extend(carried.iter().map(|(no, _)| *no));
        for (no, place) in carried {
            let source = self.lanes.offset(no).unwrap_or(-1);
            let (producer, clock) = (self.env.producer.clone(), self.env.clock.clone());
            let (hands, topic) = (Arc::clone(&self.hands), Arc::clone(&self.retry_topic));
            self.spawn(partition, async move {
                let mut backoff = Backoff::default();
                let record = loop {
                    match hands.readback.fetch(partition, place.offset).await {
                        Ok(record) => break record,
                        Err(_away) => clock.sleep(backoff.next_pause()).await,
                    }
                };
                let copy = OutRecord {
                    topic,
                    partition: Some(partition),
                    headers: retry::renewed(&record.headers, epoch),
                    key: record.key,
                    payload: record.payload,
                    timestamp_ms: None,
                };
                let result = put_aside::send(&producer, &clock, copy).await;
                let what = Aside::Parked { task: no, due_ms: place.due_ms };
                What::PutAside { what, offset: source, result }
            });
        }
    }

    /// Notes that a task has a new place in the retry partition.
    pub(super) fn note_placed(&mut self, partition: i32, no: TaskNo) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.carried.remove(&no) && owned.carried.is_empty() {
            self.carry_forward(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_due_when_the_map_is_half_full_or_most_of_the_open_part_is_complete() {
        assert!(!is_due(MOST_CHARACTERS / 2, 0, 1));
        assert!(is_due(MOST_CHARACTERS / 2 + 1, 0, 1));
        assert!(!is_due(0, 3_000, 1_000), "three places for every open one");
        assert!(is_due(0, 3_001, 1_000));
        assert!(!is_due(MOST_CHARACTERS, 9_999, 0), "nothing to copy");
    }
}
