//! The protocol of cursors under arbitrary interleavings of crash, zombie and rebalance, against a log, a store
//! and an outside that outlive every member.
//!
//! Checked: every task of every target takes effect; within a lane in order; what was durably finished when an
//! owner took over isn't repeated by it; nothing is left behind in the store. A backfill that is said to be done has
//! delivered what was asked for, and every backfill ends.

mod world;

use proptest::prelude::*;

use self::world::{Member, World};
use super::{Backfill, BackfillState};

const TARGETS: [&str; 2] = ["a", "b"];
/// Live tasks of a target behind which the reader counts as close.
const NEAR: i64 = 3;

/// A record: its lane, and which targets it concerns.
#[derive(Debug, Clone, Copy)]
struct Record {
    lane: u8,
    targets: [bool; 2],
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u8),
    Start(u16),
    End(u16),
    Detach(bool, bool),
    Resume(bool),
    Read(u8),
    Attach,
    /// The member decides what to write; it reaches the store; the member hears of it.
    Send,
    Arrive,
    Commit,
    Crash,
    /// Another takes over while this one goes on believing that it is the owner.
    Zombie,
    ZombieSends,
    ZombieArrives,
    /// Which target, from where, how far, and whether only the newest of each lane.
    Backfill(bool, u16, Option<u16>, bool),
    CancelBackfill(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..5).prop_map(Step::Admit),
        8 => any::<u16>().prop_map(Step::Start),
        8 => any::<u16>().prop_map(Step::End),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(target, hold)| Step::Detach(target, hold)),
        2 => any::<bool>().prop_map(Step::Resume),
        6 => (1u8..6).prop_map(Step::Read),
        3 => Just(Step::Attach),
        6 => Just(Step::Send),
        6 => Just(Step::Arrive),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Zombie),
        1 => Just(Step::ZombieSends),
        1 => Just(Step::ZombieArrives),
    ]
}

fn step_with_backfill() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => step(),
        1 => (any::<bool>(), any::<u16>(), any::<Option<u16>>(), any::<bool>())
            .prop_map(|(target, from, to, newest)| Step::Backfill(target, from, to, newest)),
        1 => any::<bool>().prop_map(Step::CancelBackfill),
    ]
}

fn act(
    world: &mut World,
    owner: &mut Member,
    zombie: &mut Option<Member>,
    step: &Step,
    strict: bool,
) -> Result<(), TestCaseError> {
    match step {
        Step::Admit(records) => (0..*records).for_each(|_| owner.admit(world)),
        Step::Start(pick) => owner.start(world, *pick),
        Step::End(pick) => owner.end(world, *pick, strict)?,
        Step::Detach(target, held) => owner.detach(usize::from(*target), *held),
        Step::Resume(target) => owner.cursors.resume(TARGETS[usize::from(*target)]),
        Step::Read(records) => owner.read(world, *records),
        Step::Attach => owner.attach(),
        Step::Send => {
            if owner.sent.is_none() {
                owner.sent = Some(owner.cursors.send());
            }
        }
        Step::Arrive => world.arrive(owner),
        Step::Commit => {
            world.commit(owner);
            owner.cursors.sweep(world.watermark());
        }
        Step::Crash => *owner = world.take_over(),
        Step::Zombie => *zombie = Some(std::mem::replace(owner, world.take_over())),
        Step::ZombieSends => {
            if let Some(zombie) = zombie.as_mut().filter(|zombie| zombie.sent.is_none()) {
                zombie.sent = Some(zombie.cursors.send());
            }
        }
        Step::ZombieArrives => {
            if let Some(zombie) = zombie {
                world.arrive(zombie);
                world.commit(zombie);
            }
        }
        Step::Backfill(target, from, to, newest_only) => {
            let from = i64::from(*from) % (owner.admitted + 1);
            let to = to.map(|more| from + i64::from(more) % (owner.admitted + 1));
            let id = format!("b{}", world.asked.len()).into();
            let asked = Backfill { id, from, to, every: None, newest_only: *newest_only };
            owner.backfill(world, usize::from(*target), &asked);
        }
        Step::CancelBackfill(target) => owner.cancel_backfill(usize::from(*target)),
    }
    Ok(())
}

/// Lets the owner come to the end: everything is admitted, read, run, stored, committed.
fn finish(world: &mut World, owner: &mut Member, strict: bool) -> Result<(), TestCaseError> {
    let first = 0;
    for _ in 0..1_000 {
        TARGETS.iter().for_each(|target| owner.cursors.resume(target));
        (0..4).for_each(|_| owner.admit(world));
        (0..4).for_each(|_| owner.read(world, 4));
        for _ in 0..8 {
            owner.start(world, first);
            owner.end(world, first, strict)?;
        }
        owner.attach();
        owner.sent = owner.sent.take().or_else(|| Some(owner.cursors.send()));
        world.arrive(owner);
        world.commit(owner);
        owner.cursors.sweep(world.watermark());
        if world.rows.is_empty() && world.committed.len() == world.log.len() && owner.cursors.is_empty() {
            return Ok(());
        }
    }
    Err(TestCaseError::fail(format!("it never ends: {world:?} {owner:?}")))
}

fn check(records: Vec<(u8, [bool; 2])>, steps: &[Step], strict: bool) -> Result<(), TestCaseError> {
    let log = records.into_iter().map(|(lane, targets)| Record { lane, targets }).collect();
    let mut world = World::of(log);
    let mut owner = world.take_over();
    let mut zombie = None;
    for step in steps {
        act(&mut world, &mut owner, &mut zombie, step, strict)?;
    }
    finish(&mut world, &mut owner, strict)?;
    for offset in 0..world.log.len() as i64 {
        for target in (0..TARGETS.len()).filter(|target| world.takes(*target, offset)) {
            prop_assert!(world.times(target, offset) > 0, "{target}: {offset} is lost");
        }
    }
    check_backfills(&world)
}

/// What the store says of backfills is true.
fn check_backfills(world: &World) -> Result<(), TestCaseError> {
    for progress in world.told.values() {
        prop_assert!(progress.state != BackfillState::Running, "it never ended: {progress:?}");
        prop_assert!(progress.from <= progress.at && progress.at <= progress.to.max(progress.from));
        let (target, before) = &world.asked[&progress.id];
        let stretch = || (progress.from..progress.to).filter(|offset| world.takes(*target, *offset));
        prop_assert!(progress.delivered <= stretch().count() as u64, "{progress:?}");
        if progress.state == BackfillState::Done && progress.delivered > 0 {
            prop_assert_eq!(progress.at, progress.to);
        }
        let is_newest = |offset: i64| {
            let newer = stretch().filter(|newer| *newer > offset);
            !newer.into_iter().any(|newer| world.lane(newer) == world.lane(offset))
        };
        for offset in stretch().filter(|&offset| progress.state == BackfillState::Done && is_newest(offset)) {
            prop_assert!(world.times(*target, offset) > before[&offset], "{offset} of {progress:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Invariants 1 (completion) and 2 (order).
    #[test]
    fn every_task_takes_effect_in_order_and_nothing_finished_is_repeated(
        records in prop::collection::vec((0u8..3, any::<[bool; 2]>()), 1..40),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        check(records, &steps, true)?;
    }

    /// A backfill repeats on purpose; it must lose nothing and overtake nothing.
    #[test]
    fn a_backfill_and_its_cancel_lose_nothing(
        records in prop::collection::vec((0u8..3, any::<[bool; 2]>()), 1..40),
        steps in prop::collection::vec(step_with_backfill(), 0..150),
    ) {
        check(records, &steps, false)?;
    }
}

#[test]
fn a_row_on_its_way_covers_only_what_the_one_before_it_covers_too() {
    let steps = [Step::Detach(false, false), Step::Send, Step::Arrive, Step::Attach, Step::Send]
        .into_iter()
        .chain([Step::Detach(false, false), Step::Admit(2), Step::Arrive, Step::Commit, Step::Crash]);
    let steps: Vec<Step> = steps.collect();
    check(vec![(0, [false, false]), (0, [true, false])], &steps, true).expect("nothing is lost");
}
