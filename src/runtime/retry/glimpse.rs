//! The part of a parked record's mark that the index of parked work needs, read where the headers lie, without an
//! allocation: a member that takes a partition over reads this of every parked record.

use super::Epoch;
use super::mark::{
    ATTEMPT, EPOCH, FIRST_FAILED_AT, HELD, LANE, MARKER, NOT_BEFORE, ORDINARY, OURS, PRIORITY, PUT_BACK,
    SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TIMESTAMP, SOURCE_TOPIC, STAGE, TARGET,
};

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

/// Which of [`OURS`] a header is, of those that are looked at. By length first, and then by comparison with one constant: a
/// parked record has nearly all of them.
#[inline]
fn place_of(name: &[u8]) -> Option<usize> {
    let is = |known: &str| name == known.as_bytes();
    let place = match name.len() {
        7 if is(LANE) => 5,
        7 if is(HELD) => 14,
        8 if is(STAGE) => 4,
        8 if is(EPOCH) => 13,
        9 if is(TARGET) => 6,
        9 if is(MARKER) => 15,
        10 if is(ATTEMPT) => 8,
        11 if is(PRIORITY) => 7,
        13 if is(NOT_BEFORE) => 9,
        15 if is(SOURCE_TOPIC) => 0,
        16 if is(SOURCE_OFFSET) => 2,
        18 if is(FIRST_FAILED_AT) => 10,
        19 if is(SOURCE_PARTITION) => 1,
        19 if is(SOURCE_TIMESTAMP) => 3,
        _ => return None,
    };
    Some(place)
}

/// Whether a header says that an operator put the record back.
fn is_operators(name: &[u8]) -> bool {
    PUT_BACK.iter().any(|known| name == known.as_bytes())
}

impl<'r> Glimpse<'r> {
    /// Reads it; `None` of everything that isn't simply a task that an owner parked: a marker, what an operator put back, what
    /// isn't ours. Then the whole [`super::Mark`] tells.
    pub(crate) fn of(headers: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>) -> Option<Self> {
        // The value of the last header of each name.
        let mut values = [None; OURS.len()];
        for (name, value) in headers {
            if let Some(at) = place_of(name) {
                values[at] = value;
            } else if is_operators(name) {
                return None;
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
            epoch: epoch_of(epoch?)?,
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

/// The epoch that a text is.
fn epoch_of(value: &[u8]) -> Option<Epoch> {
    let at = value.iter().position(|byte| *byte == b'.')?;
    match (digits(&value[..at]), digits(&value[at + 1..])) {
        (Some(incarnation), Some(generation)) => Some(Epoch { incarnation, generation }),
        _ => std::str::from_utf8(value).ok()?.parse().ok(),
    }
}

/// The number that a few digits are: nearly all are that, and reading text as any number takes several times as long.
fn digits(value: &[u8]) -> Option<u64> {
    if !(1..=18).contains(&value.len()) {
        return None;
    }
    let (eights, rest) = value.as_chunks::<8>();
    let mut number = 0;
    for eight in eights {
        number = number * 100_000_000 + eight_digits(*eight)?;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// The number that eight digits are, all at once: twos of them, then fours, then all, each in its place of one word.
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const UPPER: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let word = u64::from_le_bytes(text);
    // The upper half of a digit's byte is 3, and stays 3 when 6 is added.
    if word & UPPER != ZEROS || word.wrapping_add(0x0606_0606_0606_0606) & UPPER != ZEROS {
        return None;
    }
    let twos = ((word - ZEROS).wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000 << 32 | 1) >> 32)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Mark, TaskOf, is_put_back, marker, marker_of};
    use super::*;
    use crate::runtime::record::Headers;

    fn glimpse(headers: &Headers) -> Option<Glimpse<'_>> {
        Glimpse::of(headers.iter().map(|(name, value)| (name.as_bytes(), value)))
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
    fn digits_are_the_number_that_they_say_and_nothing_else_is_one() {
        for number in
            [0, 7, 10, 12_345_678, 87_654_321, 123_456_789, 1_790_000_000_123, 999_999_999_999_999_999]
        {
            assert_eq!(digits(number.to_string().as_bytes()), Some(number));
        }
        assert_eq!(digits(b"0000000000000042"), Some(42));
        for at in 0..16 {
            for other in [b'/', b':', b'+', 0, 0xb0, 0xff] {
                let mut text = *b"1234567812345678";
                text[at] = other;
                assert_eq!(digits(&text), None, "{other} at {at}");
            }
        }
        assert_eq!((digits(b""), digits(&[b'1'; 19])), (None, None));
    }

    #[test]
    fn every_header_that_is_looked_at_has_the_place_that_it_has_in_a_mark() {
        for (at, name) in OURS.iter().enumerate() {
            let expected = (!["of-error", "of-error-class"].contains(name)).then_some(at);
            assert_eq!(place_of(name.as_bytes()), expected, "{name}");
        }
        assert_eq!((place_of(b"of-held "), place_of(b"of-hero"), place_of(b"")), (None, None, None));
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
                    prop::sample::select([&OURS[..], &["of-redrive-id", "ce_id"], &PUT_BACK].concat()),
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
            let names_operator = headers.iter().any(|(name, _)| PUT_BACK.contains(&name));
            match (glimpse(&headers), by_mark(&headers)) {
                (None, None) => {}
                (Some(seen), Some((mark, task, epoch))) => {
                    prop_assert!(!is_put_back(&headers));
                    prop_assert_eq!((seen.source_partition, seen.source_offset), (mark.source.partition, mark.source.offset));
                    prop_assert_eq!((seen.lane, seen.target, seen.priority), (&*task.lane, &*task.target, task.priority));
                    prop_assert_eq!((seen.attempt, seen.held, seen.epoch), (mark.attempt, mark.held, epoch));
                    prop_assert_eq!(seen.not_before_ms, mark.not_before_ms);
                    prop_assert_eq!(seen.first_failed_at_ms, mark.first_failed_at_ms);
                }
                (None, Some(_)) => prop_assert!(names_operator || headers.text(MARKER) == Some("true"), "{:?}", headers),
                (seen, by_mark) => prop_assert!(false, "{:?}, but {:?}", seen, by_mark),
            }
        }
    }
}
