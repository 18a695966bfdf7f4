//! Masking of what must not be seen by everyone: personal fields, and strings that look like card numbers.
//!
//! Personal fields are known by `"pii": true` in the schemas, and are hidden whole by `json.rs`. Card numbers are
//! found in any text by their form: 13 to 19 digits, together or in the groups that are printed on cards, that
//! pass the Luhn check (ISO/IEC 7812-1). Ids of events, orders and correlations are never changed, as they name
//! things.

use std::borrow::Cow;
use std::ops::Range;

/// What stands in the place of a personal value.
pub(super) const HIDDEN: &str = "***";

/// `text` with card numbers reduced to their last four digits.
pub fn card_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let Some(end) = candidate_end(bytes, at) else {
            at += 1;
            continue;
        };
        for card in cards(text, at..end) {
            let copy = masked.get_or_insert_with(|| bytes.to_vec());
            let digits: Vec<usize> = card.filter(|&i| bytes[i].is_ascii_digit()).collect();
            for &i in &digits[..digits.len() - 4] {
                copy[i] = b'*';
            }
        }
        at = end;
    }
    match masked.map(String::from_utf8) {
        Some(Ok(copy)) => Cow::Owned(copy),
        Some(Err(_)) | None => Cow::Borrowed(text),
    }
}

/// The end of the run of digits and single separators that begins a word at `start`, if one does.
fn candidate_end(bytes: &[u8], start: usize) -> Option<usize> {
    let joined = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b >= 0x80;
    if !bytes[start].is_ascii_digit() || (start > 0 && joined(bytes[start - 1])) {
        return None;
    }
    let mut end = start;
    while end < bytes.len() {
        let separator =
            matches!(bytes[end], b' ' | b'-') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !bytes[end].is_ascii_digit() && !separator {
            break;
        }
        end += 1;
    }
    (end == bytes.len() || !joined(bytes[end])).then_some(end)
}

/// The card numbers in a run of groups of digits. Other numbers may stand before and after them.
fn cards(text: &str, run: Range<usize>) -> Vec<Range<usize>> {
    /// No card is printed in more groups.
    const MOST_GROUPS: usize = 5;
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut start = run.start;
    for group in text[run].split([' ', '-']) {
        groups.push(start..start + group.len());
        start += group.len() + 1;
    }
    let (mut found, mut first) = (Vec::new(), 0);
    while first < groups.len() {
        let longest = MOST_GROUPS.min(groups.len() - first);
        let whole = |count: usize| groups[first].start..groups[first + count - 1].end;
        match (1..=longest)
            .rev()
            .map(|count| (count, whole(count)))
            .find(|(_, card)| looks_like_card(&text[card.clone()]))
        {
            Some((count, card)) => {
                found.push(card);
                first += count;
            }
            None => first += 1,
        }
    }
    found
}

fn looks_like_card(run: &str) -> bool {
    let groups: Vec<&str> = run.split([' ', '-']).collect();
    let lengths: Vec<usize> = groups.iter().map(|g| g.len()).collect();
    let printed =
        matches!(lengths.as_slice(), [13..=19] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4..=5]);
    let digits: Vec<u32> = run.chars().filter_map(|c| c.to_digit(10)).collect();
    printed && matches!(digits.first(), Some(2..=6)) && luhn(&digits)
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |d: u32| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, &d)| if i % 2 == 1 { doubled(d) } else { d }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_keep_their_last_four_digits() {
        for (text, expected) in [
            ("4111111111111111", "************1111"),
            ("paid with 4111 1111 1111 1111, thanks", "paid with **** **** **** 1111, thanks"),
            ("5555-5555-5555-4444.", "****-****-****-4444."),
            ("3782 822463 10005", "**** ****** *0005"),
            ("50 4111 1111 1111 1111", "50 **** **** **** 1111"),
            ("12-2027 4111111111111111 123", "12-2027 ************1111 123"),
            ("4111111111111111 5555 5555 5555 4444", "************1111 **** **** **** 4444"),
            ("two: 4111111111111111 and 5555555555554444", "two: ************1111 and ************4444"),
        ] {
            assert_eq!(card_numbers(text), expected);
        }
    }

    #[test]
    fn other_numbers_and_ids_stay() {
        for text in [
            "4111111111111112",
            "1760000000000",
            "order 12345678",
            "01932345-6789-7123-8456-123456789012",
            "x4111111111111111",
            "4111111111111111é",
            "",
            "Größe 42",
        ] {
            assert_eq!(card_numbers(text), text);
        }
    }
}
