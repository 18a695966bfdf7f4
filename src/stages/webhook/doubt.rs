//! How many slots endpoints may hold together that failed last, until they answer again or are known to be away.
//!
//! A failure may be a time-out, so that each costs a slot for as long as that. Before its breaker has opened and a probe was made
//! in vain, an endpoint fails several times; many such endpoints would take every slot of the stage each time. Half of the
//! slots is always left to those of whom nothing bad is known; for the other half whoever asked first goes first, so that one
//! that failed once has its turn among those that hang.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who finds all of these slots taken asks again at the next multiple of this: nobody tells it when one is free.
const PAUSE_MS: i64 = 100;
/// Who may start, and doesn't so soon, stands at the end of the line again.
const CALLED_MS: i64 = PAUSE_MS / 2;
/// Who doesn't ask for so long waits for nothing any more.
const STALE_MS: i64 = 5 * PAUSE_MS;
/// What started reaches its request within this, or never does: it may have to be read again first.
const STARTS_WITHIN_MS: i64 = 1_000;

/// The requests under way to endpoints that failed last, how many there may be, and who waits for one.
#[derive(Debug)]
pub(super) struct Doubts {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When those started that are on the way to their request.
    starting: VecDeque<i64>,
    /// By number: who came first has the lowest.
    line: BTreeMap<u64, Waiting>,
    places: HashMap<Arc<str>, u64>,
    numbers: u64,
}

#[derive(Debug)]
struct Waiting {
    endpoint: Arc<str>,
    asked_ms: i64,
    /// Since when it may start.
    called_ms: Option<i64>,
}

impl Waiting {
    /// True when it no longer waits, or had its turn and let it pass.
    fn is_over(&self, now_ms: i64) -> bool {
        self.asked_ms + STALE_MS < now_ms || self.called_ms.is_some_and(|at_ms| at_ms + CALLED_MS < now_ms)
    }
}

impl State {
    /// The place of `endpoint` in the line, at the end of it if it has none.
    fn stand(&mut self, endpoint: &Arc<str>, now_ms: i64) -> u64 {
        let known = self.places.get(endpoint).copied();
        if let Some((number, waiting)) = known.and_then(|number| Some((number, self.line.get_mut(&number)?)))
            && !waiting.is_over(now_ms)
        {
            waiting.asked_ms = now_ms;
            return number;
        }
        self.leave(endpoint);
        self.numbers += 1;
        self.places.insert(Arc::clone(endpoint), self.numbers);
        let waiting = Waiting { endpoint: Arc::clone(endpoint), asked_ms: now_ms, called_ms: None };
        self.line.insert(self.numbers, waiting);
        self.numbers
    }

    fn leave(&mut self, endpoint: &str) {
        if let Some(number) = self.places.remove(endpoint) {
            self.line.remove(&number);
        }
    }

    /// Whether fewer than `free` stand before that number.
    fn is_first(&mut self, number: u64, free: usize, now_ms: i64) -> bool {
        let before = self.line.range(..number);
        let over: Vec<Arc<str>> = before
            .take_while(|(_, waiting)| waiting.is_over(now_ms))
            .map(|(_, waiting)| Arc::clone(&waiting.endpoint))
            .collect();
        for endpoint in over {
            self.leave(&endpoint);
        }
        self.line.range(..number).filter(|(_, waiting)| !waiting.is_over(now_ms)).take(free).count() < free
    }
}

impl Doubts {
    /// Of a stage that has so many slots.
    pub(super) fn of(slots: usize) -> Self {
        Self { most: (slots / 2).max(1), state: Mutex::default() }
    }

    /// When a request to `endpoint` may start, if not now.
    pub(super) fn not_before(&self, endpoint: &Arc<str>, now_ms: i64) -> Option<i64> {
        let mut state = self.state();
        while state.starting.front().is_some_and(|at_ms| at_ms + STARTS_WITHIN_MS < now_ms) {
            state.starting.pop_front();
        }
        let free = self.most.saturating_sub(state.running + state.starting.len());
        let number = state.stand(endpoint, now_ms);
        if !state.is_first(number, free, now_ms) {
            return Some((now_ms.div_euclid(PAUSE_MS) + 1) * PAUSE_MS);
        }
        if let Some(waiting) = state.line.get_mut(&number) {
            waiting.called_ms.get_or_insert(now_ms);
        }
        None
    }

    /// A task of `endpoint` starts: it is on the way to its request.
    pub(super) fn starting(&self, endpoint: &str, now_ms: i64) {
        let mut state = self.state();
        state.leave(endpoint);
        state.starting.push_back(now_ms);
    }

    /// A request to such an endpoint is under way until what this gives is dropped.
    pub(super) fn running(&self) -> Doubted<'_> {
        let mut state = self.state();
        state.starting.pop_front();
        state.running += 1;
        Doubted(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to an endpoint that failed last, from its beginning to its end, however it ends.
#[derive(Debug)]
pub(super) struct Doubted<'a>(&'a Doubts);

impl Drop for Doubted<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> [Arc<str>; 3] {
        ["a", "b", "c"].map(Arc::from)
    }

    #[test]
    fn half_of_the_slots_and_at_least_one_are_for_those_who_failed() {
        let ([a, b, c], doubts) = (endpoints(), Doubts::of(5));
        let first = doubts.running();
        assert_eq!(doubts.not_before(&a, 7), None);
        doubts.starting(&a, 7);
        let second = doubts.running();
        assert_eq!((doubts.not_before(&b, 7), doubts.not_before(&c, 99)), (Some(100), Some(100)));
        assert_eq!(doubts.not_before(&b, 100), Some(200));
        drop(first);
        assert_eq!(doubts.not_before(&b, 200), None);
        drop(second);
        assert_eq!(Doubts::of(1).not_before(&a, 7), None);
    }

    #[test]
    fn what_started_counts_before_its_request_is_made_but_not_for_ever() {
        let ([a, b, _], doubts) = (endpoints(), Doubts::of(2));
        assert_eq!(doubts.not_before(&a, 0), None);
        doubts.starting(&a, 0);
        assert_eq!(doubts.not_before(&b, 0), Some(100));
        let running = doubts.running();
        assert_eq!(doubts.not_before(&b, 100), Some(200));
        drop(running);
        assert_eq!(doubts.not_before(&b, 200), None);
        doubts.starting(&b, 200);
        assert_eq!(doubts.not_before(&a, 1_200), Some(1_300), "it is being read again, perhaps");
        assert_eq!(doubts.not_before(&a, 1_300), None, "it came to nothing");
    }

    #[test]
    fn whoever_asked_first_goes_first_also_when_others_ask_more_often() {
        let ([a, b, c], doubts) = (endpoints(), Doubts::of(2));
        let hangs = doubts.running();
        assert!(doubts.not_before(&b, 0).is_some() && doubts.not_before(&c, 0).is_some());
        drop(hangs);
        assert!(doubts.not_before(&a, 10).is_some(), "it comes back behind those who wait");
        assert!(doubts.not_before(&c, 100).is_some());
        assert_eq!(doubts.not_before(&b, 100), None);
        doubts.starting(&b, 100);
        drop(doubts.running());
        assert_eq!((doubts.not_before(&a, 200), doubts.not_before(&c, 200)), (Some(300), None));
    }

    #[test]
    fn who_lets_its_turn_pass_or_asks_no_more_holds_up_nobody() {
        let ([a, b, c], doubts) = (endpoints(), Doubts::of(2));
        assert_eq!(doubts.not_before(&a, 0), None);
        assert!(doubts.not_before(&b, 0).is_some(), "it is the turn of the first");
        assert!(doubts.not_before(&a, 100).is_some(), "which let it pass");
        assert_eq!(doubts.not_before(&b, 100), None);
        assert!(doubts.not_before(&c, 110).is_some());
        assert_eq!(doubts.not_before(&c, 1_000), None, "the others are gone");
        let state = doubts.state();
        assert_eq!((state.line.len(), state.places.len()), (1, 1));
    }
}
