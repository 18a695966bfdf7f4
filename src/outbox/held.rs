//! Keys whose messages have to wait: their last one is still on its way, or failed a moment ago.
//!
//! A key is let go when its message has ended and the store knows of it: nothing of a key overtakes what the client
//! may still send, and what it did send isn't sent again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::outbox::Stored;

/// Keys that wait at the same time, at most; beyond that nothing more is sent until some ended.
const MOST_KEYS: usize = 16_384;

/// What is kept in order: a topic's key, of one tenant. Orders of two tenants may have equal ids, and one mustn't
/// wait for the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The topic.
    pub(super) topic: String,
    /// The tenant.
    pub(super) tenant: String,
    /// The record's key.
    pub(super) key: Option<Vec<u8>>,
}

/// The key of a message.
pub(super) fn key_of(stored: &Stored) -> Key {
    let message = &stored.message;
    Key { topic: message.topic.clone(), tenant: message.tenant.clone(), key: message.key.clone() }
}

/// Why a key waits.
#[derive(Debug)]
enum Why {
    /// A message of it is in the client's hands.
    OnItsWay,
    /// That message was acknowledged after all; its row is still there.
    Acknowledged { sequence: i64 },
    /// A message of it was refused; it is tried again at that time.
    Failed { until_ms: i64 },
}

/// The keys of one relay that wait.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Key, Why>>);

impl Held {
    /// Whether messages of `key` have to wait.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.keys().contains_key(key)
    }

    /// Whether any key waits.
    pub(super) fn any(&self) -> bool {
        !self.keys().is_empty()
    }

    /// Whether so many keys wait that no more may be added.
    pub(super) fn is_full(&self) -> bool {
        self.keys().len() >= MOST_KEYS
    }

    /// A message of `key` is taking longer than a pass waits.
    pub(super) fn on_its_way(&self, key: Key) {
        self.keys().insert(key, Why::OnItsWay);
    }

    /// The message that was on its way arrived.
    pub(super) fn acknowledged(&self, key: Key, sequence: i64) {
        self.keys().insert(key, Why::Acknowledged { sequence });
    }

    /// A message of `key` was refused; it may be tried again at `until_ms`.
    pub(super) fn failed(&self, key: Key, until_ms: i64) {
        self.keys().insert(key, Why::Failed { until_ms });
    }

    /// The rows of messages that arrived late. They are to be deleted, then [`Held::forget`] lets their keys go.
    pub(super) fn arrived(&self) -> Vec<i64> {
        let sequence = |why: &Why| match why {
            Why::Acknowledged { sequence } => Some(*sequence),
            Why::OnItsWay | Why::Failed { .. } => None,
        };
        self.keys().values().filter_map(sequence).collect()
    }

    /// Lets go the keys whose late rows are deleted, and those that failed long enough ago.
    pub(super) fn forget(&self, deleted: &[i64], now_ms: i64) {
        self.keys().retain(|_, why| match why {
            Why::OnItsWay => true,
            Why::Acknowledged { sequence } => !deleted.contains(sequence),
            Why::Failed { until_ms } => *until_ms > now_ms,
        });
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Key, Why>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_until_its_message_ended_and_its_row_is_gone() {
        let held = Held::default();
        let key = |name: &str| Key {
            topic: "t".to_owned(),
            tenant: "shop".to_owned(),
            key: Some(name.as_bytes().to_vec()),
        };
        held.on_its_way(key("slow"));
        held.failed(key("refused"), 10);
        held.forget(&[], 9);
        assert!(held.holds(&key("slow")) && held.holds(&key("refused")) && !held.holds(&key("other")));
        held.acknowledged(key("slow"), 7);
        held.forget(&[], 10);
        assert!(held.holds(&key("slow")) && !held.holds(&key("refused")));
        assert_eq!(held.arrived(), [7]);
        held.forget(&[7], 10);
        assert!(!held.any());
    }
}
