//! Values that are found by number, without hashing: a number says where its value is, and which one it is.
//!
//! Memory is used again, numbers never are: what holds the number of a value that is gone finds nothing. Numbers order
//! values by age.

use std::borrow::Borrow;
use std::marker::PhantomData;

/// Where a value is, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Counts the values.
    serial: u64,
    slot: u32,
}

impl Key {
    /// Before every other.
    pub(super) const FIRST: Self = Self { serial: 0, slot: 0 };
}

/// Values of one sort, with numbers of their own type.
#[derive(Debug)]
pub(super) struct Slab<K, T> {
    slots: Vec<(u64, Option<T>)>,
    free: Vec<u32>,
    values: u64,
    keys: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), values: 0, keys: PhantomData }
    }
}

impl<K: From<Key> + Copy, T> Slab<K, T>
where
    Key: From<K>,
{
    /// Keeps a value.
    pub(super) fn insert(&mut self, value: T) -> K {
        self.values += 1;
        let serial = self.values;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = (serial, Some(value));
                slot
            }
            None => {
                self.slots.push((serial, Some(value)));
                // Four thousand million values don't fit into memory.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Key { serial, slot }.into()
    }

    /// The value of a number, as long as it is kept.
    #[inline]
    pub(super) fn get(&self, key: impl Borrow<K>) -> Option<&T> {
        let key = Key::from(*key.borrow());
        let (serial, value) = self.slots.get(key.slot as usize)?;
        value.as_ref().filter(|_| *serial == key.serial)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, key: impl Borrow<K>) -> Option<&mut T> {
        let key = Key::from(*key.borrow());
        let (serial, value) = self.slots.get_mut(key.slot as usize)?;
        value.as_mut().filter(|_| *serial == key.serial)
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: impl Borrow<K>) -> Option<T> {
        let key = Key::from(*key.borrow());
        let (serial, value) = self.slots.get_mut(key.slot as usize)?;
        let taken = if *serial == key.serial { value.take() } else { None };
        if taken.is_some() {
            self.free.push(key.slot);
        }
        taken
    }

    /// How many values are kept.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        (0_u32..).zip(&self.slots).filter_map(|(slot, (serial, value))| {
            Some((Key { serial: *serial, slot }.into(), value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_the_number_of_what_was_there_finds_nothing() {
        let mut slab = Slab::<Key, &str>::default();
        let (first, second) = (slab.insert("first"), slab.insert("second"));
        assert_eq!(slab.remove(first), Some("first"));
        assert_eq!(slab.remove(first), None);
        let third = slab.insert("third");
        assert_eq!(third.slot, first.slot);
        assert_eq!((slab.get(first), slab.get(third), slab.len()), (None, Some(&"third"), 2));
        assert!(second < third, "by age");
        let all: Vec<_> = slab.iter().collect();
        assert_eq!(all, [(third, &"third"), (second, &"second")]);
    }
}
