//! Webhooks that are sent to us, over a real listener: what a sender signs is an event on its topic, once, and goes on
//! to the history and to partners.

use std::time::Duration;

use orderflow::crypto::Secret;
use orderflow::event::Decoded;
use orderflow::http::Role;
use orderflow::http::inbound::{Endpoint, InboundOptions, Senders, SignatureForm, SourceOptions};
use orderflow::http::live::LiveOptions;
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use serde_json::{Value, json};

use super::TestApi;
use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(60);
const ORDER: &str = "/api/webhooks/order-status";
const WORKER: &str = "/api/webhooks/worker-status";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// One sender, `erp`, for the tenant `shop`.
pub(super) fn senders() -> Senders {
    let erp = SourceOptions {
        tenant: "shop".to_owned(),
        endpoints: vec![Endpoint::OrderStatus, Endpoint::WorkerStatus],
        secrets: vec![Secret::new(SECRET.to_owned())],
        signature: SignatureForm::Standard,
    };
    let sources = [("erp".to_owned(), erp)].into();
    Senders::new(&InboundOptions { sources, ..InboundOptions::default() }).expect("they can be used")
}

/// Sends `body` as the Standard Webhooks library signs it, `ago` seconds ago.
async fn send(api: &TestApi, path: &str, id: &str, ago: i64, body: &Value) -> (u16, Value) {
    let (timestamp, body) = (api.parts.clock.now_ms() / 1_000 - ago, body.to_string());
    let hook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    let request = api
        .client
        .post(api.url(path))
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", hook.sign(id, timestamp, body.as_bytes()).expect("text"))
        .body(body);
    let answer = request.send().await.expect("the API answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_order_status_is_one_event_in_its_tenants_history() {
    let mut program = TestProgram::new("inbound-order", StageOptions::default()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let paid = json!({"orderId": "o-1", "status": "paid", "occurredAt": "2026-01-31T08:00:00Z"});
    let (status, first) = send(&api, ORDER, "msg_1", 0, &paid).await;
    assert_eq!(status, 202, "{first}");
    assert_eq!(send(&api, ORDER, "msg_1", 200, &paid).await, (202, first.clone()), "a repeat");
    let shipped = json!({"orderId": "o-1", "status": "shipped"});
    let (status, refused) = send(&api, ORDER, "msg_1", 0, &shipped).await;
    assert_eq!((status, &refused["code"]), (409, &json!("webhook_id_reused")));
    let (status, refused) = send(&api, ORDER, "msg_2", 400, &shipped).await;
    assert_eq!((status, &refused["code"]), (401, &json!("signature_expired")));

    let topic = program.topic("orders.events");
    let records = program.kafka.all(&topic).await;
    assert_eq!(records.len(), 1, "one message is one record");
    let record = &records[0];
    assert_eq!((&first["partition"], &first["offset"]), (&json!(record.partition), &json!(record.offset)));
    assert_eq!(record.key.as_deref(), Some(b"o-1".as_slice()));
    assert_eq!(record.headers.text("ce_id"), first["eventId"].as_str());

    program.start(&["history"]);
    let token = api.token("erp", Role::Service, "shop");
    let events = async || {
        let request = api.client.get(api.url("/api/v1/orders/o-1/events")).bearer_auth(&token);
        request.send().await.expect("the API answers").json::<Value>().await.expect("JSON")
    };
    eventually("the history has it", SOON, async || events().await["count"] == 1).await;
    let event = events().await["data"][0].clone();
    assert_eq!((&event["type"], &event["source"]), (&json!("order.status_changed"), &json!("erp")));
    assert_eq!(event["data"]["newStatus"], "paid");
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_status_goes_out_to_the_endpoints_that_want_jobs_in_order() {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let options = StageOptions { webhook, ..StageOptions::default() };
    let mut program = TestProgram::new("inbound-worker", options).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    // Refuses the first attempt at everything, so that order has to be kept.
    let workers = Receiver::start(|request| {
        Answer::status(if request.header("x-webhook-attempt") == "1" { 503 } else { 200 })
    })
    .await;
    let orders = Receiver::start(|_| Answer::status(200)).await;
    let token = api.token("erp", Role::Service, "shop");
    for (receiver, events) in
        [(&workers, json!(["job.started", "JOB_COMPLETED"])), (&orders, json!(["order.paid"]))]
    {
        let body = json!({"url": receiver.url(), "events": events, "retryAttempts": 4, "retryDelay": 100});
        let request = api.client.post(api.url("/api/webhooks")).bearer_auth(&token).json(&body);
        assert_eq!(request.send().await.expect("the API answers").status().as_u16(), 201);
    }
    program.start(&["webhook", "webhook-jobs", "attempts"]);

    let job = |status: &str| {
        let mut body = json!({"workerId": "w-1", "queueName": "mails", "jobId": 17, "jobType": "mail", "status": status});
        if status == "completed" {
            body["processingTime"] = json!(250);
        }
        body
    };
    let mut taken = Vec::new();
    for (at, status) in ["enqueued", "started", "completed"].into_iter().enumerate() {
        let (code, answer) = send(&api, WORKER, &format!("job-{at}"), 0, &job(status)).await;
        assert_eq!((code, &answer["topic"]), (202, &json!(program.topic("jobs.events"))), "{answer}");
        taken.push(answer);
    }
    let accepted = || {
        let requests = workers.requests().into_iter();
        requests.filter(|request| request.status == 200).collect::<Vec<_>>()
    };
    eventually("both that were asked for arrive", SOON, async || accepted().len() == 2).await;
    let told: Vec<Value> = accepted().iter().map(crate::harness::receiver::Request::json).collect();
    assert_eq!(
        told.iter().map(|body| body["data"].clone()).collect::<Vec<_>>(),
        [job("started"), job("completed")].map(|mut body| {
            body["jobId"] = json!("17");
            body
        })
    );
    for (body, answer) in told.iter().zip(&taken[1..]) {
        assert_eq!(body["id"], format!("evt_{}", answer["eventId"].as_str().expect("an id")));
    }
    let sequences: Vec<i64> = accepted()
        .iter()
        .map(|request| request.header("x-webhook-sequence").parse().expect("a number"))
        .collect();
    assert_eq!(sequences, [taken[1]["offset"].clone(), taken[2]["offset"].clone()]);
    assert_eq!(orders.count(), 0, "who wants orders gets no jobs");

    let record = program.kafka.all(&program.topic("jobs.events")).await.remove(0);
    match program.parts.codec.decode(record.payload.as_deref().expect("a value")).await.expect("it decodes") {
        Decoded::Event { event, .. } => {
            assert_eq!(
                (event.event_type().as_str(), event.meta().tenant_id.as_str()),
                ("job.enqueued", "shop")
            );
        }
        other => panic!("{other:?}"),
    }
    api.end().await;
    program.end().await;
}
