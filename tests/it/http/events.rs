//! An event goes in over HTTP and comes out of the history, in its own tenant.

use std::time::Duration;

use orderflow::event::Decoded;
use orderflow::http::live::LiveOptions;
use orderflow::http::{HttpOptions, Role};
use orderflow::runtime::Producer;
use orderflow::stages::StageOptions;
use serde_json::{Value, json};

use super::TestApi;
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(30);
const HANDLE: &str = "/api/order-events/handle";

fn created(buyer: &str) -> Value {
    let total = json!({"amountMinor": 1999, "currency": "EUR"});
    json!({"orderId": 4711, "eventType": "ORDER_CREATED", "eventData": {
        "orderNumber": 7, "buyer": {"userId": buyer, "email": "ana@example.com"}, "seller": {"userId": "sam"},
        "lines": [{"productId": "p-1", "title": "Tea", "quantity": 1, "unitPrice": total}], "total": total}})
}

async fn post(api: &TestApi, token: &str, key: &str, body: &Value) -> (u16, Value) {
    let request =
        api.client.post(api.url(HANDLE)).bearer_auth(token).header("idempotency-key", key).json(body);
    let answer = request.send().await.expect("the API answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn events(api: &TestApi, token: &str) -> (u16, Value) {
    let request = api.client.get(api.url("/api/v1/orders/4711/events")).bearer_auth(token);
    let answer = request.send().await.expect("the API answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_twice_is_one_record_and_is_seen_in_its_tenant_alone() {
    let mut program = TestProgram::new("http", StageOptions::default()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let shop = api.token("erp", Role::Service, "shop");
    let (status, first) = post(&api, &shop, "k-1", &created("ana")).await;
    assert_eq!(status, 202, "{first}");
    assert_eq!(post(&api, &shop, "k-1", &created("ana")).await, (202, first.clone()));
    let other = api.token("erp", Role::Service, "other");
    assert_eq!(post(&api, &other, "k-1", &created("olga")).await.0, 202);

    let topic = program.topic("orders.events");
    let records = program.kafka.all(&topic).await;
    assert_eq!(records.len(), 2, "one for each tenant");
    let record = records
        .iter()
        .find(|record| record.offset == first["offset"] && record.partition == first["partition"]);
    let record = record.expect("the record lies where the answer says");
    assert_eq!(record.key.as_deref(), Some(b"4711".as_slice()));
    assert_eq!(record.headers.text("ce_id"), first["eventId"].as_str());
    match program.parts.codec.decode(record.payload.as_deref().expect("a value")).await.expect("it decodes") {
        Decoded::Event { event, .. } => assert_eq!(event.meta().tenant_id, "shop"),
        other => panic!("{other:?}"),
    }

    program.start(&["history"]);
    eventually("both histories have their event", SOON, || async {
        events(&api, &shop).await.0 == 200 && events(&api, &other).await.0 == 200
    })
    .await;
    let (_, seen) = events(&api, &shop).await;
    assert_eq!((&seen["count"], &seen["data"][0]["data"]["buyer"]["userId"]), (&json!(1), &json!("ana")));
    assert_eq!(seen["data"][0]["data"]["buyer"]["email"], "ana@example.com");
    let (_, masked) = events(&api, &api.token("ana", Role::Buyer, "shop")).await;
    assert_eq!(masked["data"][0]["data"]["buyer"]["email"], "***", "{masked}");
    assert_eq!(events(&api, &api.token("ana", Role::Buyer, "other")).await.0, 404);
    assert_eq!(events(&api, &api.token("olga", Role::Buyer, "shop")).await.0, 404);

    let paid = json!({"orderId": "4711", "eventType": "order.paid"});
    assert_eq!(post(&api, &shop, "k-2", &paid).await.1["errors"][0]["field"], "eventData");
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_events_are_refused_with_503_and_the_rest_answers() {
    let mut program = TestProgram::new("http-away", StageOptions::default()).await;
    let nowhere = TestKafka::at("http-away", "127.0.0.1:9".to_owned());
    program.parts.env.producer = Producer::new(&nowhere.options).expect("settings are accepted");
    let options = HttpOptions { publish_timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let api = TestApi::with(&program, LiveOptions::default(), options).await;
    let shop = api.token("erp", Role::Service, "shop");
    let (status, problem) = post(&api, &shop, "k-1", &created("ana")).await;
    assert_eq!((status, &problem["code"]), (503, &json!("kafka_unavailable")), "{problem}");
    assert_eq!(events(&api, &shop).await.0, 404);
    let ready = api.client.get(api.url("/health/ready")).send().await.expect("the API answers");
    assert_eq!(ready.status().as_u16(), 200);
    api.end().await;
    program.end().await;
}
