//! Generated traffic is repeatable, mixed, and shaped like life.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::event::{EventType, OrderStatus};

fn traffic(orders: u64, seed: u64, tenant_count: usize) -> Vec<Event> {
    Traffic::new(TrafficOptions { tenants: tenants(tenant_count), ..TrafficOptions::new(orders, seed) })
        .collect()
}

/// The events of each order, in order.
fn by_order(events: &[Event]) -> BTreeMap<(String, String), Vec<&Event>> {
    let mut orders: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        let meta = event.meta();
        orders.entry((meta.tenant_id.clone(), meta.order_id.clone())).or_default().push(event);
    }
    orders
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_seed_others() {
    assert_eq!(traffic(200, 7, 1), traffic(200, 7, 1));
    let ids = |seed| -> BTreeSet<String> {
        traffic(50, seed, 1).iter().map(|event| event.meta().event_id.clone()).collect()
    };
    assert!(ids(7).is_disjoint(&ids(8)));
}

#[test]
fn every_order_begins_with_its_creation_and_time_never_runs_back() {
    let events = traffic(500, 3, 1);
    let orders = by_order(&events);
    assert_eq!(orders.len(), 500);
    for events in orders.values() {
        assert_eq!(events[0].event_type(), EventType::OrderCreated);
        let times: Vec<_> = events.iter().map(|event| event.meta().occurred_at).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert!(events.iter().all(|event| event.snapshot().is_some()));
        let causes: Vec<_> = events.iter().skip(1).map(|event| event.meta().causation_id.clone()).collect();
        let ids: Vec<_> = events.iter().map(|event| Some(event.meta().event_id.clone())).collect();
        assert_eq!(causes, ids[..ids.len() - 1]);
    }
    let ids: BTreeSet<_> = events.iter().map(|event| &event.meta().event_id).collect();
    assert_eq!(ids.len(), events.len(), "event ids are unique");
}

#[test]
fn orders_are_mixed_as_on_a_real_topic() {
    let events = traffic(300, 5, 1);
    let neighbours =
        events.windows(2).filter(|pair| pair[0].meta().order_id == pair[1].meta().order_id).count();
    assert!(neighbours * 5 < events.len(), "{neighbours} of {} follow their own order", events.len());
}

#[test]
fn each_kind_of_life_takes_place() {
    for seed in [1, 7, 42] {
        let events = traffic(500, seed, 1);
        let types: BTreeSet<_> = events.iter().map(Event::event_type).collect();
        for expected in [
            EventType::PaymentProcessed,
            EventType::OrderPaid,
            EventType::PaymentFailed,
            EventType::OrderStatusChanged,
            EventType::OrderShipped,
            EventType::OrderDelivered,
            EventType::OrderCompleted,
            EventType::OrderCancelled,
            EventType::OrderReturned,
            EventType::OrderRefunded,
            EventType::ShipmentDelayed,
            EventType::DisputeInitiated,
            EventType::DisputeResolved,
        ] {
            assert!(types.contains(&expected), "seed {seed} has no {expected}");
        }
        let lives = by_order(&events);
        assert!(lives.values().any(|events| events.len() > 50), "seed {seed} has no long history");
        let ended =
            |events: &Vec<&Event>| events.last().and_then(|event| event.snapshot()).map(|order| order.status);
        let ends: BTreeSet<_> =
            lives.values().filter_map(ended).map(|status| format!("{status:?}")).collect();
        let all = [OrderStatus::Completed, OrderStatus::Cancelled, OrderStatus::Refunded];
        assert_eq!(ends, all.iter().map(|status| format!("{status:?}")).collect());
    }
}

#[test]
fn tenants_share_order_and_user_ids_but_no_event_and_no_address() {
    let events = traffic(100, 9, 2);
    let expectation = Expectation::of(&events);
    let ids = |tenant: &str| expectation.tenants[tenant].keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids("shop-1"), ids("shop-2"));
    assert_eq!(ids("shop-1").len(), 50);
    let buyers = |tenant: &str| -> BTreeMap<String, (String, Option<String>)> {
        let created = events.iter().filter(|event| event.meta().tenant_id == tenant);
        created
            .filter_map(|event| {
                let Event::OrderCreated(created) = event else { return None };
                Some((created.meta.order_id.clone(), created.buyer.clone()))
            })
            .map(|(order, buyer)| (order, (buyer.user_id, buyer.email)))
            .collect()
    };
    for ((order, (user, email)), (other_order, (other_user, other_email))) in
        buyers("shop-1").iter().zip(&buyers("shop-2"))
    {
        assert_eq!((order, user), (other_order, other_user));
        assert_ne!(email, other_email);
    }
}

#[test]
fn the_expectation_counts_every_event_and_reads_back_from_json() {
    let events = traffic(200, 11, 2);
    let expectation = Expectation::of(&events);
    let told: usize =
        expectation.tenants.values().flat_map(BTreeMap::values).map(|order| order.history.len()).sum();
    assert_eq!((told as u64, told), (expectation.events, events.len()));
    let opened = expectation.events_by_type["dispute.initiated"];
    let disputes = expectation.tenants.values().flat_map(BTreeMap::values).flat_map(|order| &order.disputes);
    assert_eq!(disputes.filter(|dispute| dispute.resolved).count() as u64, opened);
    let text = serde_json::to_string(&expectation).expect("JSON");
    assert_eq!(serde_json::from_str::<Expectation>(&text).expect("JSON"), expectation);
}

#[test]
fn a_fact_that_two_events_tell_is_expected_once_per_person_and_channel() {
    let events = traffic(200, 13, 1);
    let expectation = Expectation::of(&events);
    let of_type = |id: &str| events.iter().find(|event| event.meta().event_id == id).map(Event::event_type);
    for order in expectation.tenants.values().flat_map(BTreeMap::values) {
        let paid: Vec<_> = order
            .notices
            .iter()
            .filter(|notice| {
                matches!(of_type(&notice.event_id), Some(EventType::PaymentProcessed | EventType::OrderPaid))
            })
            .map(|notice| (&notice.recipient, &notice.channel))
            .collect();
        assert!(paid.is_empty() || paid.len() == 4, "buyer and seller by two channels: {paid:?}");
        let shipped = order.messages.iter().filter(|id| {
            matches!(of_type(id), Some(EventType::OrderShipped | EventType::OrderStatusChanged))
        });
        assert!(shipped.count() <= 1);
    }
}

#[test]
fn the_expectation_agrees_with_what_the_stage_decides() {
    use crate::stages::notification::plan::{Known, plan};
    use crate::stages::notification::rules::rule_of;

    let events = traffic(300, 17, 1);
    let expectation = Expectation::of(&events);
    for ((tenant, order), events) in by_order(&events) {
        let (mut known, mut notices, mut messages) = (Known::default(), Vec::new(), Vec::new());
        for event in events {
            let Some(rule) = rule_of(event.event_type()) else { continue };
            let plan = plan(event, rule, &known);
            let id = event.meta().event_id.clone();
            messages.extend(plan.says.then(|| id.clone()));
            for telling in plan.tellings.iter().filter(|telling| telling.suppressed.is_none()) {
                let person = telling.person.as_ref().expect("somebody is told");
                notices.push((id.clone(), person.user_id.clone(), telling.channel.as_str().to_owned()));
            }
            known.absorb(&plan);
        }
        let expected = &expectation.tenants[&tenant][&order];
        let told = expected.notices.iter().cloned();
        let told: Vec<_> = told.map(|notice| (notice.event_id, notice.recipient, notice.channel)).collect();
        assert_eq!((told, &expected.messages), (notices, &messages), "{tenant}/{order}");
    }
}
