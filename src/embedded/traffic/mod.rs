//! Realistic order life cycles, the same for the same seed, down to the byte.
//!
//! ```text
//! seed ──► many orders alive at once ──► the next event of one of them ──► …
//!            each: created ─► paid ─► shipped ─► delivered ─► completed
//!                        └► cancelled  └► delayed    ├► returned ─► refunded
//!                                                    └► disputed ─► resolved
//! ```
//!
//! Pure: no clock, no broker. The time of the first event is an argument, so that the same seed may be
//! published again and every event is recognised as one that came before. With several tenants each order
//! and user id exists in every one of them. [`Expectation`] says what must follow from the events.

mod expectation;
mod goods;
mod life;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::event::Event;
pub use expectation::{Dispute, Expectation, Expected, Notice, Told};
use life::Order;

/// How many orders are alive at once: their events are mixed, as on a real topic.
const ALIVE: usize = 64;

/// When the first order of generated traffic is placed unless somebody says otherwise: 2026-01-01, 00:00 UTC.
pub const FIRST_ORDER_MS: i64 = 1_767_225_600_000;

/// What traffic to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficOptions {
    /// How many orders, over all tenants.
    pub orders: u64,
    /// The same seed gives the same events.
    pub seed: u64,
    /// The tenants; each has the same order and user ids.
    pub tenants: Vec<String>,
    /// When the first order is placed, in epoch milliseconds.
    pub start_ms: i64,
}

impl TrafficOptions {
    /// Traffic of one tenant.
    pub fn new(orders: u64, seed: u64) -> Self {
        Self { orders, seed, tenants: tenants(1), start_ms: FIRST_ORDER_MS }
    }
}

/// The names of `count` tenants: `shop-1`, `shop-2`, …
pub fn tenants(count: usize) -> Vec<String> {
    (1..=count.max(1)).map(|number| format!("shop-{number}")).collect()
}

/// The events, in the order in which they are to be published. Memory is bounded whatever the number of
/// orders.
#[derive(Debug, Clone)]
pub struct Traffic {
    options: TrafficOptions,
    chance: SmallRng,
    alive: Vec<VecDeque<Event>>,
    begun: u64,
}

impl Traffic {
    /// The events that `options` describe.
    pub fn new(options: TrafficOptions) -> Self {
        let chance = SmallRng::seed_from_u64(options.seed);
        Self { options, chance, alive: Vec::new(), begun: 0 }
    }

    /// Starts orders until enough are alive or all are begun.
    fn begin_orders(&mut self) {
        let tenants = self.options.tenants.len().max(1) as u64;
        while self.alive.len() < ALIVE && self.begun < self.options.orders {
            let (number, tenant) = (self.begun / tenants, (self.begun % tenants) as usize);
            let tenant = self.options.tenants.get(tenant).map_or("shop-1", String::as_str);
            let order = Order::new(&self.options, tenant, number);
            self.alive.push(order.live().into());
            self.begun += 1;
        }
    }
}

impl Iterator for Traffic {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.begin_orders();
        if self.alive.is_empty() {
            return None;
        }
        let at = self.chance.random_range(0..self.alive.len());
        let event = self.alive[at].pop_front();
        if self.alive[at].is_empty() {
            self.alive.swap_remove(at);
        }
        event
    }
}
