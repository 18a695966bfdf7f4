//! Names for events and effects that come out the same after every crash, replay and rebalance (invariant 4).
//!
//! No clock and no random number names an effect here. All names are UUIDs of version 5 (RFC 9562) under one
//! namespace, made of length-prefixed parts, so that no two lists of parts read the same.

use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use super::EventMeta;

/// The namespace of every name that we derive.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f72_6465_7266_6c6f_8000_6576_656e_7473);

/// The event's own id if it is a valid UUID, else one made of the record's coordinates.
pub fn event_id_or_coordinates(
    meta: &EventMeta,
    cluster: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Uuid {
    Uuid::parse_str(&meta.event_id).ok().filter(|id| !id.is_nil()).unwrap_or_else(|| {
        derive(&["coordinates", cluster, topic, &partition.to_string(), &offset.to_string()])
    })
}

/// The identity of what a stage does because of an event of a tenant, for one recipient. Event ids are the
/// tenants' own, so two tenants may have equal ones; their effects are different ones all the same.
pub fn effect_id(tenant: &str, event_id: Uuid, stage: &str, kind: &str, recipient: &str) -> Uuid {
    let mut text = Uuid::encode_buffer();
    derive(&["effect", tenant, event_id.hyphenated().encode_lower(&mut text), stage, kind, recipient])
}

/// The event id that an idempotency key of a tenant stands for, so that a repeated request is the same event.
///
/// `first_seen_ms` is when the key was first tried, as it is stored with the key: a key that was forgotten and
/// is used again for something else names another event.
pub fn event_id_for_key(tenant: &str, idempotency_key: &str, first_seen_ms: i64) -> Uuid {
    derive(&["request", tenant, idempotency_key, &first_seen_ms.to_string()])
}

/// The id of the event that a message of the sender `source` to a tenant stands for: however often it is sent, it is the
/// same event.
pub fn event_id_for_message(tenant: &str, source: &str, message_id: &str) -> Uuid {
    derive(&["message", tenant, source, message_id])
}

fn derive(parts: &[&str]) -> Uuid {
    let mut name = Sha1::new_with_prefix(NAMESPACE);
    for part in parts {
        name.update((part.len() as u64).to_be_bytes());
        name.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&name.finalize()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant 4 (identity).
    #[test]
    fn a_valid_event_id_is_kept_and_any_other_gives_way_to_the_coordinates() {
        let id = Uuid::from_u128(7);
        let mut meta = EventMeta { event_id: id.to_string(), ..EventMeta::default() };
        assert_eq!(event_id_or_coordinates(&meta, "c", "t", 0, 1), id);
        for invalid in ["", "order-7", "00000000-0000-0000-0000-000000000000"] {
            meta.event_id = invalid.to_owned();
            let here = event_id_or_coordinates(&meta, "c", "t", 0, 1);
            assert_eq!(here, event_id_or_coordinates(&meta, "c", "t", 0, 1));
            assert_ne!(here, event_id_or_coordinates(&meta, "c", "t", 0, 2));
            assert_ne!(here, event_id_or_coordinates(&meta, "c", "t", 1, 1));
        }
    }

    #[test]
    fn names_are_those_of_version_5() {
        let name = [&[0, 0, 0, 0, 0, 0, 0, 1], &b"a"[..], &[0, 0, 0, 0, 0, 0, 0, 3], "b\u{e9}".as_bytes()];
        assert_eq!(derive(&["a", "b\u{e9}"]), Uuid::new_v5(&NAMESPACE, &name.concat()));
        let effect = effect_id("shop", Uuid::from_u128(7), "webhook", "deliver", "wh_1");
        assert_eq!(effect.to_string(), "a3cfe115-dbd2-5d63-b202-fbd06e09118d");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let id = Uuid::from_u128(7);
        let effect = |tenant: &str, stage: &str, kind: &str| effect_id(tenant, id, stage, kind, "d");
        assert_ne!(effect("shop", "ab", "c"), effect("shop", "a", "bc"));
        assert_eq!(effect("shop", "webhook", "deliver"), effect("shop", "webhook", "deliver"));
        assert_ne!(effect("shop", "webhook", "deliver"), effect("other", "webhook", "deliver"));
        assert_ne!(event_id_for_key("a", "k", 1), event_id_for_key("b", "k", 1));
        assert_ne!(event_id_for_key("a", "k", 1), event_id_for_key("a", "k", 2));
        assert_eq!(event_id_for_key("a", "k", 1), event_id_for_key("a", "k", 1));
    }
}
