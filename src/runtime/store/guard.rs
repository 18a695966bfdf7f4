//! The watchdog's eyes and hands: looks at every partition with each tick, and does what is advised.

use super::Engine;
use crate::runtime::consumer::Rewind;
use crate::runtime::progress::PartitionState;
use crate::runtime::stage::StoreStage;
use crate::runtime::watchdog::{Advice, Head, Look};

impl<S: StoreStage> Engine<S> {
    /// A batch that never ends keeps its first record at the head; a worker that waits for the store says so, and is excused.
    pub(super) fn watch(&mut self) {
        let now_ms = self.env.clock.now_ms();
        let is_paused = self.supervision.paused().is_some();
        let mut advice = Vec::new();
        for (&number, owned) in &self.partitions {
            let flows = owned.state == PartitionState::Flowing && !owned.ended && !owned.stop.is_cancelled();
            let is_excused = is_paused || !flows;
            let look = Look {
                generation: owned.generation,
                position: owned.position,
                fetched: owned.position.max(owned.gauge.next_fetch()),
                end: owned.gauge.asked_end(),
                fetches: !is_excused && owned.in_flight == 0,
                head: match owned.in_flight {
                    _ if is_excused => Head::Idle,
                    0 => Head::None,
                    _ => Head::Rests,
                },
                stuck: None,
            };
            advice.extend(
                self.watchdog.look(number, look, now_ms).map(|advice| (number, owned.generation, advice)),
            );
        }
        self.watchdog.forget_others(now_ms);
        for (partition, generation, advice) in advice {
            match advice {
                // A batch is the only work there is.
                Advice::LookCloser => {}
                Advice::AskEnd => self.desk.ask_end(partition),
                Advice::TakeUp(trouble) => {
                    let stage = self.stage.name();
                    tracing::error!(stage, partition, %trouble, "the partition is taken up anew");
                    self.env.metrics.watchdog.with_label_values(&[stage, trouble.kind()]).inc();
                    self.desk.rewinds.ask(Rewind { order: None, partition, generation, to: None });
                }
            }
        }
    }
}
