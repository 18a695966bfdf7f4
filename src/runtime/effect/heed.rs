//! Operators' wishes and orders, and the dead-letter breaker, a few times a second.

use std::sync::Arc;

use super::engine::Engine;
use crate::runtime::consumer::Rewind;
use crate::runtime::control::OrderKind;
use crate::runtime::outcome::SkipReason;
use crate::runtime::stage::EffectStage;

impl<S: EffectStage> Engine<S> {
    /// Looks what is wished of the stage. While it is paused nothing new is started; what runs may end, and
    /// membership, commits and metrics go on.
    pub(super) fn heed(&mut self) {
        let (now, done) = (self.env.clock.now_ms(), self.balance.done);
        self.supervision.heed(now, done, self.buried, &self.env.metrics);
        for (id, answer) in self.desk.rewinds.answered() {
            self.supervision.answer(id, answer);
        }
        for order in self.supervision.orders(|partition| self.partitions.contains_key(&partition)) {
            let answer = match order.what {
                OrderKind::Replay { to } => {
                    let generation =
                        self.partitions.get(&order.partition).map_or(0, |owned| owned.generation);
                    let (order, partition) = (Some(order.id), order.partition);
                    self.desk.rewinds.ask(Rewind { order, partition, generation, to: Some(to) });
                    continue;
                }
                OrderKind::Release { lane } => self.release(order.partition, &lane),
                OrderKind::Skip { lane } => self.skip_first(order.partition, &lane),
            };
            self.supervision.answer(order.id, answer);
        }
    }

    /// Lets the first task of a waiting lane run now. A held one is in the dead-letter topic: it ends, and its lane goes on.
    fn release(&mut self, partition: i32, lane: &Arc<str>) -> Result<String, String> {
        let (no, held) = self.lanes.waiting_first(partition, lane)?;
        if held {
            self.end_skipped(partition, no, SkipReason::Operator, None);
            return Ok("its first task stays in the dead-letter topic, and the lane goes on".to_owned());
        }
        self.lanes.hurry(no, self.env.clock.now_ms());
        Ok("its first task is due now".to_owned())
    }

    /// Ends the first task of a waiting lane without its effect.
    fn skip_first(&mut self, partition: i32, lane: &Arc<str>) -> Result<String, String> {
        let (no, _held) = self.lanes.waiting_first(partition, lane)?;
        let offset = self.lanes.offset(no).unwrap_or(-1);
        tracing::warn!(stage = %self.name, partition, offset, "an operator skipped a task");
        self.end_skipped(partition, no, SkipReason::Operator, None);
        Ok(format!("its task of the source record at {offset} ended without its effect"))
    }
}
