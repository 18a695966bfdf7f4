//! Work that waits for something: futures in slots, polled by the engine itself when they are woken.
//!
//! Nothing is spawned for an attempt. A future is polled once where it is started; only one that isn't ready then
//! keeps its slot. Slots are used again with their memory and their waker, so that starting work that ends at once
//! allocates nothing.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio_util::sync::ReusableBoxFuture;

/// Sorts of futures, each of one layout: a slot is used again for its own sort only.
const POOLS: usize = 4;

/// Which slots are to be polled. Wakers on any thread tell it.
#[derive(Debug, Default)]
struct Signal {
    woken: Mutex<Vec<usize>>,
    engine: AtomicWaker,
}

#[derive(Debug)]
struct SlotWaker {
    slot: usize,
    told: AtomicBool,
    signal: Arc<Signal>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.told.swap(true, Ordering::AcqRel) {
            self.signal.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
            self.signal.engine.wake();
        }
    }
}

/// Kinds of work that know the pool of their futures, below [`POOLS`].
pub(super) trait Pooled: Copy {
    /// The pool.
    fn pool(self) -> usize;
}

/// What a future in a slot is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<K> {
    /// Whose it is.
    pub(super) partition: i32,
    /// Of which assignment.
    pub(super) generation: u64,
    /// What it does.
    pub(super) kind: K,
}

struct Slot<K, T> {
    future: ReusableBoxFuture<'static, T>,
    told: Arc<SlotWaker>,
    waker: Waker,
    /// `None` while the slot is free.
    label: Option<(Label<K>, Instant)>,
    pool: usize,
}

/// The slots.
pub(super) struct Running<K, T> {
    slots: Vec<Slot<K, T>>,
    /// Free slots by the layout of what they held.
    free: [Vec<usize>; POOLS],
    signal: Arc<Signal>,
    /// Slots that are being polled; kept for its memory.
    turn: Vec<usize>,
    /// The time of the last start that had to be known.
    now: Instant,
}

impl<K: Pooled, T: Send + 'static> Running<K, T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Default::default(),
            signal: Arc::default(),
            turn: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Polls `future` once. What is ready is answered; else it keeps a slot, whose number is.
    #[inline]
    pub(super) fn start(
        &mut self,
        label: Label<K>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, usize> {
        let at = self.place(label, future);
        let slot = &mut self.slots[at];
        match slot.future.poll(&mut Context::from_waker(&slot.waker)) {
            Poll::Ready(done) => {
                slot.label = None;
                self.free[slot.pool].push(at);
                Ok(done)
            }
            Poll::Pending => {
                slot.label = Some((label, Instant::now()));
                Err(at)
            }
        }
    }

    /// Keeps `future` in a slot, to be polled with those that are woken.
    pub(super) fn keep(&mut self, label: Label<K>, future: impl Future<Output = T> + Send + 'static) {
        self.now = Instant::now();
        let at = self.place(label, future);
        self.slots[at].waker.wake_by_ref();
    }

    #[inline]
    fn place(&mut self, label: Label<K>, future: impl Future<Output = T> + Send + 'static) -> usize {
        let pool = label.kind.pool();
        let label = Some((label, self.now));
        if let Some(at) = self.free[pool].pop() {
            let slot = &mut self.slots[at];
            slot.future.set(future);
            slot.label = label;
            return at;
        }
        let at = self.slots.len();
        let told =
            Arc::new(SlotWaker { slot: at, told: AtomicBool::new(false), signal: Arc::clone(&self.signal) });
        let waker = Waker::from(Arc::clone(&told));
        self.slots.push(Slot { future: ReusableBoxFuture::new(future), told, waker, label, pool });
        at
    }

    /// Says anew what a slot is for.
    pub(super) fn relabel(&mut self, at: usize, kind: K) {
        if let Some((label, _)) = self.slots.get_mut(at).and_then(|slot| slot.label.as_mut()) {
            label.kind = kind;
        }
    }

    /// Polls what was woken; hands what is done to `done`, with its label and when it was started.
    pub(super) fn turn(&mut self, done: &mut Vec<(Label<K>, Instant, T)>) {
        std::mem::swap(
            &mut self.turn,
            &mut *self.signal.woken.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for at in self.turn.drain(..) {
            let slot = &mut self.slots[at];
            slot.told.told.store(false, Ordering::Release);
            // A free slot was woken by what it held before.
            let Some((label, began)) = slot.label else { continue };
            if let Poll::Ready(output) = slot.future.poll(&mut Context::from_waker(&slot.waker)) {
                slot.label = None;
                self.free[slot.pool].push(at);
                done.push((label, began, output));
            }
        }
    }

    /// Waits until something is woken.
    pub(super) fn woken(&self) -> impl Future<Output = ()> + use<K, T> {
        let signal = Arc::clone(&self.signal);
        std::future::poll_fn(move |context| {
            signal.engine.register(context.waker());
            let none = signal.woken.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            if none { Poll::Pending } else { Poll::Ready(()) }
        })
    }

    /// Cuts off what runs of a partition.
    pub(super) fn cut(&mut self, partition: i32) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if slot.label.as_ref().is_some_and(|(label, _)| label.partition == partition) {
                slot.label = None;
                // Dropped now, not when the slot is used again.
                slot.future = ReusableBoxFuture::new(std::future::pending());
                self.free[slot.pool].push(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    impl Pooled for u8 {
        fn pool(self) -> usize {
            usize::from(self)
        }
    }

    fn label(partition: i32) -> Label<u8> {
        Label { partition, generation: 1, kind: 0 }
    }

    fn turn(running: &mut Running<u8, u32>) -> Vec<(i32, u32)> {
        let mut done = Vec::new();
        running.turn(&mut done);
        done.into_iter().map(|(label, _, output)| (label.partition, output)).collect()
    }

    #[tokio::test]
    async fn what_is_ready_needs_no_slot_and_what_waits_is_polled_when_woken() {
        let mut running = Running::new();
        assert_eq!(running.start(label(0), async { 7 }), Ok(7));
        let (send, receive) = oneshot::channel();
        assert_eq!(running.start(label(1), async { receive.await.unwrap_or(0) }), Err(0), "the same slot");
        assert_eq!(turn(&mut running), []);
        send.send(8).expect("it waits");
        running.woken().await;
        assert_eq!(turn(&mut running), [(1, 8)]);
        running.keep(label(2), async { 9 });
        running.woken().await;
        assert_eq!(turn(&mut running), [(2, 9)]);
    }

    #[tokio::test]
    async fn what_is_cut_off_is_dropped_at_once_and_never_ends() {
        let mut running: Running<u8, u32> = Running::new();
        let (send, receive) = oneshot::channel::<u32>();
        assert!(running.start(label(1), async { receive.await.unwrap_or(0) }).is_err());
        running.cut(1);
        assert!(send.is_closed());
        assert_eq!(turn(&mut running), []);
        assert_eq!(running.start(label(2), async { 3 }), Ok(3));
    }
}
