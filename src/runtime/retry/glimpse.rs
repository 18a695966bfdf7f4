//! The part of a parked record's mark that the index of parked work needs, read where the headers lie, without an
//! allocation: a member that takes a partition over reads this of every parked record.

use super::Epoch;
use super::mark::{ORDINARY, OURS};

/// What an ordinary parked record says. Fields are those of [`super::Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glimpse<'r> {
    pub(crate) source_partition: i32,
    pub(crate) source_offset: i64,
    pub(crate) lane: &'r str,
    pub(crate) target: &'r str,
    pub(crate) priority: u16,
    pub(crate) attempt: u32,
    pub(crate) not_before_ms: Option<i64>,
    pub(crate) first_failed_at_ms: Option<i64>,
    pub(crate) epoch: Epoch,
    pub(crate) held: bool,
}

impl<'r> Glimpse<'r> {
    /// Reads it; `None` of everything that isn't simply a task that an owner parked: a marker, what a redrive wrote, what
    /// isn't ours. Then the whole [`super::Mark`] tells.
    pub(crate) fn of(headers: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>) -> Option<Self> {
        // The value of the last header of each name.
        let (mut values, mut next) = ([None; OURS.len()], 0);
        for (name, value) in headers.filter(|(name, _)| name.starts_with(b"of-")) {
            let found = (next..OURS.len()).chain(0..next).find(|&at| OURS[at].as_bytes() == name);
            if let Some(at) = found {
                (values[at], next) = (value, at + 1);
            }
        }
        let [source_topic, source_partition, source_offset, source_timestamp, stage, lane, target, rest @ ..] =
            values;
        let [priority, attempt, not_before, first_failed_at, _class, _error, epoch, held, marker] = rest;
        if marker == Some(b"true") {
            return None;
        }
        text(source_topic).and(text(stage))?;
        number::<i64>(source_timestamp)?;
        Some(Self {
            source_partition: number(source_partition)??,
            source_offset: number(source_offset)??,
            lane: text(lane)?,
            target: text(target)?,
            priority: number(priority)?.unwrap_or(ORDINARY),
            attempt: number(attempt)?.unwrap_or(0),
            not_before_ms: number(not_before)?,
            first_failed_at_ms: number(first_failed_at)?,
            epoch: text(epoch)?.parse().ok()?,
            held: held == Some(b"true"),
        })
    }
}

/// A value, if it is text.
fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok()
}

/// The number in a header, if there is text in it; `None` when it is malformed.
fn number<N: std::str::FromStr + TryFrom<u64>>(value: Option<&[u8]>) -> Option<Option<N>> {
    match value.and_then(digits) {
        Some(number) => number.try_into().ok().map(Some),
        None => text(value).map_or(Some(None), |text| text.parse().ok().map(Some)),
    }
}

/// The number that a few digits are: nearly all are that, and reading text as any number takes several times as long.
fn digits(value: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    plain.then(|| value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::mark::{
        EPOCH, LANE, MARKER, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC, STAGE, TARGET,
    };
    use super::super::{Mark, TaskOf, marker, marker_of};
    use super::*;
    use crate::runtime::record::Headers;

    fn glimpse(headers: &Headers) -> Option<Glimpse<'_>> {
        Glimpse::of(headers.iter().map(|(name, value)| (name.as_bytes(), value.map(|value| &value[..]))))
    }

    fn by_mark(headers: &Headers) -> Option<(Mark, TaskOf, Epoch)> {
        if marker_of(headers).is_some() {
            return None;
        }
        let mark = Mark::read(headers).ok()?;
        let (task, epoch) = (mark.task.clone()?, mark.epoch.parse().ok()?);
        Some((mark, task, epoch))
    }

    #[test]
    fn a_marker_is_no_parked_task() {
        assert_eq!(glimpse(&marker("webhook", Epoch { incarnation: 1, generation: 2 })), None);
    }

    proptest! {
        /// It sees what the whole mark says, whatever headers there are, missing, doubled, malformed or null.
        #[test]
        fn it_says_what_the_mark_says(
            pairs in prop::collection::vec(
                (
                    prop::sample::select([&OURS[..], &["of-redrive-id", "ce_id"]].concat()),
                    prop::option::of(prop::sample::select(vec!["7", "-1", "true", "x", "7.1", "70000", "+7", "007", "9223372036854775808", "123456789012345678", "\u{fffd}"])),
                ),
                0..8,
            ),
        ) {
            let complete = [
                (SOURCE_TOPIC, "t"), (SOURCE_PARTITION, "3"), (SOURCE_OFFSET, "9"), (STAGE, "s"), (LANE, "l"),
                (TARGET, "e"), (EPOCH, "5.2"),
            ];
            let complete = complete.into_iter().map(|(name, value)| (name, Some(value)));
            let text = |value: &str| match value {
                "\u{fffd}" => Bytes::from_static(b"\xff"),
                text => Bytes::copy_from_slice(text.as_bytes()),
            };
            let pairs = complete.chain(pairs).map(|(name, value)| (name.to_owned(), value.map(text)));
            let headers = Headers::new(pairs.collect());
            match (glimpse(&headers), by_mark(&headers)) {
                (None, None) => {}
                (Some(seen), Some((mark, task, epoch))) => {
                    prop_assert_eq!((seen.source_partition, seen.source_offset), (mark.source.partition, mark.source.offset));
                    prop_assert_eq!((seen.lane, seen.target, seen.priority), (&*task.lane, &*task.target, task.priority));
                    prop_assert_eq!((seen.attempt, seen.held, seen.epoch), (mark.attempt, mark.held, epoch));
                    prop_assert_eq!(seen.not_before_ms, mark.not_before_ms);
                    prop_assert_eq!(seen.first_failed_at_ms, mark.first_failed_at_ms);
                }
                (None, Some(_)) => prop_assert_eq!(headers.text(MARKER), Some("true"), "{:?}", headers),
                (seen, by_mark) => prop_assert!(false, "{:?}, but {:?}", seen, by_mark),
            }
        }
    }
}
