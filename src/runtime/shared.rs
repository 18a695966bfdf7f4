//! A value with one owner, or several: what has one owner costs no allocation.
//!
//! Most records open one task that ends at once; only those of several tasks, and those that wait, are shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Read like a reference; see the module.
pub struct Shared<T>(Holding<T>);

enum Holding<T> {
    Alone(T),
    Together(Arc<T>),
}

impl<T> Shared<T> {
    /// The value, to be changed, if it has one owner.
    pub(crate) fn alone(&mut self) -> Option<&mut T> {
        match &mut self.0 {
            Holding::Alone(value) => Some(value),
            Holding::Together(_) => None,
        }
    }

    /// Makes it shareable: allocates when it had one owner.
    pub(crate) fn into_arc(self) -> Arc<T> {
        match self.0 {
            Holding::Alone(value) => Arc::new(value),
            Holding::Together(shared) => shared,
        }
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Holding::Alone(value))
    }
}

impl<T> From<Arc<T>> for Shared<T> {
    fn from(shared: Arc<T>) -> Self {
        Self(Holding::Together(shared))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Holding::Alone(value) => value,
            Holding::Together(shared) => shared,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_what_is_shared_already_allocates_nothing_new() {
        let shared: Arc<i32> = Arc::new(7);
        assert!(Arc::ptr_eq(&shared, &Shared::<i32>::from(Arc::clone(&shared)).into_arc()));
        assert_eq!(*Shared::<i32>::from(8).into_arc(), 8);
    }
}
