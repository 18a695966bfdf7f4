//! Values that are found by number, without hashing: a number says where its value is, and which one it is.
//!
//! Memory is used again, numbers are not: what holds the number of a value that is gone finds nothing. (A place counts
//! its values up to 2³¹, and then again from 0; nobody holds a number for that long.) Small, as there is one for every
//! parked task: whether a place is taken is told by its count, which takes no byte more.

use std::borrow::Borrow;
use std::marker::PhantomData;

/// Where a value is, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Counts the values of the slot.
    generation: u32,
    slot: u32,
}

impl Key {
    /// Before every other; nothing has it.
    pub(super) const FIRST: Self = Self { generation: 0, slot: 0 };

    /// Where the value is.
    pub(super) fn slot(self) -> u32 {
        self.slot
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// Counts when a value came and when it went: odd while there is one.
    generation: u32,
    /// The value, or the last one.
    value: T,
}

impl<T> Slot<T> {
    fn is_taken(&self) -> bool {
        self.generation % 2 == 1
    }
}

/// Values of one sort, with numbers of their own type.
#[derive(Debug)]
pub(super) struct Slab<K, T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    keys: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), keys: PhantomData }
    }
}

impl<K, T> Slab<K, T> {
    /// What one value takes, in bytes.
    pub(super) const BYTES: usize = size_of::<Slot<T>>();
}

impl<K: From<Key> + Copy, T: Copy> Slab<K, T>
where
    Key: From<K>,
{
    /// Keeps a value.
    pub(super) fn insert(&mut self, value: T) -> K {
        if let Some(slot) = self.free.pop() {
            let found = &mut self.slots[slot as usize];
            *found = Slot { generation: found.generation.wrapping_add(1), value };
            return Key { generation: found.generation, slot }.into();
        }
        self.slots.push(Slot { generation: 1, value });
        // Four thousand million values don't fit into memory.
        Key { generation: 1, slot: u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX) }.into()
    }

    /// The value of a number, as long as it is kept.
    #[inline]
    pub(super) fn get(&self, key: impl Borrow<K>) -> Option<&T> {
        let key = Key::from(*key.borrow());
        let slot = self.slots.get(key.slot as usize)?;
        (slot.generation == key.generation).then_some(&slot.value)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, key: impl Borrow<K>) -> Option<&mut T> {
        let key = Key::from(*key.borrow());
        let slot = self.slots.get_mut(key.slot as usize)?;
        (slot.generation == key.generation).then_some(&mut slot.value)
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: impl Borrow<K>) -> Option<T> {
        let key = Key::from(*key.borrow());
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(slot.value)
    }

    /// The number of what is in a slot now.
    #[inline]
    pub(super) fn key_at(&self, slot: u32) -> Option<K> {
        let found = self.slots.get(slot as usize)?;
        found.is_taken().then(|| Key { generation: found.generation, slot }.into())
    }

    /// What is in a slot now.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize).filter(|found| found.is_taken()).map(|found| &found.value)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize).filter(|found| found.is_taken()).map(|found| &mut found.value)
    }

    /// Makes room for so many values more.
    pub(super) fn reserve(&mut self, values: usize) {
        self.slots.reserve(values.saturating_sub(self.free.len()));
    }

    /// How many values are kept.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots, those without a value too.
    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// All values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        let taken = (0_u32..).zip(&self.slots).filter(|(_, found)| found.is_taken());
        taken.map(|(slot, found)| (Key { generation: found.generation, slot }.into(), &found.value))
    }
}

#[cfg(test)]
impl<K, T> Slab<K, T> {
    /// Bytes of all that was allocated.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.slots.capacity() * Self::BYTES + self.free.capacity() * size_of::<u32>()
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
        assert_eq!((slab.at(first.slot), slab.key_at(first.slot)), (None, None));
        let third = slab.insert("third");
        assert_eq!(third.slot, first.slot);
        assert_eq!((slab.get(first), slab.get(third), slab.len()), (None, Some(&"third"), 2));
        assert_eq!((slab.at(first.slot), slab.key_at(first.slot)), (Some(&"third"), Some(third)));
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get(Key::FIRST), None, "nothing has that number");
        assert_eq!(slab.remove(Key::FIRST), None);
        assert_eq!(slab.slots(), 0..2);
        let all: Vec<_> = slab.iter().collect();
        assert_eq!(all, [(third, &"third"), (second, &"second")]);
    }
}
