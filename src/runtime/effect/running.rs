//! Work that waits for something: futures in slots, polled by the engine itself when they are woken.
//!
//! Nothing is spawned for an attempt. A future is polled once where it is started; only one that isn't ready then
//! keeps its slot. Slots are used again with their memory and their waker, so that starting work that ends at once
//! allocates nothing. Attempts, of which there is one for every task, have [`Places`]; everything else is boxed.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio_util::sync::ReusableBoxFuture;

use super::places::Places;

/// Sorts of boxed futures, each of one layout: a slot is used again for its own sort only.
const POOLS: usize = 5;
/// Attempts that wait and share one look at the clock for when they began.
const GLANCES: u32 = 8;
/// Slots that are polled one after the other before what ended is dealt with.
const TOGETHER: usize = 32;
/// The slots of attempts.
const ATTEMPTS: usize = 0;

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
            let mut woken = self.signal.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.push(self.slot);
            let first = woken.len() == 1;
            drop(woken);
            // The others come with the first.
            if first {
                self.signal.engine.wake();
            }
        }
    }
}

/// Kinds of work that know the pool of their futures: above 0, which is that of attempts, and below [`POOLS`].
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
    work: Work<T>,
    told: Arc<SlotWaker>,
    waker: Waker,
    /// `None` while the slot is free.
    label: Option<(Label<K>, Instant)>,
    pool: usize,
}

/// Where the future of a slot is.
enum Work<T> {
    /// In the place of that number.
    Place(usize),
    /// Here.
    Boxed(ReusableBoxFuture<'static, T>),
}

/// The slots; `J` is what an attempt is made of.
pub(super) struct Running<K, J, T> {
    slots: Vec<Slot<K, T>>,
    attempts: Box<dyn Places<J, T>>,
    /// Places that were given out.
    places: usize,
    /// Free slots by the layout of what they held.
    free: [Vec<usize>; POOLS],
    signal: Arc<Signal>,
    /// Slots that were woken and are to be polled, the next one at the end.
    turn: Vec<usize>,
    /// The time of a start that is not long ago.
    now: Instant,
    /// Attempts that had to wait since then.
    since: u32,
}

impl<K: Pooled, J, T: Send + 'static> Running<K, J, T> {
    pub(super) fn new(attempts: Box<dyn Places<J, T>>) -> Self {
        Self {
            slots: Vec::new(),
            attempts,
            places: 0,
            free: Default::default(),
            signal: Arc::default(),
            turn: Vec::new(),
            now: Instant::now(),
            since: 0,
        }
    }

    /// When an attempt began that is found to wait: a look at the clock for every one of them would be a part of its cost.
    fn began(&mut self) -> Instant {
        if self.since == 0 {
            self.now = Instant::now();
        }
        self.since = (self.since + 1) % GLANCES;
        self.now
    }

    /// Starts an attempt. What is ready is answered; else it keeps a slot, whose number is.
    #[inline]
    pub(super) fn attempt(&mut self, label: Label<K>, job: J) -> Result<T, usize> {
        let at = match self.free[ATTEMPTS].last() {
            Some(&at) => at,
            None => {
                self.places += 1;
                let at = self.add(ATTEMPTS, Work::Place(self.places - 1));
                self.free[ATTEMPTS].push(at);
                at
            }
        };
        let slot = &self.slots[at];
        let Work::Place(place) = slot.work else { return Err(at) };
        match self.attempts.start(place, job, &mut Context::from_waker(&slot.waker)) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => {
                let began = self.began();
                self.slots[at].label = Some((label, began));
                self.free[ATTEMPTS].pop();
                Err(at)
            }
        }
    }

    /// Polls `future` once. What is ready is answered; else it keeps a slot, whose number is.
    pub(super) fn start(
        &mut self,
        label: Label<K>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, usize> {
        self.now = Instant::now();
        let at = self.place(label, future);
        match self.poll(at) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Err(at),
        }
    }

    /// Polls a slot. One whose future is ready is free.
    fn poll(&mut self, at: usize) -> Poll<T> {
        let slot = &mut self.slots[at];
        let context = &mut Context::from_waker(&slot.waker);
        let polled = match &mut slot.work {
            Work::Place(place) => self.attempts.poll(*place, context),
            Work::Boxed(future) => future.poll(context),
        };
        if polled.is_ready() {
            slot.label = None;
            self.free[slot.pool].push(at);
        }
        polled
    }

    /// Keeps `future` in a slot, to be polled with those that are woken.
    pub(super) fn keep(&mut self, label: Label<K>, future: impl Future<Output = T> + Send + 'static) {
        self.now = Instant::now();
        let at = self.place(label, future);
        self.slots[at].waker.wake_by_ref();
    }

    fn place(&mut self, label: Label<K>, future: impl Future<Output = T> + Send + 'static) -> usize {
        let pool = label.kind.pool();
        let at = match self.free[pool].pop() {
            Some(at) => {
                self.slots[at].work.hold(future);
                at
            }
            None => self.add(pool, Work::Boxed(ReusableBoxFuture::new(future))),
        };
        self.slots[at].label = Some((label, self.now));
        at
    }

    fn add(&mut self, pool: usize, work: Work<T>) -> usize {
        let slot = self.slots.len();
        let told =
            Arc::new(SlotWaker { slot, told: AtomicBool::new(false), signal: Arc::clone(&self.signal) });
        let waker = Waker::from(Arc::clone(&told));
        self.slots.push(Slot { work, told, waker, label: None, pool });
        slot
    }

    /// Says anew what a slot is for.
    pub(super) fn relabel(&mut self, at: usize, kind: K) {
        if let Some((label, _)) = self.slots.get_mut(at).and_then(|slot| slot.label.as_mut()) {
            label.kind = kind;
        }
    }

    /// Polls some of what was woken; hands what is done to `done`, with its label and when it was started. Answers whether
    /// there is more to poll: what ended is dealt with, and followed by other work, while its memory is still at hand.
    pub(super) fn turn(&mut self, done: &mut Vec<(Label<K>, Instant, T)>) -> bool {
        self.since = 0;
        if self.turn.is_empty() {
            let mut woken = self.signal.woken.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut self.turn, &mut *woken);
            drop(woken);
            self.turn.reverse();
        }
        for _ in 0..TOGETHER {
            let Some(at) = self.turn.pop() else { break };
            let slot = &mut self.slots[at];
            slot.told.told.store(false, Ordering::Release);
            // A free slot was woken by what it held before.
            let Some((label, began)) = slot.label else { continue };
            if let Poll::Ready(output) = self.poll(at) {
                done.push((label, began, output));
            }
        }
        !self.turn.is_empty()
    }

    /// What runs, and since when.
    pub(super) fn all(&self) -> impl Iterator<Item = (Label<K>, Instant)> {
        self.slots.iter().filter_map(|slot| slot.label)
    }

    /// Has what runs since `since` or longer, and wasn't woken, polled in the next turn. Gives its partition, its slot and
    /// since when it runs.
    pub(super) fn nudge(&self, since: Instant) -> Vec<(i32, usize, Instant)> {
        let mut nudged = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            if let Some((label, began)) = slot.label
                && began <= since
                && !slot.told.told.load(Ordering::Acquire)
            {
                slot.waker.wake_by_ref();
                nudged.push((label.partition, at, began));
            }
        }
        nudged
    }

    /// Whether a slot holds still what began then.
    pub(super) fn holds(&self, at: usize, began: Instant) -> bool {
        self.slots[at].label.is_some_and(|(_, other)| other == began)
    }

    /// Waits until something is woken.
    pub(super) fn woken(&self) -> impl Future<Output = ()> + use<K, J, T> {
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
                match &mut slot.work {
                    Work::Place(place) => self.attempts.clear(*place),
                    boxed @ Work::Boxed(_) => boxed.hold(std::future::pending()),
                }
                self.free[slot.pool].push(at);
            }
        }
    }
}

impl<T: Send + 'static> Work<T> {
    fn hold(&mut self, future: impl Future<Output = T> + Send + 'static) {
        match self {
            Self::Boxed(boxed) => boxed.set(future),
            Self::Place(_) => *self = Self::Boxed(ReusableBoxFuture::new(future)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::places::Typed;
    use super::*;

    type Pending = oneshot::Receiver<u32>;

    fn running() -> Running<u8, Pending, u32> {
        Running::new(Box::new(Typed::new(|waits: Pending| async move { waits.await.unwrap_or(0) })))
    }

    impl Pooled for u8 {
        fn pool(self) -> usize {
            usize::from(self)
        }
    }

    fn label(partition: i32) -> Label<u8> {
        Label { partition, generation: 1, kind: 1 }
    }

    fn turn(running: &mut Running<u8, Pending, u32>) -> Vec<(i32, u32)> {
        let mut done = Vec::new();
        running.turn(&mut done);
        done.into_iter().map(|(label, _, output)| (label.partition, output)).collect()
    }

    #[tokio::test]
    async fn what_is_ready_needs_no_slot_and_what_waits_is_polled_when_woken() {
        let mut running = running();
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
    async fn an_attempt_that_waits_keeps_its_place_and_the_next_one_gets_another() {
        let mut running = running();
        let (send, receive) = oneshot::channel();
        assert_eq!(running.attempt(label(1), receive), Err(0));
        let (other, received) = oneshot::channel();
        other.send(5).expect("held here");
        assert_eq!(running.attempt(label(2), received), Ok(5));
        send.send(6).expect("it waits");
        assert_eq!(turn(&mut running), [(1, 6)]);
        let (late, receive) = oneshot::channel();
        assert!(running.attempt(label(3), receive).is_err());
        running.cut(3);
        assert!(late.is_closed(), "dropped at once");
    }

    #[tokio::test]
    async fn of_many_that_were_woken_together_some_wait_for_the_next_turn() {
        let mut running = running();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..TOGETHER + 1).map(|_| oneshot::channel()).unzip();
        let slots: Vec<_> = receivers
            .into_iter()
            .map(|waits| running.attempt(label(0), waits).expect_err("it waits"))
            .collect();
        for (at, send) in senders.into_iter().enumerate() {
            send.send(at as u32).expect("it waits");
        }
        let mut done = Vec::new();
        assert!(running.turn(&mut done), "one is left");
        assert_eq!(done.len(), TOGETHER);
        assert!(!running.turn(&mut done));
        let outputs: Vec<_> = done.into_iter().map(|(_, _, output)| output as usize).collect();
        assert_eq!(outputs, (0..slots.len()).collect::<Vec<_>>(), "as they were woken");
    }

    #[tokio::test]
    async fn what_is_cut_off_is_dropped_at_once_and_never_ends() {
        let mut running = running();
        let (send, receive) = oneshot::channel::<u32>();
        assert!(running.start(label(1), async { receive.await.unwrap_or(0) }).is_err());
        running.cut(1);
        assert!(send.is_closed());
        assert_eq!(turn(&mut running), []);
        assert_eq!(running.start(label(2), async { 3 }), Ok(3));
    }
}
