//! The line of targets that wait for one of the few slots of their kind: whoever came first goes first. Pure.
//!
//! A target that is called keeps its number until it had its turn: if no slot is left by then, it stands in front again.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    number: u64,
    is_called: bool,
}

impl Ticket {
    pub(super) fn is_called(self) -> bool {
        self.is_called
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<u64, Arc<str>>,
    /// Numbers given out.
    numbers: u64,
    /// Targets that were called and didn't have their turn yet.
    called: usize,
}

impl Line {
    /// True when nobody waits to be called.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Who waits to be called.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.waiting.values()
    }

    /// A target stands in the line, where it stood `before`.
    pub(super) fn stand(&mut self, name: &Arc<str>, before: Option<Ticket>) -> Ticket {
        self.leave(before);
        let number = before.map_or(self.numbers, |ticket| ticket.number);
        self.numbers = self.numbers.max(number + 1);
        self.waiting.insert(number, Arc::clone(name));
        Ticket { number, is_called: false }
    }

    /// The target with this ticket had its turn, or waits for nothing any more.
    pub(super) fn leave(&mut self, ticket: Option<Ticket>) {
        match ticket {
            Some(Ticket { is_called: true, .. }) => self.called -= 1,
            Some(Ticket { number, is_called: false }) => drop(self.waiting.remove(&number)),
            None => {}
        }
    }

    /// Calls the first, unless as many are called as there are slots.
    pub(super) fn call(&mut self, slots: usize) -> Option<(Arc<str>, Ticket)> {
        if self.called >= slots {
            return None;
        }
        let (number, name) = self.waiting.pop_first()?;
        self.called += 1;
        Some((name, Ticket { number, is_called: true }))
    }

    /// True when nobody waits, called or not.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.called == 0
    }
}
