//! Whose turn it is when slots are few.

use super::*;

#[test]
fn a_dispute_behind_fifty_thousand_waiting_lanes_starts_before_nearly_all_of_them() {
    const WAITING: i64 = 50_000;
    let mut lanes = open_lanes();
    for offset in 0..WAITING {
        let target = format!("t{}", offset % 16);
        queued(lanes.fresh(identity(&format!("l{offset}"), &target, offset, 100), usize::MAX, 0));
    }
    let dispute = queued(lanes.fresh(identity("dispute", "t3", WAITING, 10), usize::MAX, 0));
    let before = (0..WAITING).take_while(|_| {
        let no = lanes.next(1, &|_| Room::AtOnce(MANY), 0).expect("work waits");
        lanes.complete(no, 0);
        no != dispute
    });
    let before = before.count() as i64;
    assert!(before <= WAITING / 100, "{before} lanes started before it");
}

#[test]
fn retries_take_at_most_half_the_slots_while_fresh_work_waits() {
    let mut lanes = Lanes::default();
    for offset in 0..100 {
        let place = Place { offset, due_ms: 0 };
        lanes.index(identity(&format!("r{offset}"), "t", offset, 1), place, History::default(), 0);
    }
    lanes.open(0, i64::MAX, 0);
    for offset in 100..200 {
        queued(lanes.fresh(identity(&format!("f{offset}"), "t", offset, 100), MANY, 0));
    }
    let started: Vec<TaskNo> = std::iter::from_fn(|| lanes.next(20, &|_| Room::AtOnce(MANY), 0)).collect();
    let retries = started.iter().filter(|no| lanes.place(**no).is_some()).count();
    assert_eq!((started.len(), retries), (20, 10));
}

/// Invariant 3 (isolation): whoever waits longest for one of a few slots goes first, whatever it is called and whoever
/// comes in between.
#[test]
fn targets_that_share_a_few_slots_take_turns() {
    let mut lanes = open_lanes();
    let came = |lanes: &mut Lanes, target: &str, offset| {
        queued(lanes.fresh(identity(&format!("lane {offset}"), target, offset, 100), MANY, 0))
    };
    let one_of_few = |is_free: bool| move |_: &str| Room::OneOfFew { is_free };
    let first: Vec<TaskNo> = (0..3).map(|at| came(&mut lanes, &format!("z{at}"), at)).collect();
    assert_eq!(lanes.next(9, &one_of_few(true), 0), Some(first[0]));
    assert_eq!((lanes.next(9, &one_of_few(false), 0), lanes.has_line()), (None, true));
    let newcomer = came(&mut lanes, "a", 3);
    assert_eq!(lanes.next(9, &one_of_few(true), 0), None, "nobody was called");
    for (ended, goes) in [(first[0], first[1]), (first[1], first[2]), (first[2], newcomer)] {
        lanes.complete(ended, 0);
        lanes.call(1);
        assert_eq!(lanes.next(9, &one_of_few(false), 0), None, "called, but too late: it keeps its place");
        lanes.call(1);
        assert_eq!(lanes.next(9, &one_of_few(true), 0), Some(goes));
        assert_eq!(lanes.next(9, &one_of_few(true), 0), None, "no other was called");
    }
    assert!(!lanes.has_line());
}
