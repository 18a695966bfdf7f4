//! One order from its creation to its end, as a list of events.
//!
//! Everything follows from the seed, the tenant and the order's number; what other orders do changes
//! nothing.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::TrafficOptions;
use super::goods::{CARRIERS, Deal, METHODS, pick};
use crate::event::{
    Actor, ActorRole, DisputeOutcome, DisputeStage, Event, Factory, OrderSnapshot, OrderStatus,
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How many tracking reports a long history has, at least.
const LONG_HISTORY: u32 = 50;

/// Which way an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Completed,
    CancelledUnpaid,
    CancelledPaid,
    Returned,
    Disputed,
}

/// An order that is being told.
#[derive(Debug)]
pub(super) struct Order {
    chance: SmallRng,
    factory: Factory,
    id: String,
    number: i64,
    deal: Deal,
    status: OrderStatus,
    now_ms: i64,
    events: Vec<Event>,
}

impl Order {
    /// Order number `number` of `tenant`.
    pub(super) fn new(options: &TrafficOptions, tenant: &str, number: u64) -> Self {
        // Who buys what from whom is the same in every tenant; only ids of events and addresses differ.
        let mut deal_chance = SmallRng::seed_from_u64(mix(options.seed, number, ""));
        let deal = Deal::new(&mut deal_chance, tenant);
        let chance = SmallRng::seed_from_u64(mix(options.seed, number, tenant));
        let placed = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(MINUTE);
        let id = format!("o-{}-{}", options.seed, number + 1);
        let factory = Factory::new(tenant, "generator")
            .customer(deal.buyer.user_id.clone())
            .correlated(format!("cart-{}-{}", options.seed, number + 1));
        Self {
            chance,
            factory,
            id,
            number: 100_000 + i64::try_from(number).unwrap_or_default(),
            deal,
            status: OrderStatus::Created,
            now_ms: options.start_ms.saturating_add(placed),
            events: Vec::new(),
        }
    }

    /// The whole life of the order.
    pub(super) fn live(mut self) -> Vec<Event> {
        let course = match self.chance.random_range(0..100_u32) {
            0..72 => Course::Completed,
            72..79 => Course::CancelledUnpaid,
            79..85 => Course::CancelledPaid,
            85..94 => Course::Returned,
            94.. => Course::Disputed,
        };
        self.create();
        if course == Course::CancelledUnpaid {
            self.cancel(false);
            return self.events;
        }
        self.pay();
        if course == Course::CancelledPaid {
            self.cancel(true);
            self.refund();
            return self.events;
        }
        self.ship();
        self.deliver();
        match course {
            Course::Completed | Course::CancelledUnpaid | Course::CancelledPaid => self.complete(),
            Course::Returned => self.send_back(),
            Course::Disputed => self.dispute(),
        }
        self.events
    }

    fn create(&mut self) {
        let Deal { buyer, seller, lines, total, address } = self.deal.clone();
        let mut created =
            self.as_buyer().order_created(&*self.id, self.now_ms, self.number, buyer, seller, lines, total);
        created.shipping_address = Some(address);
        created.estimated_delivery = Some(self.now_ms + 5 * DAY);
        self.tell(created.into());
    }

    /// One payment, told twice as providers and shops do: once as taken, once as the order being paid.
    fn pay(&mut self) {
        let (id, method, total) =
            (self.id.clone(), *pick(&mut self.chance, METHODS), self.deal.total.clone());
        let mut attempt = 1;
        self.pass(MINUTE, 30 * MINUTE);
        if self.one_in(20) {
            let payment = format!("pay-{}-{attempt}", self.id);
            let mut failed = self.factory.payment_failed(&*id, self.now_ms, payment, method, total.clone());
            failed.failure_code = Some("card_declined".to_owned());
            self.tell(failed.into());
            attempt += 1;
            self.pass(MINUTE, HOUR);
        }
        let payment = format!("pay-{}-{attempt}", self.id);
        if self.one_in(2) {
            let processing =
                self.factory.payment_processing(&*id, self.now_ms, &*payment, method, total.clone());
            self.tell(processing.into());
            self.pass(1_000, MINUTE);
        }
        let processed = self.factory.payment_processed(&*id, self.now_ms, &*payment, method, total.clone());
        let paid = self.factory.order_paid(&*id, self.now_ms + 500, &*payment, method, total);
        self.status = OrderStatus::Paid;
        self.tell(processed.into());
        self.tell(paid.into());
        self.pass(1_000, MINUTE);
        if self.one_in(3) {
            let line = self.deal.lines[0].clone();
            let (delta, on_hand) = (-i64::from(line.quantity), self.chance.random_range(0..200));
            let low = on_hand < 10;
            let stock =
                self.factory.inventory_updated(&*id, self.now_ms, line.product_id, delta, on_hand, 0, low);
            self.tell(stock.into());
        }
    }

    /// The change of status is told by the shop and the shipment by the carrier: one fact, in either order.
    fn ship(&mut self) {
        self.pass(HOUR, 2 * DAY);
        let (carrier, page) = *pick(&mut self.chance, CARRIERS);
        let tracking =
            format!("{}{:09}", &carrier[..2].to_uppercase(), self.chance.random_range(0..1_000_000_000));
        let old = self.status;
        self.status = OrderStatus::Shipped;
        let mut shipped = self.as_seller().order_shipped(&*self.id, self.now_ms, carrier, &*tracking);
        shipped.tracking_url = Some(format!("{page}{tracking}"));
        shipped.estimated_delivery = Some(self.now_ms + 3 * DAY);
        let changed =
            self.as_seller().order_status_changed(&*self.id, self.now_ms, old, OrderStatus::Shipped);
        match self.chance.random_range(0..3) {
            0 => self.tell(shipped.into()),
            1 => {
                self.tell(changed.into());
                self.tell(shipped.into());
            }
            _ => {
                self.tell(shipped.into());
                self.tell(changed.into());
            }
        }
        self.track(&tracking);
    }

    fn track(&mut self, tracking: &str) {
        let reports = match self.one_in(100) {
            true => LONG_HISTORY + self.chance.random_range(0..LONG_HISTORY),
            false => self.chance.random_range(0..3),
        };
        for _ in 0..reports {
            self.pass(HOUR, 6 * HOUR);
            let status = *pick(&mut self.chance, &["in_transit", "at_sorting_centre", "out_for_delivery"]);
            let report = self.factory.shipment_tracking_updated(&*self.id, self.now_ms, tracking, status);
            self.tell(report.into());
        }
        if self.one_in(15) {
            self.pass(HOUR, DAY);
            let mut delayed = self.factory.shipment_delayed(&*self.id, self.now_ms, tracking);
            delayed.estimated_delivery = Some(self.now_ms + 2 * DAY);
            delayed.reason = Some("weather".to_owned());
            self.tell(delayed.into());
        }
    }

    fn deliver(&mut self) {
        self.pass(DAY, 3 * DAY);
        self.status = OrderStatus::Delivered;
        let mut delivered = self.factory.order_delivered(&*self.id, self.now_ms, self.now_ms);
        delivered.signed_by = self.deal.buyer.name.clone();
        self.tell(delivered.into());
    }

    fn complete(&mut self) {
        self.pass(DAY, 14 * DAY);
        self.status = OrderStatus::Completed;
        let completed = self.factory.order_completed(&*self.id, self.now_ms);
        self.tell(completed.into());
    }

    fn cancel(&mut self, paid: bool) {
        self.pass(10 * MINUTE, DAY);
        let reason = *pick(&mut self.chance, &["changed_mind", "found_cheaper", "out_of_stock"]);
        self.status = OrderStatus::Cancelled;
        let mut cancelled = self.as_buyer().order_cancelled(&*self.id, self.now_ms, reason);
        cancelled.cancelled_by = Some(self.deal.buyer.user_id.clone());
        if paid {
            cancelled.refund_amount = Some(self.deal.total.clone());
            cancelled.refund_method = Some("original".to_owned());
        }
        self.tell(cancelled.into());
    }

    fn refund(&mut self) {
        self.pass(HOUR, 2 * DAY);
        let (refund, amount) = (format!("ref-{}", self.id), self.deal.total.clone());
        if self.one_in(12) {
            let failed =
                self.factory.refund_failed(&*self.id, self.now_ms, &*refund, amount.clone(), "original");
            self.tell(failed.into());
            self.pass(HOUR, DAY);
        }
        self.status = OrderStatus::Refunded;
        let refunded = self.factory.order_refunded(&*self.id, self.now_ms, refund, amount, "original");
        self.tell(refunded.into());
    }

    fn send_back(&mut self) {
        self.pass(DAY, 10 * DAY);
        self.status = OrderStatus::Returned;
        let mut returned = self.as_buyer().order_returned(&*self.id, self.now_ms, self.deal.lines.clone());
        returned.reason = Some("does_not_fit".to_owned());
        self.tell(returned.into());
        self.refund();
    }

    fn dispute(&mut self) {
        self.pass(DAY, 20 * DAY);
        let (dispute, buyer) = (format!("d-{}", self.id), self.deal.buyer.user_id.clone());
        let reason = *pick(&mut self.chance, &["not_received", "not_as_described", "damaged"]);
        self.status = OrderStatus::Disputed;
        let mut opened =
            self.as_buyer().dispute_initiated(&*self.id, self.now_ms, &*dispute, &*buyer, reason);
        opened.description = Some("The parcel was not what I ordered.".to_owned());
        opened.amount = Some(self.deal.total.clone());
        self.tell(opened.into());
        for number in 0..self.chance.random_range(0..3) {
            self.pass(HOUR, DAY);
            let evidence = format!("ev-{dispute}-{number}");
            let handed = self.as_buyer().dispute_evidence_submitted(
                &*self.id,
                self.now_ms,
                &*dispute,
                evidence,
                &*buyer,
                "photo",
            );
            self.tell(handed.into());
        }
        if self.one_in(3) {
            self.pass(DAY, 3 * DAY);
            let (from, to) = (DisputeStage::Inquiry, DisputeStage::Chargeback);
            let escalated = self.factory.dispute_escalated(&*self.id, self.now_ms, &*dispute, from, to);
            self.tell(escalated.into());
        }
        self.pass(DAY, 5 * DAY);
        let won = self.one_in(2);
        let outcome = if won { DisputeOutcome::Won } else { DisputeOutcome::Lost };
        let mut resolved = self.factory.dispute_resolved(&*self.id, self.now_ms, &*dispute, outcome);
        resolved.amount = (!won).then(|| self.deal.total.clone());
        self.tell(resolved.into());
        if won { self.complete() } else { self.refund() }
    }

    /// Adds an event: its id, its cause and the order as it is after it.
    fn tell(&mut self, mut event: Event) {
        let cause = self.events.last().map(|before| before.meta().event_id.clone());
        let id = self.event_id(event.meta().occurred_at);
        let meta = event.meta_mut();
        meta.event_id = id.to_string();
        meta.causation_id = cause;
        event.set_snapshot(OrderSnapshot {
            order_number: self.number,
            status: self.status,
            customer_id: Some(self.deal.buyer.user_id.clone()),
            total: self.deal.total.clone(),
            items: self.deal.lines.clone(),
        });
        self.events.push(event);
    }

    /// A UUID of version 7 whose random part comes from the seed.
    fn event_id(&mut self, at_ms: i64) -> Uuid {
        let millis = u64::try_from(at_ms).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &self.chance.random()).into_uuid()
    }

    fn as_buyer(&self) -> Factory {
        self.factory.clone().acting(Actor { id: self.deal.buyer.user_id.clone(), role: ActorRole::Buyer })
    }

    fn as_seller(&self) -> Factory {
        self.factory.clone().acting(Actor { id: self.deal.seller.user_id.clone(), role: ActorRole::Seller })
    }

    /// Lets between `least` and `most` milliseconds go by.
    fn pass(&mut self, least: i64, most: i64) {
        self.now_ms = self.now_ms.saturating_add(self.chance.random_range(least..=most));
    }

    fn one_in(&mut self, sides: u32) -> bool {
        self.chance.random_range(0..sides) == 0
    }
}

/// A seed of its own for each order and tenant (FNV-1a).
fn mix(seed: u64, number: u64, tenant: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(number.to_le_bytes()).chain(tenant.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
