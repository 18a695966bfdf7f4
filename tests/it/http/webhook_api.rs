//! Endpoints over HTTP, told by the real stage: what they chose, how they are signed for through a rotation, that a pause
//! loses nothing, that a change holds when it is promised to, and what a test shows.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orderflow::admin::webhooks::{TestOf, Trials};
use orderflow::clock::Clock;
use orderflow::event::{Event, Factory};
use orderflow::http::Role;
use orderflow::http::live::LiveOptions;
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::{WebhookOptions, trial};
use reqwest::Method;
use serde_json::{Value, json};

use super::TestApi;
use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request, verified_in_python};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

fn options() -> StageOptions {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    StageOptions { webhook, ..StageOptions::default() }
}

/// Asks as the partner `p-1` of the shop; the answer must be a success.
async fn ask(api: &TestApi, method: Method, path: &str, body: Value) -> Value {
    let token = api.token("p-1", Role::Partner, "shop");
    let request = api.client.request(method.clone(), api.url(path)).bearer_auth(token);
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send().await.expect("the API answers");
    let status = answer.status();
    let text = answer.text().await.expect("text");
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

fn shipped(order: &str, carrier: &str) -> Event {
    Factory::new("shop", "it").order_shipped(order, NOW, carrier, "JD01").into()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Whether the Rust library takes the request under `secret`.
fn verifies(secret: &str, request: &Request) -> bool {
    let library = standardwebhooks::Webhook::new(secret).expect("a secret");
    library.verify(&request.body, &request.headers).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_verify_before_during_and_after_a_rotation_and_are_those_that_were_chosen() {
    let mut program = TestProgram::new("rotated", options()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    let body = json!({
        "url": receiver.url(), "events": ["ORDER_*"], "filter": "$[?$.data.shipment.carrier == 'DHL']",
        "headers": {"Authorization": "Bearer t0ken"}, "concurrency": 2, "rate": 1000,
    });
    let made = ask(&api, Method::POST, "/api/webhooks", body).await;
    let path = format!("/api/webhooks/{}", text(&made, "id"));
    program.start(&["webhook"]);
    let told = async |order: &str| {
        let before = receiver.count();
        // These are not chosen: another carrier, another family, and no carrier at all.
        program.publish(&shipped(order, "UPS")).await;
        program.publish(&Factory::new("shop", "it").order_completed(order, NOW).into()).await;
        program.publish(&shipped(order, "DHL")).await;
        eventually("it is told", SOON, async || receiver.count() == before + 1).await;
        receiver.requests().remove(before)
    };
    let first = text(&made, "secret").to_owned();
    let before = told("o-1").await;
    assert_eq!(before.json()["data"]["shipment"]["carrier"], "DHL");
    assert_eq!(before.header("authorization"), "Bearer t0ken");
    assert!(verifies(&first, &before));
    verified_in_python(&first, &before);

    let rotate = format!("{path}/rotate-secret");
    let second = ask(&api, Method::POST, &rotate, json!({"overlap": 3_600_000})).await;
    let second = text(&second, "secret").to_owned();
    let during = told("o-2").await;
    for secret in [&first, &second] {
        assert!(verifies(secret, &during), "both sign");
        verified_in_python(secret, &during);
    }

    let third = ask(&api, Method::POST, &rotate, json!({"overlap": 0})).await;
    let third = text(&third, "secret").to_owned();
    let after = told("o-3").await;
    assert!(verifies(&third, &after) && !verifies(&first, &after) && !verifies(&second, &after));
    verified_in_python(&third, &after);

    let pair = ask(&api, Method::POST, &rotate, json!({"signature": "ed25519", "overlap": 0})).await;
    assert_eq!((&pair["secret"], &pair["signature"]), (&Value::Null, &json!("ed25519")));
    let signed = told("o-4").await;
    let shown = ask(&api, Method::GET, &path, Value::Null).await;
    let key = text(&shown["secrets"][0], "publicKey").strip_prefix("whpk_").expect("a public key").to_owned();
    let signature = signed.header("webhook-signature").strip_prefix("v1a,").expect("an ed25519 signature");
    let message = [
        format!("{}.{}.", signed.header("webhook-id"), signed.header("webhook-timestamp")).as_bytes(),
        &signed.body,
    ]
    .concat();
    let key = UnparsedPublicKey::new(&ED25519, STANDARD.decode(key).expect("base64"));
    key.verify(&message, &STANDARD.decode(signature).expect("base64")).expect("it verifies");
    assert_eq!(signed.header("x-webhook-signature"), "", "there is no shared secret");
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_an_endpoint_is_paused_arrives_in_order_and_once_when_it_is_resumed() {
    const ORDERS: usize = 5;
    let mut program = TestProgram::new("paused", options()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let (paused, other) =
        (Receiver::start(|_| Answer::status(200)).await, Receiver::start(|_| Answer::status(200)).await);
    let made = ask(&api, Method::POST, "/api/webhooks", json!({"url": paused.url()})).await;
    ask(&api, Method::POST, "/api/webhooks", json!({"url": other.url()})).await;
    let path = format!("/api/webhooks/{}", text(&made, "id"));
    program.start(&["webhook"]);
    let mut sent = 0;
    for round in 0..9 {
        if round == 3 {
            eventually("all so far is told", SOON, async || paused.count() == sent).await;
            let answer = ask(&api, Method::POST, &format!("{path}/pause"), Value::Null).await;
            assert_eq!(answer["state"], "paused");
        }
        if round == 6 {
            eventually("the other one is told", SOON, async || other.count() == sent).await;
            program.restart().await;
        }
        for order in 0..ORDERS {
            program.publish(&shipped(&format!("o-{order}"), "DHL")).await;
            sent += 1;
        }
    }
    eventually("the other one is told of everything", SOON, async || other.count() == sent).await;
    assert_eq!(paused.count(), 3 * ORDERS, "nothing is sent while it is paused");
    let answer = ask(&api, Method::POST, &format!("{path}/resume"), Value::Null).await;
    assert_eq!(answer["state"], "enabled");
    eventually("everything arrives", SOON, async || paused.count() >= sent).await;
    for order in 0..ORDERS {
        let of_order = |receiver: &Receiver| -> Vec<String> {
            let requests = receiver.requests().into_iter();
            let of_order = requests.filter(|request| request.order_id() == format!("o-{order}"));
            of_order.map(|request| request.header("x-webhook-sequence").to_owned()).collect()
        };
        assert_eq!(of_order(&paused), of_order(&other), "in order, and once");
    }
    assert_eq!(paused.count(), sent);
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_url_holds_at_once_and_new_events_only_for_what_comes() {
    let mut program = TestProgram::new("changed", options()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    // Long enough that the delivery leaves memory and is read again.
    let down = Receiver::start(|_| Answer::status(503).with("retry-after", "6")).await;
    let new = Receiver::start(|_| Answer::status(200)).await;
    let body = json!({"url": down.url(), "events": ["order.shipped"], "retryDelay": 100});
    let made = ask(&api, Method::POST, "/api/webhooks", body).await;
    let path = format!("/api/webhooks/{}", text(&made, "id"));
    program.start(&["webhook", "attempts"]);
    program.publish(&shipped("o-1", "DHL")).await;
    let retry = program.topic("orders.events.webhook.retry");
    eventually("the delivery is parked", SOON, async || {
        program.kafka.all(&retry).await.iter().any(|record| record.payload.is_some())
    })
    .await;
    let change = json!({"url": new.url(), "events": ["order.completed"], "filter": "$.data.nothing"});
    ask(&api, Method::PATCH, &path, change).await;
    program.publish(&shipped("o-2", "DHL")).await;
    program.publish(&Factory::new("shop", "it").order_completed("o-2", NOW).into()).await;
    eventually("what waited arrives at the new place", SOON, async || new.count() == 1).await;
    let (first, second) = (down.requests().remove(0), new.requests().remove(0));
    assert_eq!((second.order_id(), second.header("x-webhook-attempt")), ("o-1".to_owned(), "2"));
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    eventually("nothing else is to be done", SOON, async || program.is_caught_up("webhook")).await;
    assert_eq!((down.count(), new.count()), (1, 1), "what came after the change isn't what it chose");

    let list = format!("{path}/deliveries?orderId=o-1&outcome=delivered");
    eventually("the log has both attempts", SOON, async || {
        ask(&api, Method::GET, &list, Value::Null).await["data"]
            .as_array()
            .is_some_and(|rows| rows.len() == 1)
    })
    .await;
    let row = ask(&api, Method::GET, &list, Value::Null).await["data"][0].clone();
    let delivery = format!("{path}/deliveries/{}", text(&row, "deliveryId"));
    let delivery = ask(&api, Method::GET, &delivery, Value::Null).await;
    assert_eq!((&delivery["state"], &delivery["attempts"][0]["status"]), (&json!("delivered"), &json!(503)));
    let stats = ask(&api, Method::GET, "/api/webhooks/stats", Value::Null).await;
    assert_eq!((&stats["deliveredWebhooks"], &stats["failedWebhooks"]), (&json!(1), &json!(0)), "{stats}");
    assert_eq!((&stats["queuedWebhooks"], &stats["deliveryRate"]), (&json!(0), &json!(1.0)), "{stats}");
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_sent_as_deliveries_are_and_shows_no_secret() {
    let program = TestProgram::new("tested", options()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let receiver = Receiver::start(|_| Answer::status(202)).await;
    let body = json!({"url": receiver.url(), "headers": {"Authorization": "Bearer t0ken"}, "events": ["order.paid"]});
    let made = ask(&api, Method::POST, "/api/webhooks", body).await;
    ask(&api, Method::POST, &format!("/api/webhooks/{}/pause", text(&made, "id")), Value::Null).await;
    let tested = ask(&api, Method::POST, "/api/webhooks/test", json!({"webhookId": made["id"]})).await;
    assert_eq!((&tested["outcome"], &tested["status"]), (&json!("delivered"), &json!(202)), "{tested}");
    let request = receiver.requests().remove(0);
    assert!(verifies(text(&made, "secret"), &request));
    assert_eq!(request.header("authorization"), "Bearer t0ken");
    assert_eq!(
        (request.header("x-webhook-event"), &request.json()["event"]),
        ("webhook.test", &json!("webhook.test"))
    );
    assert!(request.header("webhook-id").starts_with("evt_test_"));
    assert_eq!(request.json()["id"], request.header("webhook-id"));
    assert!(!tested.to_string().contains("t0ken"), "{tested}");
    assert_eq!(tested["requestBody"].as_str().map(str::as_bytes), Some(&request.body[..]));

    let of_url = ask(&api, Method::POST, "/api/webhooks/test", json!({"url": receiver.url()})).await;
    assert!(verifies(text(&of_url, "secret"), &receiver.requests().remove(1)));

    // As everywhere but in closed networks: a private address is never connected to.
    let strict = WebhookOptions { allow_private_networks: false, ..program.parts.options.webhook.clone() };
    let send = trial(&strict, program.parts.vault.clone(), Clock::system());
    let trials = Trials::new(program.registrar(), Arc::clone(&send));
    let refused = trials.run("shop", None, TestOf::Url(receiver.url())).await.expect("it may be asked for");
    assert!(refused.error.as_deref().is_some_and(|why| why.contains("not one that requests are sent to")));
    assert_eq!(receiver.count(), 2);
    api.end().await;
    program.end().await;
}
