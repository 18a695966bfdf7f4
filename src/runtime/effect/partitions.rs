//! The partitions that a member owns, found by their number without a search: every record asks several times.
//!
//! To the rest it looks like a map ordered by number. Memory is a pointer for each number up to the highest one owned.

use super::partition::Partition;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// By number.
    slots: Vec<Option<Box<(i32, Partition)>>>,
}

impl Partitions {
    /// Takes a partition in, in place of what had its number.
    pub(super) fn insert(&mut self, number: i32, partition: Partition) {
        // Kafka numbers partitions from 0.
        let Ok(at) = usize::try_from(number) else { return };
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(Box::new((number, partition)));
    }

    pub(super) fn remove(&mut self, number: &i32) -> Option<Partition> {
        let slot = usize::try_from(*number).ok().and_then(|at| self.slots.get_mut(at))?;
        slot.take().map(|owned| owned.1)
    }

    #[inline]
    pub(super) fn get(&self, number: &i32) -> Option<&Partition> {
        let slot = usize::try_from(*number).ok().and_then(|at| self.slots.get(at))?;
        slot.as_deref().map(|(_, owned)| owned)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: &i32) -> Option<&mut Partition> {
        let slot = usize::try_from(*number).ok().and_then(|at| self.slots.get_mut(at))?;
        slot.as_deref_mut().map(|(_, owned)| owned)
    }

    pub(super) fn contains_key(&self, number: &i32) -> bool {
        self.get(number).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// The first number behind `number` that there is.
    pub(super) fn next_after(&self, number: Option<i32>) -> Option<i32> {
        let from = number.map_or(0, |number| usize::try_from(number).map_or(0, |at| at + 1));
        self.slots.get(from..)?.iter().flatten().next().map(|slot| slot.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&i32, &Partition)> {
        self.slots.iter().flatten().map(|slot| (&slot.0, &slot.1))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&i32, &mut Partition)> {
        self.slots.iter_mut().flatten().map(|slot| (&slot.0, &mut slot.1))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &i32> {
        self.iter().map(|(number, _)| number)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Partition> {
        self.iter().map(|(_, owned)| owned)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.iter_mut().map(|(_, owned)| owned)
    }
}
