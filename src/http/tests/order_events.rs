//! The way in over HTTP: what is published, what is refused, and that a repeat is the same event.

use serde_json::json;

use super::*;

const PATH: &str = "/api/order-events/handle";
const SHIPPED: &str =
    r#"{"orderId":"o-1","eventType":"ORDER_SHIPPED","eventData":{"carrier":"DHL","trackingNumber":"JD1"}}"#;

#[tokio::test]
async fn an_event_is_published_for_the_callers_tenant_and_answered_after_the_acknowledgement() {
    each_engine(async |db| {
        let api = Api::new(db);
        let service = api.token("erp", &[Role::Service], "shop");
        let answer = api.post_as(&service, PATH, None, SHIPPED).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        let event = api.published.taken.lock().unwrap().remove(0);
        let expected =
            json!({"eventId": event.meta().event_id, "topic": "orders.events", "partition": 0, "offset": 0});
        assert_eq!(answer.json(), expected);
        assert_eq!(event.event_type(), EventType::OrderShipped);
        let meta = event.meta();
        assert_eq!((meta.tenant_id.as_str(), meta.order_id.as_str()), ("shop", "o-1"));
        assert_eq!(meta.actor.as_ref().unwrap().id, "erp");

        let numbered = r#"{"orderId":18446744073709551615,"eventType":"OrderCompletedEvent"}"#;
        assert_eq!(api.post_as(&service, PATH, None, numbered).await.status, StatusCode::ACCEPTED);
        assert_eq!(api.published.taken.lock().unwrap()[0].meta().order_id, "18446744073709551615");
    })
    .await;
}

#[tokio::test]
async fn data_that_is_left_out_comes_from_the_stored_order_of_the_same_tenant() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        let service = api.token("erp", &[Role::Service], "shop");
        let body = r#"{"orderId":"o-1","eventType":"order.paid"}"#;
        let answer = api.post_as(&service, PATH, None, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        let Event::OrderPaid(paid) = api.published.taken.lock().unwrap().remove(0) else {
            panic!("another type was published");
        };
        assert_eq!((paid.payment_id.as_str(), paid.amount.amount_minor), ("pay-1", 1_999));
        assert_eq!(paid.order.unwrap().order_number, 7);
        let delivered = r#"{"orderId":"o-1","eventType":"order.delivered","eventData":{"deliveredAt":"2026-01-31T08:00:00Z"}}"#;
        assert_eq!(api.post_as(&service, PATH, None, delivered).await.status, StatusCode::ACCEPTED);
        let enriched = api.published.taken.lock().unwrap().remove(0);
        assert_eq!(enriched.snapshot().unwrap().items.len(), 1, "the event says how the order is after it");

        let foreign = api.token("erp", &[Role::Service], "other");
        for (token, order) in [(&foreign, "o-1"), (&service, "o-9")] {
            let body = format!(r#"{{"orderId":"{order}","eventType":"order.paid"}}"#);
            let answer = api.post_as(token, PATH, None, &body).await;
            assert_eq!(answer.problem(), (404, "order_not_found".to_owned()), "{order}");
        }
        let refund = r#"{"orderId":"o-1","eventType":"order.refunded"}"#;
        let answer = api.post_as(&service, PATH, None, refund).await;
        assert_eq!(answer.json()["errors"][0]["field"], "eventData", "{}", answer.text);
        assert!(api.published.taken.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_right_is_refused_by_name_and_nothing_is_published() {
    each_engine(async |db| {
        let api = Api::new(db);
        let service = api.token("erp", &[Role::Service], "shop");
        let cases = [
            ("{", 400, "malformed_json", ""),
            ("[]", 422, "invalid_fields", ""),
            (r#"{"eventType":"order.paid"}"#, 422, "invalid_fields", "orderId"),
            (r#"{"orderId":1.5,"eventType":"order.paid"}"#, 422, "invalid_fields", "orderId"),
            (r#"{"orderId":-1,"eventType":"order.paid"}"#, 422, "invalid_fields", "orderId"),
            (r#"{"orderId":" ","eventType":"order.paid"}"#, 422, "invalid_fields", "orderId"),
            (r#"{"orderId":"1","eventType":"order.payed"}"#, 422, "unknown_event_type", "eventType"),
            (r#"{"orderId":"1","eventType":"order.paid","tenantId":"x"}"#, 422, "invalid_fields", "tenantId"),
            (r#"{"orderId":"1","eventType":"order.paid","eventData":7}"#, 422, "invalid_fields", "eventData"),
            (
                r#"{"orderId":"1","eventType":"order.shipped","eventData":{"carrier":"DHL","wheels":4}}"#,
                422,
                "invalid_fields",
                "eventData.trackingNumber",
            ),
        ];
        for (body, status, code, field) in cases {
            let answer = api.post_as(&service, PATH, None, body).await;
            assert_eq!(answer.problem(), (status, code.to_owned()), "{body}: {}", answer.text);
            let json = answer.json();
            let fields: Vec<_> =
                json["errors"].as_array().into_iter().flatten().filter_map(|e| e["field"].as_str()).collect();
            assert!(field.is_empty() || fields.contains(&field), "{body}: {fields:?}");
        }
        let unknown = r#"{"orderId":"1","eventType":"order.shipped","eventData":{"carrier":"D","trackingNumber":"1","wheels":4}}"#;
        let answer = api.post_as(&service, PATH, None, unknown).await;
        assert_eq!(answer.json()["errors"][0]["field"], "eventData.wheels");

        let large = format!(r#"{{"orderId":"1","eventType":"order.paid","x":"{}"}}"#, "x".repeat(64 * 1024));
        assert_eq!(api.post_as(&service, PATH, None, &large).await.problem(), (413, "too_large".to_owned()));
        assert_eq!(api.post_as(&service, PATH, Some("k"), &large).await.problem(), (413, "too_large".to_owned()));
        let text = request("POST", PATH).header("authorization", &service).header("content-type", "text/plain");
        let answer = api.ask(text.body(Body::from(SHIPPED)).unwrap()).await;
        assert_eq!(answer.problem(), (415, "unsupported_media_type".to_owned()));
        let user = r#"{"orderId":"1","eventType":"user.updated","eventData":{"userId":"u"}}"#;
        let answer = api.post_as(&service, PATH, None, user).await;
        assert_eq!(answer.problem(), (403, "role_not_allowed".to_owned()), "the topology says who publishes what");
        assert!(api.published.taken.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_kafka_refuses_is_said_as_it_is() {
    each_engine(async |db| {
        let api = Api::new(db);
        let service = api.token("erp", &[Role::Service], "shop");
        let words = || "because".to_owned();
        for (refused, status, code) in [
            (PublishRefused::KafkaUnavailable(words()), 503, "kafka_unavailable"),
            (PublishRefused::RegistryUnavailable(words()), 503, "registry_unavailable"),
            (PublishRefused::TooLarge(words()), 413, "too_large"),
            (PublishRefused::Invalid(words()), 422, "invalid_fields"),
            (PublishRefused::Misconfigured(words()), 500, "internal"),
        ] {
            *api.published.refuse.lock().unwrap() = Some(refused);
            let answer = api.post_as(&service, PATH, None, SHIPPED).await;
            assert_eq!(answer.problem(), (status, code.to_owned()));
            assert_eq!(answer.headers.contains_key("retry-after"), status == 503);
        }
    })
    .await;
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_publishes_nothing_more() {
    each_engine(async |db| {
        let api = Api::new(db);
        let service = api.token("erp", &[Role::Service], "shop");
        let first = api.post_as(&service, PATH, Some("key-1"), SHIPPED).await;
        let again = api.post_as(&service, PATH, Some("key-1"), SHIPPED).await;
        assert_eq!((first.status, &first.text), (again.status, &again.text));
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(api.published.taken.lock().unwrap().len(), 1);

        let other = SHIPPED.replace("o-1", "o-2");
        let answer = api.post_as(&service, PATH, Some("key-1"), &other).await;
        assert_eq!(answer.problem(), (422, "idempotency_key_reused".to_owned()));
        let foreign = api.token("erp", &[Role::Service], "other");
        let theirs = api.post_as(&foreign, PATH, Some("key-1"), SHIPPED).await;
        assert_ne!(theirs.json()["eventId"], first.json()["eventId"], "tenants share no keys");
        for bad in ["", "a b", &"x".repeat(256)] {
            let answer = api.post_as(&service, PATH, Some(bad), SHIPPED).await;
            assert_eq!(answer.json()["errors"][0]["field"], "Idempotency-Key", "{bad}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_tried_again_after_a_failure_publishes_the_very_same_event() {
    each_engine(async |db| {
        let mut api = Api::new(db);
        let clock = Clock::manual(api.parts.clock.now_ms());
        api.parts.clock = clock.clone();
        let service = api.token("erp", &[Role::Service], "shop");
        *api.published.refuse.lock().unwrap() = Some(PublishRefused::KafkaUnavailable("away".to_owned()));
        assert_eq!(api.post_as(&service, PATH, Some("k"), SHIPPED).await.status.as_u16(), 503);
        *api.published.refuse.lock().unwrap() = None;
        clock.advance(Duration::from_secs(5));
        assert_eq!(api.post_as(&service, PATH, Some("k"), SHIPPED).await.status.as_u16(), 202);
        let event = api.published.taken.lock().unwrap().remove(0);
        assert_eq!(event.meta().occurred_at, clock.now_ms() - 5_000, "the time of the first try");
        let first_seen_ms = clock.now_ms() - 5_000;
        let id = crate::event::event_id_for_key("shop", "k", first_seen_ms);
        assert_eq!(event.meta().event_id, id.to_string());

        let wrong = r#"{"orderId":"o-1","eventType":"nope"}"#;
        assert_eq!(api.post_as(&service, PATH, Some("k2"), wrong).await.status.as_u16(), 422);
        let corrected = api.post_as(&service, PATH, Some("k2"), SHIPPED).await;
        assert_eq!(corrected.status.as_u16(), 202, "a refused request leaves its key free");
    })
    .await;
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_not_made_anew_from_an_order_that_has_gone_on() {
    each_engine(async |db| {
        let api = Api::new(db);
        let service = api.token("erp", &[Role::Service], "shop");
        let first = api.post_as(&service, PATH, Some("k"), SHIPPED).await.json();
        let mut events = vec![api.published.taken.lock().unwrap().remove(0)];
        events.extend(life_of_an_order("shop", "o-1"));
        api.remember("shop", "o-1", events).await;
        api.lose_answer("k").await;
        let again = api.post_as(&service, PATH, Some("k"), SHIPPED).await;
        let place =
            json!({"eventId": first["eventId"], "topic": "orders.events", "partition": 0, "offset": 1});
        assert_eq!((again.status, again.json()), (StatusCode::ACCEPTED, place), "where the history read it");
        assert!(api.published.taken.lock().unwrap().is_empty(), "one id with two contents is a conflict");
    })
    .await;
}

#[tokio::test]
async fn a_key_used_again_after_it_was_forgotten_names_another_event() {
    each_engine(async |db| {
        let mut api = Api::new(db);
        let clock = Clock::manual(api.parts.clock.now_ms());
        api.parts.clock = clock.clone();
        let service = api.token("erp", &[Role::Service], "shop");
        let first = api.post_as(&service, PATH, Some("k"), SHIPPED).await;
        clock.advance(api.parts.options.idempotency_ttl + Duration::from_secs(1));
        let other = SHIPPED.replace("o-1", "o-2");
        let later = api.post_as(&service, PATH, Some("k"), &other).await;
        assert_eq!((first.status.as_u16(), later.status.as_u16()), (202, 202));
        assert_ne!(
            first.json()["eventId"],
            later.json()["eventId"],
            "one id with two contents is a conflict"
        );
    })
    .await;
}
