//! Operators over HTTP, on a real Kafka: dead letters go back, lanes go on, groups tell their lag, the audit knows who.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use orderflow::admin::webhooks::Registration;
use orderflow::event::Factory;
use orderflow::http::Role;
use orderflow::http::live::LiveOptions;
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use serde_json::{Value, json};

use super::TestApi;
use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;

async fn get(api: &TestApi, path: &str) -> Value {
    let token = api.token("ann", Role::Operator, "shop");
    let answer = api.client.get(api.url(path)).bearer_auth(token).send().await.expect("the API answers");
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    answer.json().await.expect("JSON")
}

async fn post(api: &TestApi, path: &str, body: &Value) -> (u16, Value) {
    let token = api.token("ann", Role::Operator, "shop");
    let request = api.client.post(api.url(path)).bearer_auth(token).json(body);
    let answer = request.send().await.expect("the API answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn count(list: &Value) -> usize {
    list["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_redrives_and_releases_over_http() {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let mut program =
        TestProgram::new("http-operator", StageOptions { webhook, ..StageOptions::default() }).await;
    // 400 is the event's fault for ever after its attempts, 500 waits an hour for the next.
    let status = Arc::new(AtomicU16::new(500));
    let answers = Arc::clone(&status);
    let receiver = Receiver::start(move |_| Answer::status(answers.load(Ordering::SeqCst))).await;
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(2),
        retry_delay: Some(3_600_000),
        timeout: Some(2_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
    let api = TestApi::start(&program, LiveOptions::default()).await;
    program.start(&["webhook"]);
    program.publish(&Factory::new("shop", "it").order_completed("o-1", NOW).into()).await;

    eventually("the lane waits", SOON, async || count(&get(&api, "/api/v1/lanes").await) == 1).await;
    let lanes = get(&api, "/api/v1/lanes?stage=webhook").await;
    let lane = lanes["data"][0]["lane"].as_str().expect("a name").to_owned();
    assert_eq!(lanes["data"][0]["attempts"], 1, "{lanes}");
    let release = format!("/api/v1/lanes/{}/release", lane.replace('|', "%7C"));
    let body = json!({"stage": "webhook", "reason": "they say it is mended"});
    let (code, answered) = post(&api, &release, &body).await;
    assert_eq!((code, &answered[0]["done"]), (200, &json!(true)), "{answered}");
    // It failed again, for the last time.
    let letters = async || get(&api, "/api/v1/dead-letters?stage=webhook&cause=exhausted").await;
    eventually("it is given up", SOON, async || count(&letters().await) == 1).await;
    assert_eq!(letters().await["data"][0]["order"], "o-1");
    let (code, refused) = post(&api, &release, &body).await;
    assert_eq!((code, &refused["code"]), (404, &json!("lane_not_found")), "{refused}");

    status.store(200, Ordering::SeqCst);
    let redrive = "/api/v1/dead-letters/redrive";
    let (code, dry) = post(&api, redrive, &json!({"stage": "webhook", "dryRun": true})).await;
    assert_eq!((code, &dry["sent"], &dry["dryRun"]), (200, &json!(1), &json!(true)), "{dry}");
    let place = letters().await["data"][0]["place"].clone();
    let (code, told) = post(&api, redrive, &json!({"stage": "webhook", "places": [place]})).await;
    assert_eq!((code, &told["sent"]), (200, &json!(1)), "{told}");
    let delivered = || receiver.requests().iter().filter(|request| request.status == 200).count();
    eventually("it is delivered", SOON, async || delivered() == 1).await;
    assert_eq!(count(&letters().await), 0, "it was taken up");
    assert_eq!(count(&get(&api, "/api/v1/dead-letters?redriven=true").await), 1);
    let (code, refused) = post(&api, redrive, &json!({"stage": "webhok"})).await;
    assert_eq!((code, &refused["code"]), (404, &json!("stage_not_found")), "{refused}");

    eventually("the webhook group is level", SOON, async || {
        let groups = get(&api, "/api/v1/groups").await;
        let groups = groups["data"].as_array().expect("a list").clone();
        let webhook = groups.iter().find(|group| group["stage"] == "webhook").expect("it is there");
        let history = groups.iter().find(|group| group["stage"] == "history").expect("it is there");
        assert_eq!((&history["verdict"], &history["members"]), (&json!("stopped"), &json!(0)), "{history}");
        assert_eq!(webhook["members"], 1, "{webhook}");
        webhook["messages"] == 0 && webhook["verdict"] == "ok"
    })
    .await;
    let audit = get(&api, "/api/v1/audit?stage=webhook").await;
    let actions: Vec<_> =
        audit["data"].as_array().expect("a list").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["dlq.redriven", "dlq.redrive", "lane.release"]);
    assert_eq!(audit["data"][0]["actor"], "ann of shop");
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_taken_up_now_and_dead_letters_only_when_asked_for() {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let mut program =
        TestProgram::new("http-pending", StageOptions { webhook, ..StageOptions::default() }).await;
    let status = Arc::new(AtomicU16::new(500));
    let answers = Arc::clone(&status);
    let receiver = Receiver::start(move |request| {
        // Order o-dead is refused for good until everything is mended.
        let mended = answers.load(Ordering::SeqCst) == 200;
        Answer::status(if mended {
            200
        } else if request.order_id() == "o-dead" {
            400
        } else {
            500
        })
    })
    .await;
    let registration = Registration {
        url: receiver.url(),
        retry_attempts: Some(2),
        retry_delay: Some(3_600_000),
        timeout: Some(2_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
    let api = TestApi::start(&program, LiveOptions::default()).await;
    program.start(&["webhook"]);
    let factory = Factory::new("shop", "it");
    for order in ["o-1", "o-2", "o-2", "o-dead"] {
        program.publish(&factory.order_completed(order, NOW).into()).await;
    }
    let waiting = async || {
        let lanes = get(&api, "/api/v1/lanes?stage=webhook").await;
        let tasks = lanes["data"].as_array().expect("a list").iter();
        tasks.map(|lane| lane["tasks"].as_u64().expect("a number")).sum::<u64>()
    };
    eventually("four tasks wait in three lanes", SOON, async || waiting().await == 4).await;

    let pending = async |body: Value| {
        let token = api.token("ann", Role::Admin, "shop");
        let path = api.url("/api/order-events/process-pending");
        let answer = api.client.post(path).bearer_auth(token).json(&body).send().await.expect("it answers");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let sent = receiver.count();
    let told = |pending, taken_up, still: u64| {
        (202, json!({"pending": pending, "takenUp": taken_up, "stillPending": still}))
    };
    assert_eq!(pending(json!({"stage": "webhook"})).await, told(4, 4, 0));
    // Each had its last attempt an hour early; what was behind in o-2 now waits for its own second one.
    let letters = async |path: &str| count(&get(&api, path).await);
    let dead = "/api/v1/dead-letters?stage=webhook";
    eventually("three are given up", SOON, async || letters(dead).await == 3).await;
    eventually("the one behind waits", SOON, async || waiting().await == 1).await;
    assert!(receiver.count() >= sent + 4);

    status.store(200, Ordering::SeqCst);
    let delivered = || receiver.requests().iter().filter(|request| request.status == 200).count();
    assert_eq!(pending(json!({"stage": "webhook"})).await, told(1, 1, 0), "dead letters aren't asked for");
    eventually("the one that waited is delivered", SOON, async || delivered() == 1).await;
    eventually("nothing waits", SOON, async || waiting().await == 0).await;
    let (code, answer) = pending(json!({"stage": "webhook", "limit": 2, "includeDead": true})).await;
    assert_eq!((code, &answer["pending"]), (202, &json!(3)), "{answer}");
    assert_eq!((&answer["takenUp"], &answer["stillPending"]), (&json!(2), &json!(1)), "{answer}");
    eventually("two dead letters are delivered", SOON, async || delivered() == 3).await;
    eventually("nothing waits again", SOON, async || waiting().await == 0).await;
    assert_eq!(pending(json!({"includeDead": true})).await, told(1, 1, 0), "of all stages");
    eventually("all is delivered", SOON, async || delivered() == 4).await;
    let (code, refused) = pending(json!({"stage": "history"})).await;
    assert_eq!((code, &refused["errors"][0]["field"]), (422, &json!("stage")), "{refused}");
    api.end().await;
    program.end().await;
}
