//! The JSON form there and back, what is hidden in it, and what is said about faulty input.

use serde_json::json;

use super::*;
use crate::event::{Address, Factory, LineItem, Money, OrderCreated, OrderSnapshot, Party};

fn created() -> OrderCreated {
    let factory = Factory::new("shop-1", "checkout").correlated("c-1").customer("u-1");
    let buyer = Party {
        user_id: "u-1".into(),
        name: Some("Ada".into()),
        email: Some("ada@example.com".into()),
        ..Party::default()
    };
    let seller = Party { user_id: "u-2".into(), ..Party::default() };
    let line = LineItem {
        product_id: "p-1".into(),
        title: "Card 4111 1111 1111 1111".into(),
        quantity: 2,
        unit_price: Money::new(995, "EUR"),
        sku: None,
    };
    let mut created = factory.order_created(
        "o-1",
        1_760_000_000_123,
        1001,
        buyer,
        seller,
        vec![line],
        Money::new(1990, "EUR"),
    );
    created.shipping_address = Some(Address {
        line1: "Weg 1".into(),
        city: "Bern".into(),
        country: "CH".into(),
        ..Address::default()
    });
    created.order = Some(OrderSnapshot {
        order_number: 1001,
        total: Money::new(1990, "EUR"),
        ..OrderSnapshot::default()
    });
    created.meta.ip = Some("192.0.2.1".into());
    created
}

#[test]
fn an_event_comes_back_as_it_went() {
    let event: Event = created().into();
    let json = event.to_json();
    assert_eq!(json["type"], "order.created");
    assert_eq!(json["id"], event.meta().event_id);
    assert_eq!(json["occurredAt"], "2025-10-09T08:53:20.123Z");
    assert_eq!(json["customerId"], "u-1");
    assert_eq!(json["causationId"], Value::Null);
    assert_eq!(json["data"]["lines"][0]["unitPrice"], json!({"amountMinor": 995, "currency": "EUR"}));
    assert_eq!(json["data"].get("estimatedDelivery"), None);
    assert_eq!(Event::from_json(&json, &Defaults::default()), Ok(event));
}

#[test]
fn personal_data_and_card_numbers_are_hidden_and_the_rest_stays() {
    let event: Event = created().into();
    let json = event.to_json_masked();
    let text = json.to_string();
    for secret in ["Ada", "ada@example.com", "Weg 1", "Bern", "192.0.2.1", "4111 1111"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(json["data"]["buyer"], json!({"userId": "u-1", "name": "***", "email": "***"}));
    assert_eq!(json["data"]["lines"][0]["title"], "Card **** **** **** 1111");
    assert_eq!(json["id"], event.meta().event_id);
    assert_eq!(json["ip"], "***");
}

#[test]
fn what_is_left_out_comes_from_the_defaults() {
    let defaults = Defaults {
        now_ms: 5,
        event_type: Some(EventType::OrderCancelled),
        tenant_id: Some("shop-1".into()),
        source: Some("api".into()),
        ..Defaults::default()
    };
    let json = json!({"orderId": 42, "data": {"reason": "changed my mind"}});
    let event = Event::from_json(&json, &defaults).expect("it is complete");
    assert_eq!((event.meta().order_id.as_str(), event.meta().occurred_at), ("42", 5));
    assert_eq!(event.meta().tenant_id, "shop-1");
    assert!(uuid::Uuid::parse_str(&event.meta().event_id).is_ok());
}

#[test]
fn every_fault_is_named_with_its_place() {
    let json = json!({
        "type": "ORDER_SHIPPED", "id": "7", "orderId": "", "tenantId": "t", "ocurredAt": 1, "schemaVersion": 9,
        "data": {"carier": "DHL", "trackingNumber": 7, "estimatedDelivery": "soon", "order": {"status": "lost", "items": [{}]}}
    });
    let FieldErrors(errors) =
        Event::from_json(&json, &Defaults::default()).expect_err("it is full of faults");
    let said =
        |field: &str| errors.iter().find(|e| e.field == field).map(|e| e.message.clone()).unwrap_or_default();
    assert_eq!(said("data.carier"), "is unknown; did you mean `carrier`?");
    assert_eq!(said("data.carrier"), "is required");
    assert_eq!(said("data.trackingNumber"), "must be a string");
    assert_eq!(said("data.estimatedDelivery"), "must be a time of RFC 3339");
    assert!(said("data.order.status").starts_with("must be one of unknown, created"));
    assert_eq!(said("data.order.items[0].unitPrice"), "is required");
    assert_eq!(said("ocurredAt"), "is unknown; did you mean `occurredAt`?");
    assert_eq!(said("id"), "must be a UUID");
    assert_eq!(said("orderId"), "must not be empty");
    assert_eq!(said("schemaVersion"), "must be between 1 and 2");
}

#[test]
fn values_that_nobody_could_use_are_refused_before_they_are_published() {
    let paid = |change: fn(&mut Value)| {
        let amount = json!({"amountMinor": 5, "currency": "EUR"});
        let data = json!({"paymentId": "p", "method": "card", "amount": amount});
        let mut json = json!({"type": "order.paid", "orderId": "o-1", "tenantId": "t", "data": data});
        change(&mut json);
        let errors = Event::from_json(&json, &Defaults::default()).err();
        errors.map(|errors| errors.to_string()).unwrap_or_default()
    };
    assert_eq!(paid(|_| {}), "");
    let wrong = "data.amount.currency: must be a code of ISO 4217, such as EUR";
    assert_eq!(paid(|json| json["data"]["amount"]["currency"] = "euro".into()), wrong);
    assert_eq!(paid(|json| json["data"]["amount"]["currency"] = "eur".into()), wrong);
    let never = paid(|json| json["occurredAt"] = i64::MAX.into());
    assert_eq!(never, "occurredAt: must be a time of RFC 3339 or milliseconds since the epoch");
    let ids = "must have at most 255 bytes and no control characters";
    assert_eq!(paid(|json| json["orderId"] = "o\u{0}1".into()), format!("orderId: {ids}"));
    assert_eq!(paid(|json| json["tenantId"] = "t".repeat(256).into()), format!("tenantId: {ids}"));
}

#[test]
fn unknown_types_and_other_json_are_refused() {
    let refuse =
        |json: Value| Event::from_json(&json, &Defaults::default()).expect_err("refused").to_string();
    assert!(refuse(json!({"type": "order.shiped"})).contains("did you mean `order.shipped`?"));
    assert_eq!(refuse(json!([])), "event: must be an object");
    assert_eq!(refuse(json!({})), "type: is required");
}
