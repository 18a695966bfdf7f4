//! What the receipts of an endpoint's attempts say of its health: when it begins to fail, when it has failed for too
//! long, and when it works again. Pure.
//!
//! Receipts of several partitions come in any order, so nothing here is counted: only the latest success, and the first
//! and last failure after it, are kept. Times are those of the attempts, never the clock's: a log that is read late
//! tells the same story.

use std::time::Duration;

use uuid::Uuid;

use crate::store::webhooks::health::{Health, Told};

/// A success is noted this exactly, in milliseconds: an endpoint that does well is written down now and then. A failure
/// as close behind one says nothing.
const EXACT_MS: i64 = 10_000;

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was accepted.
    Well,
    /// It failed, or the event was refused.
    Failed,
    /// The endpoint answered 410.
    Gone,
}

/// An attempt, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which start of the endpoint it was of, where the receipt says so.
    pub(super) generation: Option<i64>,
    /// When it ended, epoch milliseconds.
    pub(super) at_ms: i64,
    /// How.
    pub(super) ended: Ended,
    /// The event that it told of.
    pub(super) event_id: Uuid,
    /// What went wrong, in one sentence.
    pub(super) why: String,
}

/// What an endpoint's owner is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing was accepted for a while.
    Failing,
    /// Nothing was accepted for too long, or it asked for that: nothing is sent to it any more.
    Disabled,
    /// It accepts again.
    Recovered,
}

impl News {
    /// The word in events, and the template's name behind `webhook.`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Recovered => "recovered",
        }
    }
}

/// How long an endpoint may go without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Until its owner is told.
    pub(super) failing_after: Duration,
    /// Until it is disabled.
    pub(super) disable_after: Duration,
}

/// Notes an attempt. Answers what its owner is to be told, and since when it failed.
pub(super) fn note(health: &mut Health, seen: &Seen, limits: &Limits) -> Option<(News, Option<i64>)> {
    match seen.ended {
        Ended::Well => well(health, seen.at_ms),
        Ended::Failed => failed(health, seen.at_ms, limits),
        Ended::Gone => {
            let known = std::mem::replace(&mut health.told, Told::Disabled) == Told::Disabled;
            (!known).then_some((News::Disabled, None))
        }
    }
}

fn well(health: &mut Health, at_ms: i64) -> Option<(News, Option<i64>)> {
    if health.last_success_at.is_none_or(|last| at_ms > last + EXACT_MS)
        || health.failing_since.is_some_and(|since| since <= at_ms)
    {
        health.last_success_at = health.last_success_at.max(Some(at_ms));
    }
    let failed_since = health.failing_since.filter(|since| *since <= at_ms)?;
    // A failure behind this success may be known already; the first of them is the last one at the latest.
    health.failing_since = health.last_failure_at.filter(|last| *last > at_ms);
    if health.failing_since.is_some() || health.told != Told::Failing {
        return None;
    }
    health.told = Told::Well;
    Some((News::Recovered, Some(failed_since)))
}

fn failed(health: &mut Health, at_ms: i64, limits: &Limits) -> Option<(News, Option<i64>)> {
    if health.last_success_at.is_some_and(|last| at_ms <= last + EXACT_MS) {
        return None;
    }
    let since = health.failing_since.map_or(at_ms, |since| since.min(at_ms));
    let last = health.last_failure_at.map_or(at_ms, |last| last.max(at_ms));
    (health.failing_since, health.last_failure_at) = (Some(since), Some(last));
    let lasts = |limit: Duration| u128::from((last - since).unsigned_abs()) >= limit.as_millis();
    let news = match health.told {
        Told::Disabled => return None,
        Told::Well | Told::Failing if lasts(limits.disable_after) => News::Disabled,
        Told::Well if lasts(limits.failing_after) => News::Failing,
        Told::Well | Told::Failing => return None,
    };
    health.told = if news == News::Disabled { Told::Disabled } else { Told::Failing };
    Some((news, Some(since)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const LIMITS: Limits = Limits {
        failing_after: Duration::from_secs(3_600),
        disable_after: Duration::from_secs(5 * 24 * 3_600),
    };

    fn seen(at_ms: i64, ended: Ended) -> Seen {
        Seen { generation: None, at_ms, ended, event_id: Uuid::nil(), why: String::new() }
    }

    /// What is told of attempts, by hours.
    fn told(attempts: &[(i64, Ended)]) -> Vec<(i64, News)> {
        let mut health = Health::new("shop", "wh_1");
        let told = attempts.iter().filter_map(|&(hour, ended)| {
            note(&mut health, &seen(hour * HOUR, ended), &LIMITS).map(|(news, _)| (hour, news))
        });
        told.collect()
    }

    #[test]
    fn an_endpoint_fails_is_disabled_and_its_owner_hears_of_each_once() {
        use Ended::{Failed, Gone, Well};
        for (attempts, expected) in [
            (vec![(0, Well), (1, Failed), (1, Failed)], vec![]),
            (vec![(1, Failed), (2, Failed), (3, Failed)], vec![(2, News::Failing)]),
            (
                vec![(1, Failed), (9, Failed), (10, Well), (11, Well)],
                vec![(9, News::Failing), (10, News::Recovered)],
            ),
            (vec![(1, Failed), (2, Well), (200, Failed)], vec![]),
            (
                vec![(1, Failed), (50, Failed), (121, Failed), (122, Failed)],
                vec![(50, News::Failing), (121, News::Disabled)],
            ),
            // Nobody tried for long: the one failure after that is the last straw all the same.
            (vec![(1, Failed), (500, Failed)], vec![(500, News::Disabled)]),
            // What was under way when it was disabled changes nothing.
            (vec![(1, Failed), (121, Failed), (121, Well)], vec![(121, News::Disabled)]),
            (vec![(1, Well), (2, Gone), (2, Gone), (3, Failed)], vec![(2, News::Disabled)]),
        ] {
            assert_eq!(told(&attempts), expected, "{attempts:?}");
        }
    }

    #[test]
    fn an_endpoint_that_does_well_is_written_down_now_and_then() {
        let mut health = Health::new("shop", "wh_1");
        note(&mut health, &seen(1, Ended::Well), &LIMITS);
        let noted = health.clone();
        note(&mut health, &seen(EXACT_MS, Ended::Well), &LIMITS);
        assert_eq!(health, noted);
        note(&mut health, &seen(EXACT_MS + 2, Ended::Well), &LIMITS);
        assert_eq!(health.last_success_at, Some(EXACT_MS + 2));
    }

    proptest! {
        /// In whatever order partitions are read: nobody is told that an endpoint fails, or disables it, that accepted
        /// something in between.
        #[test]
        fn no_order_of_receipts_makes_an_endpoint_fail_that_accepts(
            attempts in prop::collection::vec((0i64..200, any::<bool>()), 1..60),
            shuffled in any::<prop::sample::Index>(),
        ) {
            let mut order: Vec<_> = attempts.clone();
            order.rotate_left(shuffled.index(attempts.len()));
            let mut health = Health::new("shop", "wh_1");
            let mut read: Vec<(i64, bool)> = Vec::new();
            for (hour, well) in order {
                read.push((hour, well));
                let ended = if well { Ended::Well } else { Ended::Failed };
                let news = note(&mut health, &seen(hour * HOUR, ended), &LIMITS);
                if let Some((News::Failing | News::Disabled, since)) = news {
                    let since = since.expect("it failed") / HOUR;
                    prop_assert!(read.contains(&(since, false)));
                    let between = read.iter().any(|(at, well)| *well && *at > since);
                    prop_assert!(!between, "{since} in {read:?}");
                }
            }
        }
    }
}
