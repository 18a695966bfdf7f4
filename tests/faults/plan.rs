//! What happens in a run, as it follows from the seed. Pure.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::outside::Mood;
use crate::proxy::Weather;

/// Seeds above it isolate a member instead of doing something to the broker or to all of the network.
const FIRST_HUNDRED: u64 = 100;

/// Between what the weather changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Kafka,
    Outside,
    Database,
    Registry,
}

/// One fault. Members are chosen among those there are, by a number that is taken modulo their count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and another member after a while.
    KillMember {
        which: usize,
        away: Duration,
    },
    /// SIGSTOP, then SIGCONT.
    FreezeMember {
        which: usize,
        lasts: Duration,
    },
    /// Bad weather between Kafka and one member, which goes on meanwhile and knows nothing of the others.
    Isolate {
        which: usize,
        weather: Weather,
        lasts: Duration,
    },
    /// SIGTERM, and another member after a while.
    StopMember {
        which: usize,
        away: Duration,
    },
    /// So many members join at once, and then as many leave at once.
    Storm {
        members: usize,
    },
    KillBroker {
        away: Duration,
    },
    RestartBroker,
    FreezeBroker {
        lasts: Duration,
    },
    Weather {
        link: Link,
        weather: Weather,
        lasts: Duration,
    },
    Mood {
        mood: Mood,
        lasts: Duration,
    },
    /// The disk below the database has no room.
    FullDisk {
        lasts: Duration,
    },
}

/// Where the store stage keeps its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// The shared PostgreSQL, in a schema of the run's own, through a proxy; every member has the stage.
    Postgres,
    /// A file on a small disk; the first member alone has the stage.
    Sqlite,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) store: StoreKind,
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// Three faults, one of each kind: processes and network, members, and what is softer; in any order.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let store = if seed.is_multiple_of(4) { StoreKind::Sqlite } else { StoreKind::Postgres };
        let mut faults =
            vec![broker_fault(&mut random), member_fault(&mut random), soft_fault(&mut random, store)];
        if seed > FIRST_HUNDRED {
            faults[0] = isolation(&mut random);
        }
        for last in (1..faults.len()).rev() {
            faults.swap(last, random.random_range(0..=last));
        }
        Self { seed, store, faults }
    }
}

fn some_time(random: &mut SmallRng, least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(random.random_range(least_ms..=most_ms))
}

fn broker_fault(random: &mut SmallRng) -> Fault {
    match random.random_range(0..8) {
        0 | 1 => Fault::KillBroker { away: some_time(random, 0, 1_500) },
        2 => Fault::RestartBroker,
        3 | 4 => Fault::FreezeBroker { lasts: some_time(random, 300, 5_000) },
        _ => bad_weather(random, Link::Kafka),
    }
}

fn isolation(random: &mut SmallRng) -> Fault {
    let which = random.random_range(0..8);
    let weather = some_weather(random);
    Fault::Isolate { which, weather, lasts: some_time(random, 500, 6_000) }
}

fn member_fault(random: &mut SmallRng) -> Fault {
    let which = random.random_range(0..8);
    match random.random_range(0..6) {
        0 | 1 => Fault::KillMember { which, away: some_time(random, 0, 2_000) },
        2 | 3 => Fault::FreezeMember { which, lasts: some_time(random, 500, 5_000) },
        4 => Fault::StopMember { which, away: some_time(random, 0, 1_000) },
        _ => Fault::Storm { members: random.random_range(1..=3) },
    }
}

fn soft_fault(random: &mut SmallRng, store: StoreKind) -> Fault {
    match (random.random_range(0..8), store) {
        (0, _) => Fault::Mood {
            mood: Mood::Slow(some_time(random, 200, 600)),
            lasts: some_time(random, 500, 2_000),
        },
        (1, _) => Fault::Mood { mood: Mood::Refusing, lasts: some_time(random, 500, 2_000) },
        (2, _) => Fault::Mood { mood: Mood::Hanging, lasts: some_time(random, 500, 3_000) },
        (3 | 4, _) => bad_weather(random, Link::Outside),
        (_, StoreKind::Sqlite) => Fault::FullDisk { lasts: some_time(random, 1_000, 3_000) },
        (5 | 6, StoreKind::Postgres) => bad_weather(random, Link::Database),
        (_, StoreKind::Postgres) => bad_weather(random, Link::Registry),
    }
}

fn bad_weather(random: &mut SmallRng, link: Link) -> Fault {
    let weather = some_weather(random);
    Fault::Weather { link, weather, lasts: some_time(random, 300, 3_000) }
}

fn some_weather(random: &mut SmallRng) -> Weather {
    match random.random_range(0..4) {
        0 => Weather::Cut,
        1 => Weather::Slow(some_time(random, 20, 200)),
        2 => Weather::Stalled,
        _ => Weather::HalfClosed,
    }
}

#[test]
fn the_same_seed_gives_the_same_faults_and_a_hundred_seeds_give_every_kind() {
    assert_eq!(Plan::of(7), Plan::of(7));
    let faults: Vec<Fault> = (1..=110).flat_map(|seed| Plan::of(seed).faults).collect();
    let kinds = faults.iter().map(std::mem::discriminant).collect::<std::collections::HashSet<_>>();
    assert_eq!(kinds.len(), 11);
}
