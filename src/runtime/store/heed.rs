//! Operators' wishes and orders, and the dead-letter breaker, a few times a second.

use std::sync::Arc;

use super::Engine;
use crate::runtime::consumer::Rewind;
use crate::runtime::control::OrderKind;
use crate::runtime::stage::StoreStage;

impl<S: StoreStage> Engine<S> {
    /// Looks what is wished of the stage. While it is paused no batch is started; one that runs is stored, and
    /// membership, commits and metrics go on.
    pub(super) fn heed(&mut self) {
        let (now, balance) = (self.env.clock.now_ms(), self.balance);
        self.supervision.heed(now, balance.done, balance.dead, &self.env.metrics);
        let paused = self.supervision.paused().is_some();
        self.paused.send_if_modified(|before| std::mem::replace(before, paused) != paused);
        for (id, answer) in self.desk.rewinds.answered() {
            self.supervision.answer(id, answer);
        }
        for order in self.supervision.orders(|partition| self.partitions.contains_key(&partition)) {
            match order.what {
                // The stored position is the truth, and whoever asks has moved it back.
                OrderKind::Replay { to: _ } => self.read_again(order.partition, Some(order.id)),
                OrderKind::Release { lane: _ } | OrderKind::Skip { lane: _ } => {
                    self.supervision.answer(order.id, Err("a store stage has no lanes".to_owned()));
                }
            }
        }
    }

    /// Looks the stored position of a partition up again, and reads on from there.
    pub(super) fn read_again(&mut self, partition: i32, order: Option<Arc<str>>) {
        let Some(owned) = self.partitions.get(&partition) else { return };
        self.desk.rewinds.ask(Rewind { order, partition, generation: owned.generation, to: None });
    }
}
