//! What two looks at a group mean. Pure.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::Look;
use crate::topology::Objective;

/// What a group's lag means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its objective.
    Ok,
    /// It moves, but is further behind than its objective allows.
    Warning,
    /// It is further behind than its objective allows, and doesn't move.
    Stalled,
    /// Work waits, and nobody does it: the group has no member, or its stage is paused.
    Stopped,
    /// It stands before where it stood: replayed, or set back from outside.
    Rewound,
}

impl Verdict {
    /// True when somebody should look at it now.
    pub fn is_standing(self) -> bool {
        match self {
            Self::Stalled | Self::Stopped => true,
            Self::Ok | Self::Warning | Self::Rewound => false,
        }
    }

    /// The number in `consumer_verdict`.
    pub fn number(self) -> i64 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Stalled => 2,
            Self::Stopped => 3,
            Self::Rewound => 4,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Stalled => "stalled",
            Self::Stopped => "stopped",
            Self::Rewound => "rewound",
        })
    }
}

/// The positions before and now of every partition that has both.
fn pairs<'l>(before: &'l Look, now: &'l Look) -> impl Iterator<Item = (i64, i64)> + 'l {
    now.partitions.iter().filter_map(|partition| {
        let known = before.partitions.iter().find(|known| known.partition == partition.partition)?;
        Some((known.position?, partition.position?))
    })
}

/// What `now` means after the look `before`; without one nothing can be told to stand or to have gone back.
pub(super) fn verdict(before: Option<&Look>, now: &Look, objective: Objective) -> Verdict {
    if before.is_some_and(|before| pairs(before, now).any(|(before, now)| now < before)) {
        return Verdict::Rewound;
    }
    if now.messages() == 0 {
        return Verdict::Ok;
    }
    if now.members == Some(0) || now.paused {
        return Verdict::Stopped;
    }
    if now.seconds() <= objective.lag.as_secs_f64() {
        return Verdict::Ok;
    }
    // A partition that stands is not made good by others that move.
    let stands = before.is_some_and(|before| {
        now.partitions.iter().any(|partition| {
            let known = before.partitions.iter().find(|known| known.partition == partition.partition);
            partition.seconds > objective.lag.as_secs_f64()
                && known.is_some_and(|known| known.position == partition.position && known.messages > 0)
                // What is completed ahead of the position is progress as well.
                && known.is_some_and(|known| {
                    partition.messages.saturating_sub(known.messages)
                        == u64::try_from(partition.end - known.end).unwrap_or(0)
                })
        })
    });
    if stands { Verdict::Stalled } else { Verdict::Warning }
}

/// Seconds until nothing is left when the lag goes on shrinking as it did between two looks.
pub(super) fn drains_in(before: &Look, now: &Look) -> Option<f64> {
    let (were, are) = (before.messages() as f64, now.messages() as f64);
    let seconds = (now.at_ms - before.at_ms) as f64 / 1_000.0;
    match (were - are) / seconds {
        _ if are == 0.0 => Some(0.0),
        pace if pace > 0.0 && pace.is_finite() => Some(are / pace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::PartitionLag;
    use super::*;

    const OBJECTIVE: Objective = Objective { within: Duration::from_secs(5), lag: Duration::from_secs(60) };

    /// A look at partitions: position, end, seconds.
    fn look(at_s: i64, partitions: &[(i64, i64, f64)]) -> Look {
        let partition = |(number, (position, end, seconds)): (usize, &(i64, i64, f64))| PartitionLag {
            partition: i32::try_from(number).expect("small"),
            position: Some(*position),
            end: *end,
            messages: (end - position).unsigned_abs(),
            seconds: *seconds,
        };
        let partitions = partitions.iter().enumerate().map(partition).collect();
        Look { at_ms: at_s * 1_000, members: Some(1), paused: false, partitions }
    }

    #[test]
    fn what_is_within_its_objective_is_ok_whether_it_moves_or_not() {
        let before = look(0, &[(10, 30, 50.0)]);
        assert_eq!(verdict(None, &before, OBJECTIVE), Verdict::Ok);
        assert_eq!(verdict(Some(&before), &look(1, &[(10, 40, 51.0)]), OBJECTIVE), Verdict::Ok);
    }

    #[test]
    fn what_is_behind_and_moves_is_a_warning_and_what_stands_is_stalled() {
        let before = look(0, &[(10, 100, 70.0), (5, 5, 0.0)]);
        assert_eq!(verdict(None, &before, OBJECTIVE), Verdict::Warning, "nothing to compare with");
        let moves = look(1, &[(20, 120, 70.0), (5, 5, 0.0)]);
        assert_eq!(verdict(Some(&before), &moves, OBJECTIVE), Verdict::Warning);
        let stands = look(1, &[(10, 120, 71.0), (9, 9, 0.0)]);
        assert_eq!(verdict(Some(&before), &stands, OBJECTIVE), Verdict::Stalled, "though another one moves");
        let mut ahead = stands.clone();
        ahead.partitions[0].messages -= 7;
        assert_eq!(verdict(Some(&before), &ahead, OBJECTIVE), Verdict::Warning, "it completes out of order");
    }

    #[test]
    fn nobody_there_is_stopped_and_a_step_back_is_rewound() {
        let mut alone = look(1, &[(10, 30, 1.0)]);
        alone.members = Some(0);
        assert_eq!(verdict(None, &alone, OBJECTIVE), Verdict::Stopped);
        alone.members = None;
        assert_eq!(verdict(None, &alone, OBJECTIVE), Verdict::Ok, "the broker doesn't tell");
        alone.paused = true;
        assert_eq!(verdict(None, &alone, OBJECTIVE), Verdict::Stopped);
        let nothing = look(1, &[(30, 30, 0.0)]);
        assert_eq!(verdict(None, &Look { members: Some(0), ..nothing.clone() }, OBJECTIVE), Verdict::Ok);
        assert_eq!(verdict(Some(&nothing), &look(2, &[(10, 30, 1.0)]), OBJECTIVE), Verdict::Rewound);
    }

    #[test]
    fn the_time_to_drain_goes_by_how_the_lag_shrinks() {
        let before = look(0, &[(0, 100, 1.0)]);
        assert_eq!(drains_in(&before, &look(10, &[(60, 110, 1.0)])), Some(10.0));
        assert_eq!(drains_in(&before, &look(10, &[(10, 110, 1.0)])), None, "it doesn't shrink");
        assert_eq!(drains_in(&before, &look(10, &[(110, 110, 0.0)])), Some(0.0));
        assert_eq!(drains_in(&before, &look(0, &[(60, 110, 1.0)])), None, "no time has passed");
    }
}
