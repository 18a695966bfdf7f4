//! The body of a webhook request: a pure function of the record's bytes, byte-identical on every attempt, replay
//! and resend. Key order is fixed, what the event doesn't carry is absent, and personal data (names, mail,
//! phone, addresses, free descriptions) is never in it.
//!
//! `data` tells of the order; of a job it tells what the worker reported, and nothing else. Amounts are decimal numbers in
//! the currency's main unit, written digit by digit (`129.90`), never computed in floating point. The time of the request is no part of it; it travels in `webhook-timestamp`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::facts::{Facts, Payment, Shipment};
use crate::clock::rfc3339;
use crate::event::{Event, LineItem, Money, OrderStatus};

/// The `webhook-id` of an event, which is also the body's `id`.
pub(super) fn webhook_id(event_id: Uuid) -> String {
    format!("evt_{event_id}")
}

/// The body for `event`, whose identity is `event_id`.
pub(super) fn body(event: &Event, event_id: Uuid) -> Bytes {
    let meta = event.meta();
    let snapshot = event.snapshot();
    let mut facts = Facts::of(event);
    if let Some(work) = facts.work.take() {
        return written(event, event_id, work);
    }
    let status = snapshot.map(|order| order.status).filter(|status| *status != OrderStatus::Unknown);
    let total = snapshot.map(|order| &order.total).or(facts.total);
    let items = snapshot.map(|order| order.items.as_slice()).or(facts.items);
    let mut metadata = facts.metadata;
    if let Some(correlation_id) = &meta.correlation_id {
        metadata.insert("correlationId", correlation_id.as_str().into());
    }
    let data = Order {
        order_id: &meta.order_id,
        order_number: snapshot.map(|order| order.order_number).or(facts.order_number),
        customer_id: meta
            .customer_id
            .as_deref()
            .or(snapshot.and_then(|order| order.customer_id.as_deref()))
            .or(facts.customer_id),
        status: status.or(facts.status),
        status_changed_at: facts.status.map(|_| rfc3339(meta.occurred_at)),
        total: total.map(decimal),
        currency: total.map(|total| total.currency.as_str()),
        items: items.map(|items| items.iter().map(Item::of).collect()),
        payment_info: facts.payment.as_ref().map(PaymentInfo::of),
        shipment: facts.shipment.as_ref().map(ShipmentInfo::of),
        metadata,
    };
    written(event, event_id, data)
}

fn written(event: &Event, event_id: Uuid, data: impl Serialize) -> Bytes {
    let body = Body {
        id: webhook_id(event_id),
        event: event.event_type().as_str(),
        created: rfc3339(event.meta().occurred_at),
        data,
    };
    let text = serde_json::to_vec(&body).expect("strings, numbers and maps with text keys are always JSON");
    Bytes::from(text)
}

#[derive(Serialize)]
struct Body<D> {
    id: String,
    event: &'static str,
    created: String,
    data: D,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    order_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<OrderStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_changed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<Item<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_info: Option<PaymentInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment: Option<ShipmentInfo<'a>>,
    metadata: BTreeMap<&'static str, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<&'a str>,
    title: &'a str,
    quantity: i32,
    unit_price: Box<RawValue>,
    currency: &'a str,
}

impl<'a> Item<'a> {
    fn of(line: &'a LineItem) -> Self {
        Self {
            product_id: &line.product_id,
            sku: line.sku.as_deref(),
            title: &line.title,
            quantity: line.quantity,
            unit_price: decimal(&line.unit_price),
            currency: &line.unit_price.currency,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    amount: Box<RawValue>,
    currency: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_code: Option<&'a str>,
}

impl<'a> PaymentInfo<'a> {
    fn of(payment: &Payment<'a>) -> Self {
        Self {
            payment_id: payment.payment_id,
            refund_id: payment.refund_id,
            method: payment.method,
            amount: decimal(payment.amount),
            currency: &payment.amount.currency,
            failure_code: payment.failure_code,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShipmentInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_delivery: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<String>,
}

impl<'a> ShipmentInfo<'a> {
    fn of(shipment: &Shipment<'a>) -> Self {
        Self {
            shipment_id: shipment.shipment_id,
            carrier: shipment.carrier,
            tracking_number: shipment.tracking_number,
            tracking_url: shipment.tracking_url,
            status: shipment.status,
            estimated_delivery: shipment.estimated_delivery.map(rfc3339),
            delivered_at: shipment.delivered_at.map(rfc3339),
        }
    }
}

/// `money` as a JSON number in the currency's main unit.
fn decimal(money: &Money) -> Box<RawValue> {
    let places = decimals(&money.currency);
    let sign = if money.amount_minor < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", money.amount_minor.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let point = if places == 0 { "" } else { "." };
    RawValue::from_string(format!("{sign}{whole}{point}{fraction}"))
        .expect("digits with a point are a JSON number")
}

/// Decimal places of a currency (ISO 4217); two, where nothing else is known.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, Factory, OrderSnapshot, Party};

    const AT: i64 = 1_760_000_000_123;
    const ID: Uuid = Uuid::from_u128(0x0199_8a00_0000_7000_8000_0000_0000_0001);

    #[test]
    fn the_body_of_a_shipment_is_this_to_the_byte() {
        let factory = Factory::new("shop", "test").customer("c-7").correlated("r-1");
        let mut shipped = factory.order_shipped("o-1", AT, "DHL", "JD01");
        shipped.tracking_url = Some("https://example.com/JD01".to_owned());
        shipped.order = Some(OrderSnapshot {
            order_number: 1001,
            status: OrderStatus::Shipped,
            customer_id: None,
            total: Money::new(12_990, "EUR"),
            items: vec![LineItem {
                product_id: "p-1".to_owned(),
                sku: None,
                title: "Lamp \"Ö\"".to_owned(),
                quantity: 2,
                unit_price: Money::new(6_495, "EUR"),
            }],
        });
        let expected = concat!(
            r#"{"id":"evt_01998a00-0000-7000-8000-000000000001","event":"order.shipped","#,
            r#""created":"2025-10-09T08:53:20.123Z","data":{"orderId":"o-1","orderNumber":1001,"customerId":"c-7","#,
            r#""status":"shipped","statusChangedAt":"2025-10-09T08:53:20.123Z","total":129.90,"currency":"EUR","#,
            r#""items":[{"productId":"p-1","title":"Lamp \"Ö\"","quantity":2,"unitPrice":64.95,"currency":"EUR"}],"#,
            r#""shipment":{"carrier":"DHL","trackingNumber":"JD01","trackingUrl":"https://example.com/JD01"},"#,
            r#""metadata":{"correlationId":"r-1"}}}"#,
        );
        assert_eq!(String::from_utf8(body(&shipped.into(), ID).to_vec()).unwrap(), expected);
    }

    #[test]
    fn what_the_event_does_not_carry_is_absent() {
        let paid: Event =
            Factory::new("shop", "test").order_paid("o-1", AT, "pay-1", "card", Money::new(5, "EUR")).into();
        let expected = concat!(
            r#"{"id":"evt_01998a00-0000-7000-8000-000000000001","event":"order.paid","#,
            r#""created":"2025-10-09T08:53:20.123Z","data":{"orderId":"o-1","status":"paid","#,
            r#""statusChangedAt":"2025-10-09T08:53:20.123Z","#,
            r#""paymentInfo":{"paymentId":"pay-1","method":"card","amount":0.05,"currency":"EUR"},"metadata":{}}}"#,
        );
        assert_eq!(String::from_utf8(body(&paid, ID).to_vec()).unwrap(), expected);
    }

    #[test]
    fn the_data_of_a_job_is_what_its_worker_reports_and_nothing_else() {
        let factory = Factory::new("shop", "test").correlated("r-1");
        let data = |event: Event| {
            let text = String::from_utf8(body(&event, ID).to_vec()).unwrap();
            text.split_once(r#""data":"#).unwrap().1.to_owned()
        };
        let enqueued = factory.job_enqueued("j-1", AT, "j-1", "mail", "mails");
        assert_eq!(
            data(enqueued.into()),
            r#"{"queueName":"mails","jobId":"j-1","jobType":"mail","status":"enqueued"}}"#
        );
        let started = factory.job_started("j-1", AT, "j-1", "mail", "mails", "w-1");
        assert_eq!(
            data(started.into()),
            r#"{"workerId":"w-1","queueName":"mails","jobId":"j-1","jobType":"mail","status":"started"}}"#
        );
        let completed = factory.job_completed("j-1", AT, "j-1", "mail", "mails", "w-1", 250);
        assert_eq!(
            data(completed.into()),
            concat!(
                r#"{"workerId":"w-1","queueName":"mails","jobId":"j-1","jobType":"mail","status":"completed","#,
                r#""processingTime":250}}"#
            )
        );
        let failed =
            factory.job_failed("j-1", AT, "j-1", "mail", "mails", "card 4111 1111 1111 1111 refused");
        assert_eq!(
            data(failed.into()),
            concat!(
                r#"{"queueName":"mails","jobId":"j-1","jobType":"mail","status":"failed","#,
                r#""error":"card **** **** **** 1111 refused"}}"#
            )
        );
    }

    #[test]
    fn amounts_are_written_by_the_decimals_of_their_currency() {
        for (minor, currency, expected) in [
            (12_990, "EUR", "129.90"),
            (5, "EUR", "0.05"),
            (-1_999, "USD", "-19.99"),
            (500, "JPY", "500"),
            (1_234, "KWD", "1.234"),
            (i64::MIN, "EUR", "-92233720368547758.08"),
        ] {
            assert_eq!(decimal(&Money::new(minor, currency)).get(), expected);
        }
    }

    #[test]
    fn personal_data_stays_out() {
        let mark = || Some("PERSONAL".to_owned());
        let party = || Party {
            user_id: "u-1".to_owned(),
            name: mark(),
            email: mark(),
            phone: mark(),
            ..Party::default()
        };
        let factory = Factory::new("shop", "test");
        let mut created =
            factory.order_created("o-1", AT, 7, party(), party(), Vec::new(), Money::new(5, "EUR"));
        created.shipping_address =
            Some(Address { recipient: mark(), line1: "PERSONAL".to_owned(), ..Address::default() });
        let mut delivered = factory.order_delivered("o-1", AT, AT);
        delivered.signed_by = mark();
        let mut disputed = factory.dispute_initiated("o-1", AT, "d-1", "u-1", "damaged");
        disputed.description = mark();
        let mut evidence = factory.dispute_evidence_submitted("o-1", AT, "d-1", "e-1", "u-1", "photo");
        evidence.description = mark();
        let mut user = factory.user_updated("o-1", AT, "u-1");
        (user.name, user.email, user.phone) = (mark(), mark(), mark());
        let sent = factory.email_sent("o-1", AT, "shipped", "PERSONAL", "m-1");
        let mut events: Vec<Event> = vec![created.into(), delivered.into(), disputed.into(), evidence.into()];
        events.extend([Event::from(user), sent.into()]);
        for mut event in events {
            event.meta_mut().ip = mark();
            event.meta_mut().user_agent = mark();
            let text = String::from_utf8(body(&event, ID).to_vec()).unwrap();
            assert!(!text.contains("PERSONAL"), "{text}");
        }
    }
}
