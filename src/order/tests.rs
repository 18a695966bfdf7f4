//! The fold, and events made of a state.

use super::*;
use crate::event::{EventType, Factory};

const NOW: i64 = 1_760_000_000_000;

fn factory() -> Factory {
    Factory::new("shop", "checkout")
}

fn created() -> Event {
    let party = |id: &str| Party { user_id: id.to_owned(), ..Party::default() };
    factory()
        .order_created("o-1", NOW, 1001, party("alice"), party("bob"), Vec::new(), Money::new(1999, "EUR"))
        .into()
}

fn paid() -> Event {
    factory().order_paid("o-1", NOW + 1, "pay-1", "card", Money::new(1999, "EUR")).into()
}

fn shipped() -> Event {
    factory().order_shipped("o-1", NOW + 2, "DHL", "JD0146").into()
}

fn fold(events: &[Event]) -> OrderState {
    let mut state = OrderState::new("shop", "o-1");
    for event in events {
        state.apply(event);
    }
    state
}

#[test]
fn events_in_any_order_lead_to_the_same_order() {
    let straight = fold(&[created(), paid(), shipped()]);
    assert_eq!(straight.status, OrderStatus::Shipped);
    assert_eq!(straight.buyer.as_ref().map(|buyer| buyer.user_id.as_str()), Some("alice"));
    let mut twisted = fold(&[shipped(), created(), paid()]);
    assert_eq!(twisted.status_changed_at, straight.status_changed_at);
    twisted.version = straight.version;
    assert_eq!(twisted, straight);
}

#[test]
fn a_repeated_event_changes_nothing_but_the_version() {
    let once = fold(&[created(), paid()]);
    let mut twice = fold(&[created(), paid(), paid()]);
    assert_eq!(twice.version, 3);
    twice.version = once.version;
    assert_eq!(twice, once);
}

#[test]
fn a_dispute_is_seen_and_a_refund_ends_it() {
    let opened = factory().dispute_initiated("o-1", NOW + 3, "d-1", "alice", "not_received").into();
    let assigned = factory().dispute_assigned("o-1", NOW + 4, "d-1", "mona").into();
    let mut state = fold(&[created(), paid(), shipped(), assigned, opened]);
    assert_eq!(state.status, OrderStatus::Disputed);
    let dispute = state.dispute.clone().expect("there is a dispute");
    assert_eq!((dispute.reason.as_str(), dispute.moderator_id.as_deref()), ("not_received", Some("mona")));
    state.apply(&factory().order_refunded("o-1", NOW + 5, "r-1", Money::new(1999, "EUR"), "card").into());
    assert_eq!(state.status, OrderStatus::Refunded);
}

#[test]
fn an_event_can_be_made_of_what_the_state_holds() {
    let state = fold(&[created(), paid(), shipped()]);
    let again = state.event(EventType::OrderShipped, &factory(), NOW + 9).expect("the shipment is known");
    assert_eq!(again.snapshot().map(|snapshot| snapshot.status), Some(OrderStatus::Shipped));
    let refused = fold(&[created()]).event(EventType::OrderShipped, &factory(), NOW).unwrap_err();
    assert_eq!(refused.missing, "a shipment");
    assert!(state.event(EventType::DisputeInitiated, &factory(), NOW).is_err());
}
