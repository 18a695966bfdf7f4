//! The headers of a record, left where they lie.
//!
//! A record that is read brings half a dozen of them, of which the engine and a stage look at two or three. So nothing is made
//! of them when it is read: they are one view of its batch, in the form in which they came, and looked through when somebody
//! asks. Headers that are changed are written into a buffer of their own.

pub(crate) mod format;

use std::fmt;

use bytes::Bytes;

use self::format::{Pair, named};

/// The headers of a record, in the order in which they were written; a name may occur more than once.
#[derive(Clone, Default)]
pub struct Headers {
    pairs: Pairs,
    /// What they count in memory. Those of a record that was read count what they take in its batch, so that as much is let
    /// go as was taken up.
    bytes: usize,
}

#[derive(Clone)]
enum Pairs {
    /// In the buffer of the record.
    Read(Bytes),
    Written(Vec<u8>),
}

impl Default for Pairs {
    fn default() -> Self {
        Self::Written(Vec::new())
    }
}

impl Pairs {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Written(bytes) => bytes,
        }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl Headers {
    /// Headers made of `pairs`, in that order.
    pub fn new(pairs: Vec<(String, Option<Bytes>)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.put(&name, value.as_deref());
        }
        headers
    }

    /// Headers that were read and lie in `pairs` one behind the other, of which a batch holds so many bytes.
    pub(crate) fn read(pairs: Bytes, bytes: usize) -> Self {
        Self { pairs: Pairs::Read(pairs), bytes }
    }

    /// The value of the last header called `name`, as Kafka's own clients read it; a null value is `None`.
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        for (key, value) in self.pairs() {
            let rest = key.strip_prefix(name.as_bytes());
            if rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0)) {
                found = value;
            }
        }
        found
    }

    /// The value of the last header called `name` when it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.last(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) {
        self.put(name.as_ref(), Some(value.as_ref()));
    }

    /// Keeps only the headers for whose name `keep` answers true, and of those with no name in UTF-8 none, which is logged.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let room = Vec::with_capacity(self.pairs.as_slice().len());
        let mut kept = Self { pairs: Pairs::Written(room), bytes: 0 };
        for (name, value) in self.pairs() {
            match std::str::from_utf8(named(name)) {
                Ok(name) if keep(name) => kept.put(name, value),
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!("a header whose name is not UTF-8 was left out of a copy of its record")
                }
            }
        }
        *self = kept;
    }

    /// All headers in order. One whose name isn't UTF-8 is left out.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.pairs().filter_map(|(name, value)| Some((std::str::from_utf8(named(name)).ok()?, value)))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// What they count in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As they lie.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.pairs.as_slice()
    }

    /// The same headers, which lie in `pairs`.
    pub(super) fn moved(&self, pairs: Bytes) -> Self {
        Self::read(pairs, self.bytes)
    }

    fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        format::pairs(self.pairs.as_slice())
    }

    fn put(&mut self, name: &str, value: Option<&[u8]>) {
        /// Two lengths, generously.
        const LENGTHS: usize = 8;
        let mut written = match std::mem::take(&mut self.pairs) {
            Pairs::Read(read) => read.to_vec(),
            Pairs::Written(written) => written,
        };
        format::put(&mut written, name.as_bytes(), value);
        self.pairs = Pairs::Written(written);
        self.bytes += name.len() + value.map_or(0, <[u8]>::len) + LENGTHS;
    }
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(pairs: Vec<(String, Vec<u8>)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in &pairs {
            headers.put(name, Some(value));
        }
        headers
    }
}

impl fmt::Debug for Headers {
    /// Names only: values may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Written = Vec<(String, Option<Vec<u8>>)>;

    fn lying(pairs: &Written) -> Bytes {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            format::put(&mut bytes, name.as_bytes(), value.as_deref());
        }
        bytes.into()
    }

    fn all(headers: &Headers) -> Written {
        headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
    }

    proptest! {
        /// Those that lie in a batch and those that were written are the same to whoever asks, whatever is done with them.
        #[test]
        fn headers_are_what_was_written(
            mut pairs in prop::collection::vec(("[abc]{0,2}", prop::option::of(prop::collection::vec(any::<u8>(), 0..90))), 0..9),
            name in "[abc]{0,2}",
        ) {
            let owned = pairs.iter().map(|(name, value)| (name.clone(), value.clone().map(Bytes::from)));
            let mut read = Headers::read(lying(&pairs), 7);
            prop_assert_eq!(&read, &Headers::new(owned.collect()));
            prop_assert_eq!((all(&read), read.len(), read.is_empty()), (pairs.clone(), pairs.len(), pairs.is_empty()));
            let last = pairs.iter().rev().find(|(key, _)| *key == name).and_then(|(_, value)| value.as_deref());
            prop_assert_eq!(read.last(&name), last);
            read.push(&name, "new");
            prop_assert_eq!((read.text(&name), read.bytes()), (Some("new"), 7 + name.len() + 3 + 8));
            read.retain(|other| other != name);
            pairs.retain(|(other, _)| *other != name);
            let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 8).sum();
            prop_assert_eq!((all(&read), read.bytes()), (pairs, bytes));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let headers = Headers::read(bytes.into(), 0);
            prop_assert!(headers.iter().count() <= headers.as_slice().len());
        }
    }

    #[test]
    fn a_name_ends_at_a_zero_byte_and_one_that_is_not_text_is_left_out() {
        let mut bytes = Vec::new();
        format::put(&mut bytes, b"a\0b", Some(b"1"));
        format::put(&mut bytes, b"\xff", Some(b"2"));
        format::put(&mut bytes, b"ab", Some(b"3"));
        let headers = Headers::read(bytes.into(), 0);
        let found: Vec<_> = headers.iter().collect();
        assert_eq!(found, [("a", Some(&b"1"[..])), ("ab", Some(&b"3"[..]))]);
        assert_eq!((headers.text("a"), headers.text("ab"), headers.len()), (Some("1"), Some("3"), 2));
    }
}
