//! What the outside saw happen to an order, as it happens: for the terminal of `demo`.
//!
//! Bounded: who doesn't keep up misses the oldest lines. Nothing is decided or counted by what is told here.

use tokio::sync::broadcast;

/// How many lines a reader may be behind.
const CAPACITY: usize = 4096;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// What it is about: an order id, or a recipient's address.
    pub about: String,
    /// Who saw it.
    pub by: String,
    /// What happened, in a few words.
    pub what: String,
}

/// Tells what happens to everybody who listens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed(broadcast::Sender<Happening>);

impl Feed {
    /// A feed that nobody listens to yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Tells; without listeners nothing happens.
    pub fn tell(&self, about: impl Into<String>, by: impl Into<String>, what: impl Into<String>) {
        if self.0.receiver_count() > 0 {
            let happening = Happening { about: about.into(), by: by.into(), what: what.into() };
            // Refused only when the last listener has just left.
            let _ = self.0.send(happening);
        }
    }

    /// Hears everything from now on.
    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}
