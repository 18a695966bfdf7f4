//! Operators' wishes and the dead-letter breaker, a few times a second.

use super::engine::Engine;
use crate::runtime::stage::EffectStage;

impl<S: EffectStage> Engine<S> {
    /// Looks what is wished of the stage. While it is paused nothing new is started; what runs may end, and
    /// membership, commits and metrics go on.
    pub(super) fn heed(&mut self) {
        let (now, balance) = (self.env.clock.now_ms(), self.balance);
        self.supervision.heed(now, balance.done, balance.dead, &self.env.metrics);
    }
}
