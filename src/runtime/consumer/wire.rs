//! The headers of a record where they lie in its batch, as Kafka's record format 2 (KIP-98) has them. Pure.
//!
//! librdkafka makes a list of them, with an allocation for each, which costs more than all else that is done with a parked
//! record. It hands out where a record's key and value lie, not where the record ends: the record says its own length, in front
//! of the fields before the key, and those can be read backwards from the value. How many bytes of the length there are is told
//! by the one before, the last of the record before; so the first record of a batch is left to librdkafka, and so is what
//! isn't as every known producer writes it. Only records of retry topics are read so, which this program alone writes.
//!
//! ```text
//! length  attributes  timestamp  offset  key's length  key  value's length  value  headers: number, then each (name, value)
//! varint  0           varint     varint  varint             varint
//! ```
//!
//! Whatever was written there, no byte is looked at behind the record, and one at most before it. Batches keep headers as they
//! lie here, and write what librdkafka says in the same way.

use crate::runtime::headers::format::{self, LONGEST, Pair, named, put_varint, take, varint, varint_of};

/// Bytes of the length of a record, at most: they are smaller than 2 GiB.
const LONGEST_LENGTH: usize = 5;

/// How many bytes there are from the start of a record's value to the end of the record: never more than there are; `None`
/// when that can't be told.
///
/// Takes the lengths of value and key (`None` for null). `before(n)` is asked for the byte `n` places before the value; only
/// bytes of the record and the one before it, as long as it is one whose length was checked.
pub(super) fn to_end(value: usize, key: Option<usize>, before: impl Fn(usize) -> u8) -> Option<usize> {
    let mut at = 0;
    let mut passes = |length: Option<usize>, bytes: usize| {
        let (written, count) = varint_of(length.map_or(Some(-1), |length| i64::try_from(length).ok())?);
        let is_there = (0..count).all(|nth| before(at + count - nth) == written[nth]);
        at += count + bytes;
        is_there.then_some(())
    };
    passes(Some(value), key.unwrap_or(0))?;
    passes(key, 0)?;
    // A varint ends with a byte below 0x80; those before are of it, up to one that ends what is before it.
    for is_offset in [true, false] {
        at += 1;
        // The first record of a batch may be the first in memory, with nothing before it.
        let is_first = || is_offset && before(at) == 0 && before(at + 1) < 0x80;
        if before(at) >= 0x80 || is_first() {
            return None;
        }
        let more = (0..LONGEST).take_while(|more| before(at + 1 + more) >= 0x80).count();
        at += more;
    }
    // Were these no attributes but the end of the length, because attributes of 0x80 and more were taken for a part of the
    // timestamp, then it would not be 0 without a byte before it that belongs to it, which is the next to be looked at.
    at += 1;
    if before(at) != 0 || before(at + 1) >= 0x80 {
        return None;
    }
    // The last bytes of the length are the high bits: fewer of them than there are say less than the length or, of a number that
    // is written longer than it needs to be, anything. So the first that cover what is known of the record are all of them, or
    // too few; that they are all is certain when the byte before ends something else.
    let known = at + value + 1;
    let mut zigzag = 0_u64;
    for nth in 1..=LONGEST_LENGTH {
        let byte = before(at + nth);
        if nth > 1 && byte < 0x80 {
            return None;
        }
        zigzag = zigzag << 7 | u64::from(byte & 0x7f);
        let length = i32::try_from(zigzag >> 1).ok().and_then(|length| usize::try_from(length).ok())?;
        if length >= known {
            let are_all = before(at + nth + 1) < 0x80;
            return (zigzag & 1 == 0 && are_all).then_some(length - at);
        }
    }
    None
}

/// True when headers lie in `bytes` and fill it exactly.
pub(super) fn are_headers(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let Some(count) = varint(&mut rest).and_then(|count| usize::try_from(count).ok()) else { return false };
    (0..count).all(|_| take(&mut rest).is_some()) && rest.is_empty()
}

/// The headers that lie in `bytes`, behind their number.
pub(super) fn pairs(mut bytes: &[u8]) -> &[u8] {
    if varint(&mut bytes).is_some() { bytes } else { &[] }
}

/// The names and values of the headers that lie in `bytes`, in order, as far as they are such.
pub(super) fn headers(bytes: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    format::pairs(pairs(bytes)).map(|(name, value)| (named(name), value))
}

/// Writes how many headers follow.
pub(super) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put_varint(bytes, i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::headers::format::put;

    type Header = (Vec<u8>, Option<Vec<u8>>);

    #[derive(Debug, Clone)]
    struct Written {
        attributes: u8,
        timestamp: i64,
        offset: i64,
        key: Option<Vec<u8>>,
        value: Vec<u8>,
        headers: Vec<Header>,
    }

    fn put_bytes(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
        put_varint(bytes, part.map_or(-1, |part| part.len() as i64));
        bytes.extend_from_slice(part.unwrap_or_default());
    }

    impl Written {
        /// The bytes of the record with its length, and where in them the value starts.
        fn bytes(&self) -> (Vec<u8>, usize) {
            let mut body = vec![self.attributes];
            put_varint(&mut body, self.timestamp);
            put_varint(&mut body, self.offset);
            put_bytes(&mut body, self.key.as_deref());
            put_bytes(&mut body, Some(&self.value));
            let value_end = body.len();
            put_count(&mut body, self.headers.len());
            for (name, value) in &self.headers {
                put(&mut body, name, value.as_deref());
            }
            let mut bytes = Vec::new();
            put_varint(&mut bytes, body.len() as i64);
            let start = bytes.len() + value_end - self.value.len();
            bytes.extend(body);
            (bytes, start)
        }
    }

    fn records() -> impl Strategy<Value = Written> {
        let some_bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
        let lengths = prop_oneof![Just(0_usize), 50_usize..70, 8_000_usize..8_300];
        let attributes = prop_oneof![4 => Just(0_u8), 1 => any::<u8>()];
        let header = (prop::collection::vec(1_u8..=255, 0..20), prop::option::of(some_bytes(40)));
        (
            attributes,
            prop_oneof![0_i64..300, any::<i64>()],
            prop_oneof![1 => Just(0_i64), 9 => 0_i64..1 << 31],
            prop::option::of(some_bytes(80)),
            (some_bytes(80), lengths),
            prop::collection::vec(header, 0..16),
        )
            .prop_map(|(attributes, timestamp, offset, key, (mut value, more), headers)| {
                value.resize(value.len() + more, 0xff);
                Written { attributes, timestamp, offset, key, value, headers }
            })
    }

    proptest! {
        /// Whatever is written there, no byte outside the record and the one before it is asked for and no end behind its own is
        /// named; the headers of an ordinary record are as they were written.
        #[test]
        fn headers_are_found_and_nothing_outside_the_record_is_read(record in records(), preceding: u8) {
            let (bytes, start) = record.bytes();
            let before = |distance: usize| match start.checked_sub(distance) {
                Some(at) => bytes[at],
                None => { assert_eq!(distance, start + 1, "one byte before the record"); preceding }
            };
            let rest = to_end(record.value.len(), record.key.as_ref().map(Vec::len), before);
            prop_assert!(rest.is_none_or(|rest| start + rest <= bytes.len()));
            if record.attributes == 0 && record.offset > 0 && preceding < 0x80 {
                let rest = rest.expect("an ordinary record");
                let bytes = &bytes[start + record.value.len()..start + rest];
                prop_assert!(are_headers(bytes));
                let found: Vec<Header> = headers(bytes).map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(found, record.headers);
            }
        }

        /// The fields before the key are a producer's, and may be any bytes, as long as they are varints; so is the length, which
        /// may be written in more bytes than it needs, and with bits that nobody counts.
        #[test]
        fn strange_fields_mislead_nobody(
            (length, bits) in (0_usize..9, any::<u64>()), attributes: u8, timestamp in prop::collection::vec(0x80_u8.., 0..4),
            last in 0_u8..0x80, offset in 0_u8..0x80, preceding: u8,
        ) {
            let record = Written { attributes: 0, timestamp: 0, offset: 0, key: None, value: vec![7; 20], headers: Vec::new() };
            let (plain, _) = record.bytes();
            let mut body = vec![attributes];
            body.extend(timestamp);
            body.extend([last, offset]);
            body.extend(&plain[4..]);
            // As whoever takes it for 32 bits reads it.
            let (mut bytes, mut zigzag) = (Vec::new(), (body.len() as u64 * 2) | (bits << 33));
            for _ in 0..length {
                bytes.push(0x80 | (zigzag & 0x7f) as u8);
                zigzag >>= 7;
            }
            bytes.push((zigzag & 0x7f) as u8);
            bytes.extend(&body);
            let start = bytes.len() - 21;
            let before = |distance: usize| match start.checked_sub(distance) {
                Some(at) => bytes[at],
                None => { assert_eq!(distance, start + 1, "one byte before the record"); preceding }
            };
            prop_assert!(to_end(20, None, before).is_none_or(|rest| rest == 21));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let taken: usize = headers(&bytes).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
            prop_assert!(taken <= bytes.len());
            prop_assert!(!are_headers(&bytes) || taken < bytes.len());
        }
    }

    #[test]
    fn only_what_fills_its_place_is_headers() {
        assert!(are_headers(&[0]));
        assert!(are_headers(&[2, 4, b'a', b'b', 1]));
        assert!(!are_headers(&[2, 1, 1]), "a name can't be null");
        assert!(!are_headers(&[2, 4, b'a', b'b', 1, 0]), "something is left");
        assert!(!are_headers(&[4, 4, b'a', b'b', 1]), "something is missing");
        let cut: Vec<_> = headers(&[2, 4, b'a', 0, 2, b'x']).collect();
        assert_eq!(cut, [(&b"a"[..], Some(&b"x"[..]))]);
    }
}
