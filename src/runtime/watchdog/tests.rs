//! The watchdog under arbitrary looks: it acts when it must, and never on what moves or is excused.

use proptest::prelude::*;

use super::*;

const OPTIONS: WatchdogOptions = WatchdogOptions {
    stalled_after: Duration::from_secs(30),
    head_after: Duration::from_secs(300),
    attempt_after: Duration::from_secs(300),
    poll_after: Duration::from_secs(10),
};

fn fine() -> Look {
    Look { generation: 1, position: 5, fetched: 5, end: None, fetches: true, head: Head::None, stuck: None }
}

/// Looks once a second for so long; gives what was advised, and when.
fn looks(
    watchdog: &mut Watchdog,
    seconds: std::ops::Range<i64>,
    look: impl Fn(i64) -> Look,
) -> Vec<(i64, Advice)> {
    let advice = seconds.filter_map(|at| Some((at, watchdog.look(0, look(at), at * 1_000)?)));
    advice.filter(|(_, advice)| *advice != Advice::LookCloser).collect()
}

#[test]
fn an_idle_partition_is_asked_about_now_and_then_and_left_alone() {
    let mut watchdog = Watchdog::new(OPTIONS);
    let advice = looks(&mut watchdog, 0..100, |_| Look { end: Some(5), ..fine() });
    assert_eq!(advice.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [30, 45, 60, 75, 90]);
    assert!(advice.iter().all(|(_, advice)| *advice == Advice::AskEnd));
}

#[test]
fn a_fetch_that_stands_before_the_end_is_taken_up_anew_and_then_less_and_less_often() {
    let mut watchdog = Watchdog::new(OPTIONS);
    // The broker is asked at once when that is advised; each take-up is a new assignment.
    let generation = std::cell::Cell::new(1);
    let asked = std::cell::Cell::new(None);
    let mut taken = Vec::new();
    for at in 0..400 {
        let look = Look { generation: generation.get(), end: asked.get(), ..fine() };
        match watchdog.look(0, look, at * 1_000) {
            Some(Advice::AskEnd) => asked.set(Some(9)),
            Some(Advice::TakeUp(trouble)) => {
                assert_eq!(trouble, Trouble::StalledPartition { fetched: 5 });
                generation.set(generation.get() + 1);
                asked.set(None);
                taken.push(at);
            }
            Some(Advice::LookCloser) => panic!("nothing is at its head"),
            None => {}
        }
    }
    assert_eq!(taken, [45, 46 + 90, 46 + 91 + 180]);
    assert_eq!(watchdog.trouble(0).map(|trouble| trouble.kind()), Some("stalled_partition"));
    watchdog.look(0, Look { generation: generation.get(), fetched: 6, ..fine() }, 400_000);
    assert_eq!(watchdog.trouble(0), None);
}

#[test]
fn a_record_that_nobody_works_on_is_named_and_one_that_moves_or_waits_with_reason_is_not() {
    let head = |at: i64| Look { position: 5, fetched: 900 + at, head: Head::Rests, ..fine() };
    let mut watchdog = Watchdog::new(OPTIONS);
    let advice = looks(&mut watchdog, 0..400, head);
    assert_eq!(
        advice,
        [(300, Advice::TakeUp(Trouble::PoisonedHead { offset: 5 }))],
        "once, until it is anew"
    );
    let mut watchdog = Watchdog::new(OPTIONS);
    let moving = looks(&mut watchdog, 0..400, |at| Look { position: at / 200, ..head(at) });
    assert_eq!(moving, []);
    let excused = looks(&mut watchdog, 400..1_000, |at| Look {
        head: if at % 299 > 0 { Head::Rests } else { Head::Attempt },
        ..head(at)
    });
    assert_eq!(excused, []);
}

#[test]
fn the_costly_look_is_asked_for_once_a_head_stands_long_and_its_excuse_counts() {
    let mut watchdog = Watchdog::new(OPTIONS);
    let head = |at: i64| Look { position: 5, fetched: 900 + at, head: Head::Rests, ..fine() };
    let first = (0..).find(|&at| watchdog.look(0, head(at), at * 1_000) == Some(Advice::LookCloser));
    assert_eq!(first, Some(150));
    // Excused each time that it is asked about, it may stand for ever.
    for at in 151..2_000 {
        match watchdog.look(0, head(at), at * 1_000) {
            Some(Advice::LookCloser) => watchdog.excuse(0, at * 1_000),
            advice => assert_eq!(advice, None, "after {at} s"),
        }
    }
    let acts = looks(&mut watchdog, 2_000..2_400, head);
    assert!(matches!(acts[..], [(_, Advice::TakeUp(Trouble::PoisonedHead { offset: 5 }))]), "{acts:?}");
}

#[test]
fn an_attempt_that_does_not_end_is_acted_on_at_once_and_once() {
    let mut watchdog = Watchdog::new(OPTIONS);
    let stuck = |generation| Look { stuck: Some(7), generation, ..fine() };
    let expected = Some(Advice::TakeUp(Trouble::StuckLane { offset: 7 }));
    assert_eq!(watchdog.look(0, stuck(1), 0), expected);
    assert_eq!(watchdog.look(0, stuck(1), 1_000), None);
    assert_eq!(watchdog.look(0, stuck(2), 2_000), expected);
    assert_eq!(watchdog.look(0, Look { position: 8, generation: 3, ..fine() }, 3_000), None);
    assert_eq!(watchdog.trouble(0), None);
    watchdog.forget_others(100_000);
    assert!(watchdog.partitions.is_empty());
}

proptest! {
    /// Whatever comes before: what stands without an excuse is acted on within the patience it has by then.
    #[test]
    fn what_stands_before_the_end_is_always_acted_on(
        before in prop::collection::vec((0_i64..4, 0_i64..4, any::<bool>(), any::<bool>(), 0_u64..3), 0..60),
    ) {
        let mut watchdog = Watchdog::new(OPTIONS);
        let mut now = 0;
        for (position, ahead, fetches, rests, generation) in before {
            now += 1_000;
            let fetched = position + ahead;
            let head = if rests { Head::Rests } else { Head::None };
            watchdog.look(0, Look { generation, position, fetched, end: Some(9), fetches, head, stuck: None }, now);
        }
        let standing = Look { generation: 7, position: 4, fetched: 8, end: Some(9), fetches: true, ..fine() };
        let acts = looks(&mut watchdog, now / 1_000 + 1..now / 1_000 + 31, |_| standing);
        let at_once = acts.iter().any(|(_, advice)| matches!(advice, Advice::TakeUp(Trouble::StalledPartition { .. })));
        // What it was in trouble for before is over: the partition has gone on since.
        prop_assert!(at_once || looks(&mut watchdog, now / 1_000 + 31..now / 1_000 + 33, |_| standing).len() == 1);
    }

    /// Whatever is looked at: what moves with every look, or is excused, is never taken up.
    #[test]
    fn what_moves_or_is_excused_is_never_acted_on(
        steps in prop::collection::vec((1_i64..4, any::<bool>(), 1_i64..40), 1..200),
    ) {
        let mut watchdog = Watchdog::new(OPTIONS);
        let (mut now, mut fetched) = (0, 0);
        for (step, excused, seconds) in steps {
            now += seconds * 1_000;
            fetched += if excused { 0 } else { step };
            let look = Look { position: 0, fetched, end: Some(fetched + 1), fetches: !excused, ..fine() };
            prop_assert_eq!(watchdog.look(0, look, now), None);
        }
    }
}

#[test]
fn what_handlers_may_take_is_never_too_long() {
    let ordinary = OPTIONS.for_handlers(Some(Duration::from_secs(30)), Duration::from_secs(5));
    assert_eq!(ordinary, OPTIONS);
    let slow = OPTIONS.for_handlers(Some(Duration::from_secs(400)), Duration::from_secs(900));
    assert_eq!((slow.attempt_after, slow.head_after), (Duration::from_secs(800), Duration::from_secs(1_800)));
}
