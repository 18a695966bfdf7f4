//! Targets by name, found by where their name lies in memory first: a stage hands in the same copy again and again, and
//! hashing names several times for each record would be a tenth of the engine's work. Pure.

use std::sync::Arc;

use hashbrown::HashMap;

/// Hints: two to the power of eight.
const HINT_BITS: u32 = 8;
const HINTS: usize = 1 << HINT_BITS;

/// By the address of a name: the number that it was given last. Who has the number says whether that holds still.
#[derive(Debug)]
pub(super) struct Hints(Box<[u32; HINTS]>);

impl Default for Hints {
    fn default() -> Self {
        Self(Box::new([0; HINTS]))
    }
}

impl Hints {
    #[inline]
    pub(super) fn get(&self, name: &str, of: i32) -> usize {
        self.0[Self::place(name, of)] as usize
    }

    pub(super) fn set(&mut self, name: &str, of: i32, number: u32) {
        self.0[Self::place(name, of)] = number;
    }

    fn place(name: &str, of: i32) -> usize {
        // Fibonacci hashing: names lie at multiples of sixteen, often side by side.
        let key = (name.as_ptr().addr() as u64).wrapping_add(u64::from(of.unsigned_abs()));
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - HINT_BITS)) as usize
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Found<T> {
    slots: Vec<Option<(Arc<str>, T)>>,
    free: Vec<usize>,
    numbers: HashMap<Arc<str>, usize>,
    hints: Hints,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), numbers: HashMap::new(), hints: Hints::default() }
    }
}

impl<T> Found<T> {
    #[inline]
    fn find(&self, name: &str) -> Option<usize> {
        let hint = self.hints.get(name, 0);
        match self.slots.get(hint) {
            // A slot keeps its name alive, so that no other one lies there.
            Some(Some((known, _))) if std::ptr::eq(&**known, name) => Some(hint),
            Some(_) | None => self.numbers.get(name).copied(),
        }
    }

    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        if self.numbers.is_empty() {
            return None;
        }
        self.slots.get(self.find(name)?)?.as_ref().map(|(_, value)| value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let at = self.find(name)?;
        self.slots.get_mut(at)?.as_mut().map(|(_, value)| value)
    }

    /// What is kept under that name, made if there is nothing.
    #[inline]
    pub(super) fn get_or_make(&mut self, name: &Arc<str>) -> &mut T
    where
        T: Default,
    {
        let at = match self.find(name) {
            Some(at) => at,
            None => {
                let at = self.free.pop().unwrap_or(self.slots.len());
                self.numbers.insert(Arc::clone(name), at);
                if at == self.slots.len() {
                    self.slots.push(None);
                }
                at
            }
        };
        let (known, value) = self.slots[at].get_or_insert_with(|| (Arc::clone(name), T::default()));
        // The copy that was handed in last is the one that comes again. A target beyond that number is found by its name.
        if self.hints.get(name, 0) != at || !Arc::ptr_eq(known, name) {
            self.hints.set(name, 0, u32::try_from(at).unwrap_or(u32::MAX));
            known.clone_from(name);
        }
        value
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(at) = self.numbers.remove(name) {
            self.slots[at] = None;
            self.free.push(at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.slots.iter().flatten().map(|(name, value)| (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_of_a_name_finds_the_same_and_what_was_removed_is_gone() {
        let mut found = Found::<u32>::default();
        let names: Vec<Arc<str>> = (0..HINTS * 3).map(|number| Arc::from(format!("t{number}"))).collect();
        for (number, name) in (0..).zip(&names) {
            *found.get_or_make(name) = number;
        }
        for (number, name) in (0..).zip(&names) {
            // Another copy of the name lies at another address.
            let copy: Arc<str> = Arc::from(&**name);
            assert_eq!((found.get(name), found.get(&copy)), (Some(&number), Some(&number)));
            *found.get_or_make(&copy) += 1;
            assert_eq!(found.get_mut(name), Some(&mut (number + 1)));
        }
        assert_eq!(found.iter().count(), names.len());
        found.remove(&Arc::<str>::from(&*names[7]));
        assert_eq!((found.get(&names[7]), found.iter().count()), (None, names.len() - 1));
        *found.get_or_make(&Arc::from("another")) = 99;
        assert_eq!((found.get(&names[7]), found.slots.len()), (None, names.len()), "its slot is used again");
    }
}
