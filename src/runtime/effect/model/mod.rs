//! The retry protocol and cursors as one pure state machine: owners that crash, freeze and take over, appends that land
//! late, commits from one snapshot, targets that are taken from the live stream with what is parked of them, dead letters
//! that are redriven.
//!
//! Checked, whatever happens: every task takes effect; no lane's order breaks, but for what died and was redriven; no owner
//! repeats what was durably over when it took the partition up, nor what took effect under it; unless the store of cursors
//! fails, nothing is repeated behind what came later in its lane; the next owner finds nothing left to do. Decisions are those
//! of the engine: lanes, tenure, trackers, cursors, the partition's own state. What the engine does with them in between is
//! told here once more, without its jobs.

mod owner;
mod steps;
mod world;

use proptest::prelude::*;

use self::world::World;
use super::apart::GiveBack;

/// Lanes, each of one target.
const LANES: [(&str, usize); 3] = [("first", 0), ("second", 0), ("third", 1)];
const TARGETS: [&str; 2] = ["a", "b"];

/// A task: its lane, and its source offset.
type Of = (usize, i64);

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Effect,
    /// It is to be tried later.
    Fails,
    /// It is given up.
    Dies,
}

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A record for the lanes in these bits, one of each target at most; the live stream may dead-letter it before it is
    /// anything's task.
    Produce(u8, bool),
    ReadSource,
    ReadRetry,
    Start,
    End(Ending),
    /// The append that was sent first lands.
    Land,
    /// So does one of an owner that froze.
    LandLate,
    /// The owner hears of the append that landed first.
    Acknowledge,
    Commit,
    CarryForward,
    /// An operator takes a dead letter back; two of them do at once.
    Redrive {
        twice: bool,
    },
    TakeOver {
        freezes: bool,
        row_arrives: bool,
    },
    Detach(usize, Away),
    Resume(usize),
    /// The reader of cursors reads so many records.
    ReadAgain(u8),
    Attach,
    SendRows,
    RowsArrive,
    /// The store doesn't answer, and may have taken the rows.
    RowsFail {
        taken: bool,
    },
}

/// How a target is taken from the live stream.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// It has too much waiting.
    Slow,
    /// It can't be reached, and there is no room for what failed.
    Unreachable,
    /// It is paused.
    Held,
}

impl Away {
    fn gives_back(self) -> GiveBack {
        match self {
            Self::Slow => GiveBack::Untried,
            Self::Unreachable => GiveBack::InMemory,
            Self::Held => GiveBack::All,
        }
    }
}

/// What the stage is like.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    /// It keeps cursors.
    cursors: bool,
    /// A task that is given up holds its lane.
    holds: bool,
    /// The store of cursors fails now and then: nothing that is over waits for it then.
    store_fails: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![4 => Just(Ending::Effect), 3 => Just(Ending::Fails), 1 => Just(Ending::Dies)];
    let away = prop_oneof![1 => Just(Away::Slow), 1 => Just(Away::Unreachable), 2 => Just(Away::Held)];
    prop_oneof![
        2 => (prop::sample::select(vec![1_u8, 2, 4, 5, 6]), prop::bool::weighted(0.2))
            .prop_map(|(lanes, is_dead)| Step::Produce(lanes, is_dead)),
        4 => (0_usize..3).prop_map(|lane| Step::Produce(1 << lane, false)),
        6 => Just(Step::ReadSource),
        6 => Just(Step::ReadRetry),
        4 => Just(Step::Start),
        6 => ending.prop_map(Step::End),
        4 => Just(Step::Land),
        2 => Just(Step::LandLate),
        4 => Just(Step::Acknowledge),
        2 => Just(Step::Commit),
        2 => Just(Step::CarryForward),
        2 => any::<bool>().prop_map(|twice| Step::Redrive { twice }),
        2 => any::<(bool, bool)>().prop_map(|(freezes, row_arrives)| Step::TakeOver { freezes, row_arrives }),
        2 => (0_usize..2, away).prop_map(|(target, away)| Step::Detach(target, away)),
        2 => (0_usize..2).prop_map(Step::Resume),
        4 => (1_u8..5).prop_map(Step::ReadAgain),
        2 => Just(Step::Attach),
        4 => Just(Step::SendRows),
        4 => Just(Step::RowsArrive),
        1 => any::<bool>().prop_map(|taken| Step::RowsFail { taken }),
    ]
}

fn act(world: &mut World, step: Step) {
    match step {
        Step::Produce(lanes, is_dead) => world.produce(lanes, is_dead),
        Step::ReadSource => world.read_source(),
        Step::ReadRetry => world.read_retry(),
        Step::Start => world.start(),
        Step::End(ending) => world.end(ending),
        Step::Land => world.land(),
        Step::LandLate => world.land_late(),
        Step::Acknowledge => world.acknowledge(),
        Step::Commit => world.commit(),
        Step::CarryForward => world.carry_forward(),
        Step::Redrive { twice } => world.redrive(twice),
        Step::TakeOver { freezes, row_arrives } => world.take_over(freezes, row_arrives),
        Step::Detach(target, away) => world.detach(target, away),
        Step::Resume(target) => world.resume(target),
        Step::ReadAgain(records) => world.read_again(records),
        Step::Attach => world.attach(),
        Step::SendRows => world.send_rows(),
        Step::RowsArrive => world.rows_arrive(),
        Step::RowsFail { taken } => world.rows_fail(taken),
    }
}

/// Whatever the steps are: at the end nothing is lost, and no lane's order is broken.
fn holds_after(settings: Settings, steps: &[Step], commits: bool) {
    let mut world = World::new(settings);
    for &step in steps {
        act(&mut world, step);
    }
    world.drain(commits);
    // What frozen owners sent lands now, and the owner dies before it has told of anything since its last commit.
    while world.is_late() {
        world.land_late();
    }
    world.take_over(true, false);
    world.drain(true);
    // Nothing is left to do for the next one.
    let effects = world.effects.len();
    world.take_over(false, false);
    world.drain(true);
    assert_eq!(world.effects.len(), effects);
    world.check();
}

/// Parks one task of an owner that freezes before the append lands; the second one finishes everything, the append
/// lands, and the second one crashes before it commits that.
#[test]
fn a_task_that_a_frozen_owner_parked_is_not_run_again_by_the_third() {
    let mut world = World::new(Settings::default());
    world.drain(true);
    world.produce(1, false);
    world.produce(1, false);
    world.read_source();
    world.start();
    world.end(Ending::Fails);
    world.take_over(true, false);
    let late = std::mem::take(&mut world.late);
    world.drain(true);
    assert_eq!(world.effects, [(0, 0), (0, 1)]);
    world.late = late;
    world.land_late();
    world.take_over(false, false);
    world.drain(true);
    assert_eq!(world.effects, [(0, 0), (0, 1)], "the frozen owner's append is void");
}

/// An owner freezes with two appends on their way. One lands before the second owner's marker and waits; the other behind
/// that marker, of which the second one has committed that it is complete, and no more: then it crashes.
#[test]
fn a_marker_that_is_complete_above_the_position_counts_for_the_third() {
    use Step::{Acknowledge, Commit, Land, LandLate, ReadRetry, ReadSource, Start};
    let (effect, fails) = (Step::End(Ending::Effect), Step::End(Ending::Fails));
    let (first, second) = (Step::Produce(1, false), Step::Produce(2, false));
    let parks_two =
        [Land, first, ReadRetry, ReadSource, first, Start, ReadSource, second, fails, first, ReadSource];
    let first_runs_again = [Land, Start, Land, Acknowledge, Start, Commit, effect, ReadSource, fails];
    let freezes = [Step::TakeOver { freezes: true, row_arrives: false }, LandLate, Land];
    let then = [
        ReadRetry, ReadRetry, ReadRetry, ReadRetry, Start, effect, ReadSource, Start, LandLate, effect,
        Commit, first,
    ];
    let steps = [&parks_two[..], &first_runs_again, &freezes, &then].concat();
    holds_after(Settings::default(), &steps, false);
}

/// An owner took the partition up behind tasks that are parked already, and their target is paused before it comes to their
/// source records.
#[test]
fn what_is_parked_of_records_that_come_again_stays_parked_when_its_target_is_paused() {
    use Step::{Land, ReadRetry, ReadSource, Start};
    let (effect, fails) = (Step::End(Ending::Effect), Step::End(Ending::Fails));
    let both = [Step::Produce(5, false), Step::Produce(4, false), Land, ReadRetry, ReadSource, Start, Start];
    let parks =
        [ReadSource, effect, fails, Land, Land, Step::TakeOver { freezes: false, row_arrives: false }];
    let paused = [Land, ReadRetry, ReadRetry, ReadRetry, ReadRetry, Step::Detach(1, Away::Held)];
    holds_after(
        Settings { cursors: true, ..Settings::default() },
        &[&both[..], &parks, &paused].concat(),
        false,
    );
}

/// An operator reads a dead letter, and takes it back, before its owner hears that it is there.
#[test]
fn what_is_taken_back_before_it_is_known_to_be_dead_runs_again() {
    use Step::{Land, ReadRetry, ReadSource, Start};
    let first = [Land, ReadRetry, Step::Produce(1, false), ReadSource, Start, Step::End(Ending::Dies), Land];
    let back = [Step::Redrive { twice: false }];
    for holds in [false, true] {
        holds_after(Settings { holds, ..Settings::default() }, &[&first[..], &back].concat(), true);
    }
}

/// The same while its lane is about to be held: nobody has to let it go on.
#[test]
fn what_is_taken_back_before_its_lane_is_held_runs_again() {
    let mut world = World::new(Settings { holds: true, ..Settings::default() });
    world.drain(true);
    world.produce(1, false);
    world.read_source();
    world.start();
    world.end(Ending::Dies);
    world.land();
    world.acknowledge();
    world.redrive(false);
    world.read_retry();
    world.land();
    world.acknowledge();
    world.read_retry();
    world.start();
    world.end(Ending::Effect);
    assert_eq!(world.effects, [(0, 0)]);
}

/// A record that the live stream dead-letters, and the reader of cursors passes over, is taken back; then its target is paused, or
/// was before, and somebody else takes the partition over.
#[test]
fn what_was_put_back_and_was_no_task_before_is_no_cursors() {
    use Step::{Acknowledge, Commit, Detach, Land, ReadRetry, ReadSource, RowsArrive, SendRows};
    let dies = [Step::Produce(1, true), ReadSource, Land, Acknowledge];
    let back = [Step::Redrive { twice: false }, ReadRetry, Land, Acknowledge, ReadRetry];
    let (begins, pauses) = ([Land, ReadRetry], [Detach(0, Away::Held), SendRows, RowsArrive]);
    let gone = [Acknowledge, Commit, Step::TakeOver { freezes: false, row_arrives: false }];
    for steps in
        [[&begins[..], &dies, &back, &pauses].concat(), [&begins[..], &pauses, &dies, &back, &gone].concat()]
    {
        holds_after(Settings { cursors: true, ..Settings::default() }, &steps, true);
    }
}

/// Two dead letters of one record, which was no task's, are taken back at once, while an owner reads what is parked.
#[test]
fn a_record_that_is_taken_back_twice_at_once_takes_effect_once() {
    use Step::{Land, ReadRetry, ReadSource};
    let (task, dead) = (Step::Produce(1, false), Step::Produce(1, true));
    let gone = Step::TakeOver { freezes: false, row_arrives: false };
    let twice = Step::Redrive { twice: true };
    let steps = [task, dead, task, Land, ReadRetry, ReadSource, ReadSource, Land, gone, twice];
    holds_after(Settings::default(), &steps, false);
}

/// A target is taken from the live stream when this came to a record that was open yet, and not to the next one, which is complete.
#[test]
fn what_is_complete_behind_the_live_stream_is_complete_to_a_cursor() {
    use Step::{Acknowledge, Commit, Detach, Land, Produce, ReadRetry, ReadSource, Start, TakeOver};
    let (effect, fails) = (Step::End(Ending::Effect), Step::End(Ending::Fails));
    let (first, second) = (Produce(2, false), Produce(1, false));
    let parks_two = [first, first, second, second, Land, ReadRetry, ReadSource, ReadSource];
    let third = [Start, fails, ReadSource, Acknowledge, Start, effect, Land, Acknowledge, Commit, Land];
    let gone = [TakeOver { freezes: false, row_arrives: false }, Land, ReadRetry, ReadRetry, ReadRetry];
    let slow = [ReadSource, Detach(0, Away::Slow)];
    holds_after(
        Settings { cursors: true, ..Settings::default() },
        &[&parks_two[..], &third, &gone, &slow].concat(),
        false,
    );
}

/// A cursor's task is parked, takes effect from its place, and the next of its lane takes effect behind it. The store hears of
/// both before the owner dies, and the group of neither.
#[test]
fn what_took_effect_in_the_retry_topic_is_not_repeated_behind_what_a_cursor_has_finished() {
    use Step::{
        Acknowledge, Detach, Land, Produce, ReadAgain, ReadRetry, ReadSource, RowsArrive, SendRows, Start,
    };
    let (effect, fails) = (Step::End(Ending::Effect), Step::End(Ending::Fails));
    let brought = [Produce(1, false), ReadSource, ReadAgain(1), Start];
    let stored = [SendRows, RowsArrive];
    let gone = Step::TakeOver { freezes: false, row_arrives: false };
    let first = [fails, Land, Acknowledge, SendRows, RowsArrive, Start, effect];
    let begins = [Land, Acknowledge, ReadRetry, Detach(0, Away::Slow)];
    holds_after(
        Settings { cursors: true, ..Settings::default() },
        &[&begins[..], &brought, &first, &brought, &[effect], &stored, &[gone]].concat(),
        false,
    );
}

/// The store is told of another target, and not of one whose row says what it is to say: what that one did in the live stream
/// before is told no later than what it does then.
#[test]
fn what_waits_for_a_row_that_needs_no_telling_is_told_before_what_comes_later() {
    use Step::{
        Attach, Commit, Detach, Land, Produce, ReadAgain, ReadRetry, ReadSource, Resume, RowsArrive,
        SendRows, Start,
    };
    let effect = Step::End(Ending::Effect);
    let stored = [SendRows, RowsArrive];
    let begins =
        [Produce(1, false), Land, ReadRetry, Detach(0, Away::Slow), ReadSource, ReadAgain(1), Attach];
    let both = [Produce(2, false), Produce(2, false), ReadSource, ReadSource, Resume(0), Start, effect];
    let then = [Detach(1, Away::Slow), SendRows, Start, effect, Commit];
    let gone = [Step::TakeOver { freezes: false, row_arrives: false }];
    holds_after(
        Settings { cursors: true, ..Settings::default() },
        &[&begins[..], &stored, &[Start, effect], &stored, &both, &then, &gone].concat(),
        false,
    );
}

/// A target is given back to the live stream, whose first task ends behind the last of its cursor, and the group hears of that
/// before the store does.
#[test]
fn what_a_cursor_finished_is_not_repeated_behind_what_the_live_stream_did_then() {
    use Step::{
        Attach, Commit, Detach, Land, Produce, ReadAgain, ReadRetry, ReadSource, RowsArrive, SendRows, Start,
    };
    let effect = Step::End(Ending::Effect);
    let begins = [Produce(1, false), Produce(1, false), Land, ReadRetry, Detach(0, Away::Slow)];
    let attached = [ReadSource, ReadAgain(1), Attach, SendRows, RowsArrive, ReadSource];
    let both = [Start, effect, Start, effect];
    let gone = [Commit, Step::TakeOver { freezes: false, row_arrives: false }];
    holds_after(
        Settings { cursors: true, ..Settings::default() },
        &[&begins[..], &attached, &both, &gone].concat(),
        false,
    );
}

proptest! {
    #[test]
    fn nothing_is_lost_and_no_lane_breaks_whoever_crashes_or_freezes(
        steps in prop::collection::vec(step(), 1..250),
        commits: bool,
        holds: bool,
    ) {
        holds_after(Settings { holds, ..Settings::default() }, &steps, commits);
    }

    #[test]
    fn nothing_is_lost_and_no_lane_breaks_whoever_is_taken_from_the_live_stream_meanwhile(
        steps in prop::collection::vec(step(), 1..250),
        commits: bool,
        holds: bool,
        store_fails: bool,
    ) {
        holds_after(Settings { cursors: true, holds, store_fails }, &steps, commits);
    }
}
