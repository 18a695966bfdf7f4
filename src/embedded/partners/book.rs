//! A partner's books: what arrived, whether twice, and whether each order's events came in their order.
//!
//! Pure: it is told of requests and judges. An order's events carry a sequence that grows from event to
//! event; a well-behaved sender starts none before the former is accepted (or given up).

use std::collections::{HashMap, VecDeque};

/// What a partner counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Requests whose signature fitted.
    pub verified: u64,
    /// Requests that couldn't be believed or understood.
    pub refused: u64,
    /// Events accepted, each counted once.
    pub accepted: u64,
    /// Of these, how many were accepted at their first sighting and by their first attempt.
    pub first_try: u64,
    /// Requests that the partner itself failed.
    pub failed: u64,
    /// Requests for an event that had been accepted before.
    pub duplicates: u64,
    /// Events that arrived or were accepted before an earlier one of their order.
    pub violations: u64,
}

/// One verified request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// The order it tells of.
    pub order: &'a str,
    /// `webhook-id`.
    pub id: &'a str,
    /// `X-Webhook-Sequence`.
    pub sequence: i64,
    /// `X-Webhook-Attempt`.
    pub attempt: u32,
}

#[derive(Debug, Default)]
struct OrderPage {
    events: HashMap<String, EventLine>,
    highest_seen: Option<i64>,
    highest_accepted: Option<i64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct EventLine {
    sightings: u32,
    accepted: bool,
}

/// What arrived at one partner. Remembers a bounded number of orders, the newest.
#[derive(Debug)]
pub struct Book {
    counts: Counts,
    orders: HashMap<String, OrderPage>,
    oldest_first: VecDeque<String>,
    capacity: usize,
}

impl Book {
    /// Empty books that remember `capacity` orders.
    pub fn new(capacity: usize) -> Self {
        Self { counts: Counts::default(), orders: HashMap::new(), oldest_first: VecDeque::new(), capacity }
    }

    /// The sums.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the event called `id` (`evt_…`) of `order` was accepted.
    pub fn has_accepted(&self, order: &str, id: &str) -> bool {
        self.orders.get(order).and_then(|page| page.events.get(id)).is_some_and(|line| line.accepted)
    }

    /// Notes a request that can't be believed or understood.
    pub fn refused(&mut self) {
        self.counts.requests += 1;
        self.counts.refused += 1;
    }

    /// Notes a verified request and says how often its event has been seen, from 1.
    pub fn arrived(&mut self, arrival: Arrival<'_>) -> u32 {
        self.counts.requests += 1;
        self.counts.verified += 1;
        let page = self.page(arrival.order);
        let first = !page.events.contains_key(arrival.id);
        let line = page.events.entry(arrival.id.to_owned()).or_default();
        line.sightings += 1;
        let (sightings, doubled) = (line.sightings, line.accepted);
        let overtaken = first && page.highest_seen.is_some_and(|highest| arrival.sequence <= highest);
        page.highest_seen = page.highest_seen.max(Some(arrival.sequence));
        self.counts.violations += u64::from(overtaken);
        self.counts.duplicates += u64::from(doubled);
        sightings
    }

    /// Notes that the partner itself failed the request.
    pub fn failed(&mut self) {
        self.counts.failed += 1;
    }

    /// Notes that the event is accepted.
    pub fn accepted(&mut self, arrival: Arrival<'_>) {
        let page = self.page(arrival.order);
        let line = page.events.entry(arrival.id.to_owned()).or_default();
        if line.accepted {
            return;
        }
        line.accepted = true;
        let first_try = line.sightings <= 1 && arrival.attempt == 1;
        let overtaken = page.highest_accepted.is_some_and(|highest| arrival.sequence <= highest);
        page.highest_accepted = page.highest_accepted.max(Some(arrival.sequence));
        self.counts.accepted += 1;
        self.counts.first_try += u64::from(first_try);
        self.counts.violations += u64::from(overtaken);
    }

    fn page(&mut self, order: &str) -> &mut OrderPage {
        if !self.orders.contains_key(order) {
            while self.oldest_first.len() >= self.capacity.max(1) {
                if let Some(oldest) = self.oldest_first.pop_front() {
                    self.orders.remove(&oldest);
                }
            }
            self.oldest_first.push_back(order.to_owned());
        }
        self.orders.entry(order.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &'static str, sequence: i64, attempt: u32) -> Arrival<'static> {
        Arrival { order: "o-1", id, sequence, attempt }
    }

    fn take(book: &mut Book, arrival: Arrival<'_>) {
        book.arrived(arrival);
        book.accepted(arrival);
    }

    #[test]
    fn events_in_order_are_accepted_without_complaint() {
        let mut book = Book::new(10);
        take(&mut book, event("evt_a", 4, 1));
        take(&mut book, event("evt_b", 9, 1));
        let counts = book.counts();
        assert_eq!((counts.accepted, counts.first_try, counts.violations, counts.duplicates), (2, 2, 0, 0));
        assert!(book.has_accepted("o-1", "evt_a") && !book.has_accepted("o-2", "evt_a"));
    }

    #[test]
    fn an_event_accepted_after_a_failure_is_no_duplicate_and_no_first_try() {
        let mut book = Book::new(10);
        assert_eq!(book.arrived(event("evt_a", 4, 1)), 1);
        book.failed();
        assert_eq!(book.arrived(event("evt_a", 4, 2)), 2);
        book.accepted(event("evt_a", 4, 2));
        let counts = book.counts();
        assert_eq!((counts.requests, counts.failed, counts.accepted), (2, 1, 1));
        assert_eq!((counts.first_try, counts.duplicates, counts.violations), (0, 0, 0));
    }

    #[test]
    fn an_event_that_was_never_reached_before_counts_as_retried_by_its_attempt() {
        let mut book = Book::new(10);
        take(&mut book, event("evt_a", 4, 3));
        assert_eq!(book.counts().first_try, 0);
    }

    #[test]
    fn a_repeat_of_an_accepted_event_is_a_duplicate() {
        let mut book = Book::new(10);
        take(&mut book, event("evt_a", 4, 1));
        take(&mut book, event("evt_a", 4, 2));
        assert_eq!((book.counts().accepted, book.counts().duplicates), (1, 1));
    }

    #[test]
    fn an_event_that_comes_after_a_later_one_is_a_violation() {
        let mut book = Book::new(10);
        take(&mut book, event("evt_b", 9, 1));
        book.arrived(event("evt_a", 4, 1));
        assert_eq!(book.counts().violations, 1);
    }

    #[test]
    fn overtaking_an_event_that_failed_is_a_violation_although_it_was_seen_first() {
        let mut book = Book::new(10);
        book.arrived(event("evt_a", 4, 1));
        book.failed();
        take(&mut book, event("evt_b", 9, 1));
        take(&mut book, event("evt_a", 4, 2));
        assert_eq!(book.counts().violations, 1);
    }

    #[test]
    fn equal_sequences_of_two_events_are_a_violation_and_orders_do_not_mix() {
        let mut book = Book::new(10);
        book.arrived(event("evt_a", 4, 1));
        book.arrived(Arrival { order: "o-2", ..event("evt_c", 4, 1) });
        assert_eq!(book.counts().violations, 0);
        book.arrived(event("evt_b", 4, 1));
        assert_eq!(book.counts().violations, 1);
    }

    #[test]
    fn the_oldest_orders_are_forgotten_beyond_the_capacity() {
        let mut book = Book::new(2);
        for order in ["o-1", "o-2", "o-3"] {
            take(&mut book, Arrival { order, ..event("evt_a", 1, 1) });
        }
        assert!(!book.has_accepted("o-1", "evt_a") && book.has_accepted("o-3", "evt_a"));
        assert_eq!(book.counts().accepted, 3);
    }
}
