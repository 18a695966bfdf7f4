//! Memory of batches that is used again: a batch costs neither `malloc` nor `free`, and no page that was never touched.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::batch::{Entry, MOST_BYTES, SPARE_BYTES};

/// Lists of one sort that wait to be used again, at most.
const POOLED: usize = 32;

/// The memory of all batches of a member: how much is in use, and what nobody needs any more.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Bytes of buffers that some record has a view of.
    in_use: AtomicUsize,
    pub(super) buffers: Mutex<Vec<Vec<u8>>>,
    pub(super) lists: Mutex<Vec<Vec<Entry>>>,
}

/// A list from those that wait, or a new one.
pub(super) fn take_from<T>(pool: &Mutex<Vec<Vec<T>>>, capacity: usize) -> Vec<T> {
    let pooled = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
    pooled.unwrap_or_else(|| Vec::with_capacity(capacity))
}

/// Keeps the memory of a list, unless it had to grow or enough of them wait.
pub(super) fn give_back<T>(pool: &Mutex<Vec<Vec<T>>>, mut memory: Vec<T>, capacity: usize) {
    memory.clear();
    if (1..=capacity).contains(&memory.capacity()) {
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED {
            pool.push(memory);
        }
    }
}

/// The bytes of a batch, whose buffer goes back when the last record that has a view of it is gone.
pub(super) struct Buffer {
    data: Vec<u8>,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn share(data: Vec<u8>, pool: &Arc<Pool>) -> Bytes {
        pool.in_use.fetch_add(data.capacity(), Ordering::Relaxed);
        Bytes::from_owner(Self { data, pool: Arc::clone(pool) })
    }
}

impl Pool {
    /// Bytes of buffers that some record has a view of.
    pub(super) fn bytes_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.in_use.fetch_sub(self.data.capacity(), Ordering::Relaxed);
        // Those of small batches are of their size.
        if self.data.capacity() >= MOST_BYTES {
            give_back(&self.pool.buffers, std::mem::take(&mut self.data), MOST_BYTES + SPARE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_back_when_the_last_view_of_it_is_gone() {
        let pool = Arc::<Pool>::default();
        let buffers = |pool: &Pool| pool.buffers.lock().expect("no panic").len();
        let mut data = take_from(&pool.buffers, MOST_BYTES + SPARE_BYTES);
        data.extend_from_slice(b"abc");
        let data = Buffer::share(data, &pool);
        assert!(pool.in_use.load(Ordering::Relaxed) >= MOST_BYTES);
        let view = data.slice(1..2);
        drop(data);
        assert_eq!((&view[..], buffers(&pool)), (&b"b"[..], 0));
        drop(view);
        assert_eq!((buffers(&pool), pool.in_use.load(Ordering::Relaxed)), (1, 0));
        assert!(take_from(&pool.buffers, 0).is_empty());
        give_back(&pool.buffers, Vec::with_capacity(MOST_BYTES * 2), MOST_BYTES + SPARE_BYTES);
        assert_eq!(buffers(&pool), 0, "it had grown");
    }
}
