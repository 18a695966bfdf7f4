//! What the lanes keep of parked tasks, and how they are found again.

use super::*;

#[test]
fn a_lane_keeps_its_name_only_while_one_of_its_tasks_is_in_memory() {
    let mut lanes = open_lanes();
    let first = queued(lanes.fresh(identity("a", "t", 1, 100), MANY, 0));
    assert_eq!(start(&mut lanes, 0), Some(first));
    lanes.park(first, 0);
    let behind = to_park(lanes.fresh(identity("a", "t", 2, 100), MANY, 0));
    let name = |lanes: &Lanes, no| lanes.known(no).and_then(|known| known.lane).map(ToString::to_string);
    lanes.parked(first, Place { offset: 1, due_ms: 9 }, 0);
    assert_eq!(name(&lanes, first).as_deref(), Some("a"), "the second is on its way");
    lanes.parked(behind, Place { offset: 2, due_ms: 0 }, 0);
    assert_eq!((name(&lanes, first), lanes.is_asleep(first)), (None, true));
    assert_eq!(lanes.waiting_first(0, "a"), Ok((first, false)), "it is found by its name");
    assert!(lanes.waiting_first(0, "b").is_err());
    lanes.wake(9);
    assert_eq!(start(&mut lanes, 9), Some(first));
    assert!(!lanes.learn(first, "b"), "a record that names another lane");
    assert!(lanes.learn(first, "a"));
    assert_eq!(name(&lanes, first).as_deref(), Some("a"));
}

/// Rule 8: the held head of a lane is redriven while its record is copied forward.
#[test]
fn a_held_task_that_is_put_back_while_it_is_carried_forward_runs() {
    let mut lanes = open_lanes();
    let (head, held) = (identity("a", "t", 7, 100), Place { offset: 3, due_ms: i64::MAX });
    let past = History { attempt: 8, first_failed_at_ms: Some(1), ..History::default() };
    let Indexed::New(no) = lanes.index(head, held, past, 0) else { panic!("it is new") };
    assert_eq!(lanes.carry(no), Some(held));
    let anew = History { is_put_back: true, ..History::default() };
    assert_eq!(lanes.index(head, Place { offset: 9, due_ms: 0 }, anew, 0), Indexed::Known);
    let vacated = lanes.parked(no, Place { offset: 5, ..held }, 0);
    assert_eq!((vacated.places, vacated.source), (vec![3, 5], false));
    assert_eq!((start(&mut lanes, 0), lanes.history(no)), (Some(no), Some(History { attempt: 1, ..anew })));
}

#[test]
fn the_lowest_places_are_found_among_what_waits() {
    let mut lanes = Lanes::default();
    for (at, offset) in [7, 3, 9, 5, 1].into_iter().enumerate() {
        let place = Place { offset, due_ms: 0 };
        lanes.index(identity(&format!("l{at}"), "t", at as i64, 100), place, History::default(), 0);
    }
    lanes.open(0, i64::MAX, 0);
    let lowest =
        |lanes: &Lanes, most| lanes.lowest_places(0, most).iter().map(|place| place.0).collect::<Vec<_>>();
    assert_eq!(lowest(&lanes, 3), [1, 3, 5]);
    let running = start(&mut lanes, 0).expect("due");
    assert_eq!(lowest(&lanes, 3), [3, 5, 7], "what runs stays where it is");
    assert_eq!(lanes.census(0).placed, 5);
    lanes.complete(running, 0);
    assert_eq!((lanes.census(0).placed, lowest(&lanes, 9).len()), (4, 4));
}

/// Invariant 6 (bounds): what a parked task in a lane of its own takes on the heap, all in.
#[test]
fn a_parked_task_takes_about_ninety_bytes() {
    const TASKS: usize = 1 << 16;
    let mut lanes = Lanes::default();
    for at in 0..TASKS {
        let (name, at) = (format!("tenant|endpoint-17|order-{at:032}"), at as i64);
        let place = Place { offset: at, due_ms: at + 1 };
        lanes.index(identity(&name, "tenant|endpoint-17", at, 100), place, History::default(), 0);
    }
    lanes.open(0, i64::MAX, 0);
    assert_eq!(lanes.next_due_ms(), Some(1), "every lane has its timer");
    assert_eq!(lanes.bytes(), TASKS * Lanes::BYTES_EACH);
    const { assert!(Lanes::BYTES_EACH <= 90) };
    let capacity = lanes.capacity_bytes();
    // Beside it only what doesn't grow with the number of tasks.
    assert!(capacity <= lanes.bytes() + 4_096, "{capacity} bytes for {TASKS}");
}
