//! How headers lie in memory: name and value one behind the other, as Kafka's record format 2 (KIP-98) has them. Pure.
//!
//! ```text
//! name's length  name  value's length (−1: null)  value
//! varint               varint
//! ```

/// Bytes of a varint of 64 bits, at most.
pub(crate) const LONGEST: usize = 10;

/// A name, and its value.
pub(crate) type Pair<'h> = (&'h [u8], Option<&'h [u8]>);

/// Takes the first header off; `None` when there is none, or none that is whole.
#[inline]
pub(crate) fn take<'h>(rest: &mut &'h [u8]) -> Option<Pair<'h>> {
    let mut bytes = || match varint(rest)? {
        -1 => Some(None),
        length => rest.split_off(..usize::try_from(length).ok()?).map(Some),
    };
    Some((bytes()??, bytes()?))
}

/// Those that lie in `bytes`, in order, as far as they are whole.
pub(crate) fn pairs(bytes: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || take(&mut rest))
}

/// The part of a name that counts: it ends at a zero byte, as for librdkafka, which could not send more of it.
#[inline]
pub(crate) fn named(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    &name[..end]
}

/// Writes a header.
pub(crate) fn put(bytes: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    for part in [Some(name), value] {
        put_varint(bytes, part.map_or(Ok(-1), |part| i64::try_from(part.len())).unwrap_or(-1));
        bytes.extend_from_slice(part.unwrap_or_default());
    }
}

/// Takes a varint off.
#[inline]
pub(crate) fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0_u64;
    for nth in 0..LONGEST {
        let byte = *rest.split_off_first()?;
        zigzag |= u64::from(byte & 0x7f) << (7 * nth);
        if byte < 0x80 {
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

/// Writes a varint.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, number: i64) {
    let (written, count) = varint_of(number);
    bytes.extend_from_slice(&written[..count]);
}

/// A number as a varint: its bytes, and how many.
pub(crate) fn varint_of(number: i64) -> ([u8; LONGEST], usize) {
    let (mut zigzag, mut bytes, mut count) = ((number << 1 ^ number >> 63) as u64, [0; LONGEST], 0);
    loop {
        bytes[count] = (zigzag & 0x7f) as u8 | if zigzag < 0x80 { 0 } else { 0x80 };
        count += 1;
        zigzag >>= 7;
        if zigzag == 0 {
            return (bytes, count);
        }
    }
}
