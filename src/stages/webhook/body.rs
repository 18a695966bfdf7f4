//! The body of a webhook request: a pure function of the record's bytes, byte-identical on every attempt, replay
//! and resend. Key order is fixed, what the event doesn't carry is absent, and personal data (names, mail,
//! phone, addresses, free descriptions) is never in it.
//!
//! `data` tells of the order; of a job it tells what the worker reported, and nothing else. Amounts are decimal numbers in
//! the currency's main unit, written digit by digit (`129.90`), never computed in floating point. The time of the request is no part of it; it travels in `webhook-timestamp`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::ser::{Error as _, Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::facts::{Facts, Payment, Shipment};
use crate::clock::rfc3339;
use crate::event::{Event, LineItem, Money, OrderStatus};

/// Bytes that most bodies stay below; what is longer grows.
const ROOM: usize = 1_000;

/// The `webhook-id` of an event, which is also the body's `id`: `evt_` and the event's id.
#[derive(Debug, Clone, Copy)]
pub(super) struct WebhookId([u8; WebhookId::LEN]);

impl WebhookId {
    const PREFIX: &str = "evt_";
    const LEN: usize = Self::PREFIX.len() + uuid::fmt::Hyphenated::LENGTH;

    /// The one of the event called `event_id`.
    pub(super) fn of(event_id: Uuid) -> Self {
        let mut text = [0; Self::LEN];
        let (prefix, id) = text.split_at_mut(Self::PREFIX.len());
        prefix.copy_from_slice(Self::PREFIX.as_bytes());
        event_id.hyphenated().encode_lower(id);
        Self(text)
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters, digits and hyphens are ASCII")
    }

    /// The event's id alone.
    pub(super) fn event_id(&self) -> &str {
        &self.as_str()[Self::PREFIX.len()..]
    }
}

/// The body for `event`, whose identity is `event_id`.
pub(super) fn body(event: &Event, event_id: Uuid) -> Bytes {
    let meta = event.meta();
    let snapshot = event.snapshot();
    let (id, at) = (WebhookId::of(event_id), rfc3339(meta.occurred_at));
    let mut facts = Facts::of(event);
    if let Some(work) = facts.work.take() {
        return written(event, &id, &at, work);
    }
    let status = snapshot.map(|order| order.status).filter(|status| *status != OrderStatus::Unknown);
    let total = snapshot.map(|order| &order.total).or(facts.total);
    let items = snapshot.map(|order| order.items.as_slice()).or(facts.items);
    let data = Order {
        order_id: &meta.order_id,
        order_number: snapshot.map(|order| order.order_number).or(facts.order_number),
        customer_id: meta
            .customer_id
            .as_deref()
            .or(snapshot.and_then(|order| order.customer_id.as_deref()))
            .or(facts.customer_id),
        status: status.or(facts.status),
        status_changed_at: facts.status.map(|_| at.as_str()),
        total: total.map(Decimal),
        currency: total.map(|total| total.currency.as_str()),
        items: items.map(Items),
        payment_info: facts.payment.as_ref().map(PaymentInfo::of),
        shipment: facts.shipment.as_ref().map(ShipmentInfo::of),
        metadata: Metadata { facts: &facts.metadata, correlation_id: meta.correlation_id.as_deref() },
    };
    written(event, &id, &at, data)
}

fn written(event: &Event, id: &WebhookId, created: &str, data: impl Serialize) -> Bytes {
    let body = Body { id: id.as_str(), event: event.event_type().as_str(), created, data };
    let mut text = Vec::with_capacity(ROOM);
    serde_json::to_writer(&mut text, &body)
        .expect("strings, numbers and maps with text keys are always JSON");
    // It is kept until every endpoint has it, in no more memory than it needs.
    Bytes::copy_from_slice(&text)
}

#[derive(serde::Serialize)]
struct Body<'a, D> {
    id: &'a str,
    event: &'static str,
    created: &'a str,
    data: D,
}

#[derive(serde::Serialize)]
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
    status_changed_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Decimal<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Items<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_info: Option<PaymentInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment: Option<ShipmentInfo<'a>>,
    metadata: Metadata<'a>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<&'a str>,
    title: &'a str,
    quantity: i32,
    unit_price: Decimal<'a>,
    currency: &'a str,
}

impl<'a> Item<'a> {
    fn of(line: &'a LineItem) -> Self {
        Self {
            product_id: &line.product_id,
            sku: line.sku.as_deref(),
            title: &line.title,
            quantity: line.quantity,
            unit_price: Decimal(&line.unit_price),
            currency: &line.unit_price.currency,
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    amount: Decimal<'a>,
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
            amount: Decimal(payment.amount),
            currency: &payment.amount.currency,
            failure_code: payment.failure_code,
        }
    }
}

#[derive(serde::Serialize)]
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

/// What was ordered.
struct Items<'a>(&'a [LineItem]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Item::of))
    }
}

/// What an event tells besides, by name, with the correlation id among it.
struct Metadata<'a> {
    facts: &'a BTreeMap<&'static str, Value>,
    correlation_id: Option<&'a str>,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const CORRELATION_ID: &str = "correlationId";
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.facts.range(..CORRELATION_ID) {
            map.serialize_entry(name, value)?;
        }
        if let Some(correlation_id) = self.correlation_id {
            map.serialize_entry(CORRELATION_ID, correlation_id)?;
        }
        for (name, value) in self.facts.range(CORRELATION_ID..) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// An amount as a JSON number in the currency's main unit.
struct Decimal<'a>(&'a Money);

impl Serialize for Decimal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Room for 64 bits in decimal, a point and a sign.
        let (mut text, mut at) = ([0; 24], 24);
        let mut put = |byte: u8| {
            at -= 1;
            text[at] = byte;
        };
        let (mut left, places) = (self.0.amount_minor.unsigned_abs(), decimals(&self.0.currency));
        for place in 0.. {
            if place > places && left == 0 {
                break;
            }
            if place == places && places > 0 {
                put(b'.');
            }
            put(b"0123456789"[(left % 10) as usize]);
            left /= 10;
        }
        if self.0.amount_minor < 0 {
            put(b'-');
        }
        let number: &RawValue = serde_json::from_slice(&text[at..]).map_err(S::Error::custom)?;
        number.serialize(serializer)
    }
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
            (0, "EUR", "0.00"),
            (0, "JPY", "0"),
            (100, "EUR", "1.00"),
            (-1_999, "USD", "-19.99"),
            (500, "JPY", "500"),
            (1_234, "KWD", "1.234"),
            (-1, "CLF", "-0.0001"),
            (i64::MIN, "EUR", "-92233720368547758.08"),
        ] {
            assert_eq!(serde_json::to_string(&Decimal(&Money::new(minor, currency))).unwrap(), expected);
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
