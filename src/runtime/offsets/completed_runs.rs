//! The map of completed offsets above the watermark, as it travels in a commit's metadata.
//!
//! With it a restart repeats only what was truly unfinished. Metadata that is foreign, corrupt, of another version or
//! of another base is ignored: the watermark is the truth.
//!
//! Format, version 1, as text: base64 (RFC 4648, standard alphabet, no padding) of
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, `0x01` |
//! | varint | base offset: the committed offset, which is open |
//! | varint | generation: of the source, the assignment that wrote it; of the retry topic, the last marker below the base |
//! | varint, varint | for each run in ascending order: open offsets since the former run's end (the first: since the base), then completed offsets; both at least 1 |
//! | 4 | CRC-32 (ISO-HDLC, as in zlib) of all bytes before, big-endian |
//!
//! Varints are unsigned LEB128 of at most ten bytes. `vectors.json` beside this file holds examples for other languages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What the broker accepts as metadata by default (`offset.metadata.max.bytes`), in characters.
pub(crate) const MOST_CHARACTERS: usize = 4096;
/// Bytes that fit into [`MOST_CHARACTERS`] of unpadded base64.
pub(crate) const MOST_BYTES: usize = MOST_CHARACTERS / 4 * 3;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A map as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompletedRuns {
    /// The committed offset that it belongs to.
    pub(crate) base: i64,
    /// See the module.
    pub(crate) generation: u64,
    /// First offset and offset behind the last of each run: ascending, never touching each other or the base.
    pub(crate) runs: Vec<(i64, i64)>,
}

/// Bytes, before base64, of a map whose runs take `runs` bytes together.
pub(crate) fn map_bytes(base: i64, generation: u64, runs: usize) -> usize {
    1 + varint_bytes(base.unsigned_abs()) + varint_bytes(generation) + runs + CHECKSUM_BYTES
}

/// Bytes of one run that begins `open` offsets behind the former one's end and has `completed` offsets.
pub(crate) fn run_bytes(open: i64, completed: i64) -> usize {
    varint_bytes(open.unsigned_abs()) + varint_bytes(completed.unsigned_abs())
}

/// Characters of `bytes` bytes in unpadded base64.
pub(crate) fn characters(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Writes the lowest of `runs` that fit. They ascend, lie above `base`, and never touch each other or `base`.
pub(crate) fn encode(base: i64, generation: u64, runs: impl Iterator<Item = (i64, i64)>) -> String {
    let mut bytes = vec![VERSION];
    put_varint(&mut bytes, base.unsigned_abs());
    put_varint(&mut bytes, generation);
    let mut end = base;
    for (first, behind) in runs {
        if bytes.len() + run_bytes(first - end, behind - first) + CHECKSUM_BYTES > MOST_BYTES {
            break;
        }
        put_varint(&mut bytes, (first - end).unsigned_abs());
        put_varint(&mut bytes, (behind - first).unsigned_abs());
        end = behind;
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    STANDARD_NO_PAD.encode(&bytes)
}

/// Reads what [`encode`] wrote; anything else is `None`.
pub(crate) fn decode(text: &str) -> Option<CompletedRuns> {
    if text.len() > MOST_CHARACTERS {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(text).ok()?;
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let mut rest = body.strip_prefix(&[VERSION])?;
    let base = i64::try_from(take_varint(&mut rest)?).ok()?;
    let generation = take_varint(&mut rest)?;
    let (mut runs, mut end) = (Vec::new(), base);
    while !rest.is_empty() {
        let (open, completed) = (take_varint(&mut rest)?, take_varint(&mut rest)?);
        if open == 0 || completed == 0 {
            return None;
        }
        let first = end.checked_add_unsigned(open)?;
        end = first.checked_add_unsigned(completed)?;
        runs.push((first, end));
    }
    Some(CompletedRuns { base, generation, runs })
}

fn varint_bytes(value: u64) -> usize {
    (64 - value.leading_zeros()).max(1).div_ceil(7) as usize
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        maps: Vec<Map>,
        ignored: Vec<Ignored>,
    }

    #[derive(Deserialize)]
    struct Map {
        base: i64,
        generation: u64,
        runs: Vec<(i64, i64)>,
        text: String,
    }

    #[derive(Deserialize)]
    struct Ignored {
        why: String,
        text: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("vectors.json")).expect("well-formed")
    }

    #[test]
    fn the_vectors_for_other_languages_hold_both_ways() {
        for Map { base, generation, runs, text } in vectors().maps {
            assert_eq!(encode(base, generation, runs.iter().copied()), text, "base {base}");
            assert_eq!(decode(&text), Some(CompletedRuns { base, generation, runs }));
        }
    }

    #[test]
    fn metadata_that_is_not_ours_is_ignored() {
        for Ignored { why, text } in vectors().ignored {
            assert_eq!(decode(&text), None, "{why}");
        }
    }

    #[test]
    fn a_map_that_is_too_large_keeps_its_lowest_runs_and_fits_the_broker() {
        let runs = (0..5_000).map(|at| (10 + 2 * at, 11 + 2 * at));
        let text = encode(9, 3, runs.clone());
        assert!(text.len() <= MOST_CHARACTERS, "{}", text.len());
        let read = decode(&text).expect("ours");
        assert!(read.runs.len() > 1_500, "{}", read.runs.len());
        assert!(read.runs.iter().copied().eq(runs.take(read.runs.len())));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_its_size_was_known(
            base in 0_i64..1 << 50,
            generation: u64,
            steps in prop::collection::vec((1_i64..1 << 33, 1_i64..1 << 33), 0..200),
        ) {
            let (mut end, mut runs, mut bytes) = (base, Vec::new(), 0);
            for (open, completed) in steps {
                runs.push((end + open, end + open + completed));
                bytes += run_bytes(open, completed);
                end += open + completed;
            }
            let text = encode(base, generation, runs.iter().copied());
            prop_assert_eq!(text.len(), characters(map_bytes(base, generation, bytes)));
            prop_assert_eq!(decode(&text), Some(CompletedRuns { base, generation, runs }));
        }

        #[test]
        fn any_text_is_read_or_ignored(text in "[A-Za-z0-9+/]{0,80}", flip in 0_usize..40) {
            let _ = decode(&text);
            let mut written = encode(7, 1, [(9, 12), (20, 21)].into_iter()).into_bytes();
            let at = flip % written.len();
            written[at] = if written[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(decode(&String::from_utf8(written).expect("text")), None);
        }
    }
}
