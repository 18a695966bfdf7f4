//! Header maps to be used again: one for each request under way, of some kilobytes, would be the largest thing that a
//! request allocates. What was in them is gone before they are kept.

use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderMap;

use crate::stages::webhook::headers::OURS;

/// Maps that are kept.
const MOST: usize = 64;

/// A map that grew beyond this, by an answer with many headers, isn't kept.
const LARGEST: usize = 64;

/// Header maps without headers.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<HeaderMap>>);

impl Spare {
    /// An empty map with room for a request's headers.
    pub(super) fn take(&self) -> HeaderMap {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| HeaderMap::with_capacity(OURS))
    }

    /// Keeps `map`, emptied, for another request.
    pub(super) fn keep(&self, mut map: HeaderMap) {
        if map.capacity() > LARGEST {
            return;
        }
        map.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HOST, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_map_comes_back_empty() {
        let spare = Spare::default();
        let mut map = spare.take();
        map.insert(HOST, HeaderValue::from_static("somewhere.example"));
        map.append(HOST, HeaderValue::from_static("elsewhere.example"));
        spare.keep(map);
        let map = spare.take();
        assert!(map.is_empty() && map.get(HOST).is_none() && map.capacity() >= OURS);
    }

    #[test]
    fn few_and_small_ones_are_kept() {
        let spare = Spare::default();
        (0..=MOST).for_each(|_| spare.keep(HeaderMap::with_capacity(OURS)));
        assert_eq!(spare.0.lock().unwrap().len(), MOST);
        let spare = Spare::default();
        let mut large = HeaderMap::new();
        for number in 0..=2 * LARGEST {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            large.insert(name, HeaderValue::from_static("x"));
        }
        spare.keep(large);
        assert!(spare.0.lock().unwrap().is_empty());
    }
}
