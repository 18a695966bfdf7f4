//! Tasks whose attempts ended and wait to be on record.

use super::*;

/// Invariants 2 and 3: what waits to be on record holds its lane, and holds up nobody else.
#[test]
fn an_answer_frees_slot_and_target_and_its_record_frees_the_lane() {
    let mut lanes = open_lanes();
    let first = queued(lanes.fresh(identity("a", "t", 1, 100), MANY, 0));
    let second = queued(lanes.fresh(identity("a", "t", 2, 100), MANY, 0));
    let other = queued(lanes.fresh(identity("b", "t", 3, 100), MANY, 0));
    let mut next = || lanes.next(1, &|_| Room::AtOnce(1), 0);
    assert_eq!((next(), next()), (Some(first), None), "the target and all slots are taken");
    lanes.answered(first);
    let mut next = || lanes.next(1, &|_| Room::AtOnce(1), 0);
    assert_eq!((next(), next()), (Some(other), None), "slot and target have room again, the lane waits");
    lanes.answered(other);
    assert_eq!(lanes.next(1, &|_| Room::AtOnce(1), 0), None);
    assert_eq!(lanes.census(0).in_memory, 3);
    assert!(lanes.complete(first, 0).source);
    assert_eq!(lanes.next(1, &|_| Room::AtOnce(1), 0), Some(second));
}

/// Invariant 6: what waits to be on record is bounded as what runs is.
#[test]
fn nothing_starts_while_too_much_waits_to_be_on_record() {
    let mut lanes = open_lanes();
    let mut answered = Vec::new();
    for offset in 0..OWED_PER_SLOT {
        let lane = format!("lane {offset}");
        let no = queued(lanes.fresh(identity(&lane, "t", offset as i64, 100), MANY, 0));
        assert_eq!(lanes.next(1, &|_| Room::AtOnce(1), 0), Some(no));
        lanes.answered(no);
        answered.push(no);
    }
    let next = queued(lanes.fresh(identity("next", "t", 100, 100), MANY, 0));
    assert_eq!((lanes.free_slots(1), lanes.next(1, &|_| Room::AtOnce(1), 0)), (0, None));
    assert!(lanes.clear(0, "another", "t", 1, &|_| Room::AtOnce(1)).is_none());
    assert!(lanes.complete(answered[0], 0).source);
    assert_eq!(lanes.next(1, &|_| Room::AtOnce(1), 0), Some(next));
}

/// A fresh task behind one that waits to be on record is not parked: nothing says that it must wait for long.
#[test]
fn what_comes_behind_an_answer_waits_in_memory_and_is_parked_if_the_record_says_retry() {
    let mut lanes = open_lanes();
    let first = queued(lanes.fresh(identity("a", "t", 1, 100), MANY, 0));
    assert_eq!(start(&mut lanes, 0), Some(first));
    lanes.answered(first);
    let second = queued(lanes.fresh(identity("a", "t", 2, 100), MANY, 0));
    assert_eq!(start(&mut lanes, 0), None);
    assert_eq!(lanes.park(first, 0), vec![second]);
    assert_eq!(
        lanes.history(first),
        Some(History { attempt: 1, first_failed_at_ms: Some(0), ..History::default() })
    );
}
