//! Who is told what, event by event.

use super::*;
use crate::event::{Factory, LineItem, Money};
use crate::stages::notification::rules::rule_of;

const BUYER: &str = "u-buyer";
const SELLER: &str = "u-seller";

fn factory() -> Factory {
    Factory::new("shop", "test")
}

fn created() -> Event {
    let party = |id: &str| Party {
        user_id: id.to_owned(),
        email: Some(format!("{id}@example.com")),
        ..Party::default()
    };
    let lines: Vec<LineItem> = Vec::new();
    factory().order_created("o-1", 1, 1042, party(BUYER), party(SELLER), lines, Money::new(100, "EUR")).into()
}

fn paid() -> Event {
    factory().order_paid("o-1", 3, "p-1", "card", Money::new(100, "EUR")).into()
}

/// Plans one event after the other and gives the last plan.
fn after(events: &[Event]) -> Plan {
    let mut known = Known::default();
    let mut last = None;
    for event in events {
        let rule = rule_of(event.event_type()).expect("the event has a rule");
        let plan = plan(event, rule, &known);
        known.absorb(&plan);
        last = Some(plan);
    }
    last.expect("at least one event")
}

/// The tellings as lines: who, how, and why not.
fn lines(plan: &Plan) -> Vec<String> {
    let line = |telling: &Telling| {
        let who = telling.person.as_ref().map_or(telling.role.as_str(), |person| person.user_id.as_str());
        let why = telling.suppressed.map_or(String::new(), |reason| format!(": {}", reason.as_str()));
        format!("{who} {}{why}", telling.channel.as_str())
    };
    plan.tellings.iter().map(line).collect()
}

#[test]
fn a_created_order_opens_the_conversation_and_tells_buyer_by_mail_and_seller_live() {
    let plan = after(&[created()]);
    assert_eq!(plan.joins.iter().map(|person| person.role).collect::<Vec<_>>(), [Role::Buyer, Role::Seller]);
    assert_eq!(plan.change.order_number, Some(1042));
    assert!(plan.says);
    assert_eq!(lines(&plan), ["u-buyer email", "u-seller live"]);
}

#[test]
fn buyer_and_seller_are_told_once_when_two_events_tell_of_one_payment() {
    let processed = factory().payment_processed("o-1", 2, "p-1", "card", Money::new(100, "EUR")).into();
    let first = after(&[created(), processed]);
    assert_eq!(lines(&first), ["u-buyer live", "u-buyer email", "u-seller live", "u-seller email"]);
    let processed = factory().payment_processed("o-1", 2, "p-1", "card", Money::new(100, "EUR")).into();
    let second = after(&[created(), processed, paid()]);
    assert!(second.tellings.iter().all(|telling| telling.suppressed == Some(Reason::AlreadyTold)));
    assert!(!second.says, "the conversation hears it once, too");
    assert_eq!(second.change.payment.map(|payment| payment.status).as_deref(), Some("paid"));
}

#[test]
fn a_shipment_is_linked_and_its_buyer_told() {
    let plan = after(&[created(), factory().order_shipped("o-1", 5, "DHL", "T1").into()]);
    assert_eq!(plan.shipment.as_ref().map(|shipment| shipment.tracking_number.as_str()), Some("T1"));
    assert_eq!(lines(&plan), ["u-buyer live", "u-buyer email"]);
}

#[test]
fn in_a_dispute_the_moderator_joins_and_all_parties_are_told() {
    let initiated: Event = factory().dispute_initiated("o-1", 6, "d-1", BUYER, "not_received").into();
    let opened = after(&[created(), initiated.clone()]);
    assert!(opened.change.becomes_dispute && opened.says);
    assert_eq!(lines(&opened), ["u-buyer live", "u-buyer email", "u-seller live", "u-seller email"]);

    let assigned: Event = factory().dispute_assigned("o-1", 7, "d-1", "m-1").into();
    let joined = after(&[created(), initiated, assigned]);
    assert_eq!(joined.joins.iter().map(|person| person.user_id.as_str()).collect::<Vec<_>>(), ["m-1"]);
    assert_eq!(lines(&joined), ["u-buyer live", "u-seller live", "m-1 live"]);
}

#[test]
fn before_the_order_is_created_nothing_is_lost_and_the_gap_is_stated() {
    let plan = after(&[paid()]);
    assert!(plan.says && plan.change.payment.is_some());
    let nobody = "no recipient";
    assert_eq!(
        lines(&plan),
        [
            format!("buyer live: {nobody}"),
            format!("buyer email: {nobody}"),
            format!("seller live: {nobody}"),
            format!("seller email: {nobody}"),
        ]
    );
    let mut named = paid();
    named.meta_mut().customer_id = Some(BUYER.to_owned());
    assert_eq!(lines(&after(&[named]))[..2], ["u-buyer live", "u-buyer email: no address"]);
}

#[test]
fn who_is_buyer_and_seller_at_once_is_told_once() {
    let mut event = created();
    if let Event::OrderCreated(record) = &mut event {
        record.seller.user_id = BUYER.to_owned();
    }
    let plan = after(&[event, paid()]);
    let told: Vec<_> = lines(&plan);
    assert_eq!(
        told,
        ["u-buyer live", "u-buyer email", "u-buyer live: already told", "u-buyer email: already told"]
    );
}
