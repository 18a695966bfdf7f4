//! Webhooks that are sent to us: whom we believe, what they become, and that a message is one event however often it
//! comes.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::http::inbound::{Endpoint, InboundOptions, Senders, SignatureForm, SourceOptions};

const ORDER: &str = "/api/webhooks/order-status";
const WORKER: &str = "/api/webhooks/worker-status";
const ERP: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ERP_NEXT: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const WORKERS: &str = "a secret of the workers, in plain words";
const OLD: &str = "an-older-system-of-another-tenant";

fn source(tenant: &str, endpoints: &[Endpoint], secrets: &[&str]) -> SourceOptions {
    SourceOptions {
        tenant: tenant.to_owned(),
        endpoints: endpoints.to_vec(),
        secrets: secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect(),
        signature: SignatureForm::Standard,
    }
}

/// An ERP that tells of orders, workers that tell of jobs, and an older system of another tenant.
fn options() -> InboundOptions {
    let old = SourceOptions {
        signature: SignatureForm::Plain,
        ..source("market", &[Endpoint::OrderStatus, Endpoint::WorkerStatus], &[OLD])
    };
    let sources = [
        ("erp", source("shop", &[Endpoint::OrderStatus], &[ERP, ERP_NEXT])),
        ("workers", source("shop", &[Endpoint::WorkerStatus], &[WORKERS])),
        ("old", old),
    ];
    InboundOptions {
        sources: sources.map(|(name, source)| (name.to_owned(), source)).into(),
        max_body_bytes: 1_000,
        ..InboundOptions::default()
    }
}

pub(super) fn senders() -> Senders {
    Senders::new(&options()).unwrap()
}

/// A request that the Standard Webhooks library signs as of `timestamp`.
fn signed(path: &str, secret: &str, id: &str, timestamp: i64, body: &str) -> Request<Body> {
    let hook = standardwebhooks::Webhook::new(secret)
        .or_else(|_| standardwebhooks::Webhook::from_bytes(secret.as_bytes().to_vec()))
        .unwrap();
    request("POST", path)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", hook.sign(id, timestamp, body.as_bytes()).unwrap())
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn plainly_signed(path: &str, secret: &str, body: &str) -> Request<Body> {
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    request("POST", path)
        .header("content-type", "application/json")
        .header("x-webhook-signature", format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn now(api: &Api) -> i64 {
    api.parts.clock.now_ms() / 1_000
}

#[tokio::test]
async fn a_signed_status_becomes_an_event_of_the_senders_tenant_under_an_id_made_of_the_messages() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        let body = r#"{"orderId":"o-1","status":"DELIVERED","reason":"carrier says so","occurredAt":"2026-01-31T08:00:00Z"}"#;
        let answer = api.ask(signed(ORDER, ERP, "msg_1", now(&api), body)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        let event = api.published.taken.lock().unwrap()[0].clone();
        let expected =
            json!({"eventId": event.meta().event_id, "topic": "orders.events", "partition": 0, "offset": 0});
        assert_eq!(answer.json(), expected);
        let told = event.to_json();
        assert_eq!((&told["type"], &told["tenantId"]), (&json!("order.status_changed"), &json!("shop")));
        assert_eq!(told["data"]["oldStatus"], "shipped", "from the stored order");
        assert_eq!(
            (&told["data"]["newStatus"], &told["data"]["reason"]),
            (&json!("delivered"), &json!("carrier says so"))
        );
        assert_eq!((&told["source"], &told["occurredAt"]), (&json!("erp"), &json!("2026-01-31T08:00:00.000Z")));
        assert_eq!(told["actor"], json!({"id": "erp", "role": "service"}));
        assert_eq!(told["data"]["order"]["status"], "delivered", "the event says how the order is after it");
        let expected = crate::event::event_id_for_message("shop", "erp", "msg_1").to_string();
        assert_eq!(event.meta().event_id, expected);

        let shipped = r#"{"orderId":7,"status":"shipped","shipment":{"carrier":"DHL","trackingNumber":"JD1"}}"#;
        let answer = api.ask(signed(ORDER, ERP_NEXT, "msg_2", now(&api), shipped)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "any live secret will do: {}", answer.text);
        let event = api.published.taken.lock().unwrap()[1].clone();
        assert_eq!((event.event_type(), event.meta().order_id.as_str()), (EventType::OrderShipped, "7"));
    })
    .await;
}

#[tokio::test]
async fn a_workers_status_becomes_the_event_of_its_job() {
    each_engine(async |db| {
        let api = Api::new(db);
        let job = |status: &str, more: &str| {
            format!(r#"{{"workerId":"w-1","queueName":"mails","jobId":17,"jobType":"mail","status":"{status}"{more}}}"#)
        };
        let cases = [
            ("enqueued", "", "job.enqueued", json!({"jobId": "17", "jobType": "mail", "queue": "mails"})),
            ("started", "", "job.started", json!({"jobId": "17", "jobType": "mail", "queue": "mails", "workerId": "w-1"})),
            (
                "completed",
                r#","processingTime":250"#,
                "job.completed",
                json!({"jobId": "17", "jobType": "mail", "queue": "mails", "workerId": "w-1", "processingTimeMs": 250}),
            ),
            (
                "failed",
                r#","error":"no such address""#,
                "job.failed",
                json!({"jobId": "17", "jobType": "mail", "queue": "mails", "workerId": "w-1",
                       "processingTimeMs": null, "error": "no such address"}),
            ),
        ];
        for (at, (status, more, event_type, data)) in cases.into_iter().enumerate() {
            let answer = api.ask(signed(WORKER, WORKERS, &format!("m-{at}"), now(&api), &job(status, more))).await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{status}: {}", answer.text);
            let event = api.published.taken.lock().unwrap()[at].clone();
            assert_eq!((event.event_type().as_str(), event.key()), (event_type, "17"));
            let without_nulls = |value: Value| {
                let fields: BTreeMap<_, _> = value.as_object().unwrap().clone().into_iter().collect();
                fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<BTreeMap<_, _>>()
            };
            assert_eq!(without_nulls(event.to_json()["data"].clone()), without_nulls(data));
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_is_one_event_however_often_it_comes() {
    each_engine(async |db| {
        let api = Api::new(db);
        let body = r#"{"orderId":"o-1","status":"paid"}"#;
        let first = api.ask(signed(ORDER, ERP, "msg_1", now(&api), body)).await;
        let again = api.ask(signed(ORDER, ERP_NEXT, "msg_1", now(&api) - 60, body)).await;
        assert_eq!((again.status, again.json()), (StatusCode::ACCEPTED, first.json()));
        assert_eq!(again.headers["idempotency-replayed"], "true");
        let other = r#"{"orderId":"o-1","status":"shipped"}"#;
        let reused = api.ask(signed(ORDER, ERP, "msg_1", now(&api), other)).await;
        assert_eq!(reused.problem(), (409, "webhook_id_reused".to_owned()));
        assert_eq!(api.published.taken.lock().unwrap().len(), 1);

        // The answer was lost: the same event is made again, byte for byte.
        api.lose_answer("inbound erp msg_1").await;
        let again = api.ask(signed(ORDER, ERP, "msg_1", now(&api), body)).await;
        assert_eq!(again.json()["eventId"], first.json()["eventId"]);
        let taken = api.published.taken.lock().unwrap().clone();
        assert_eq!(taken[0], taken[1]);

        // Kafka is away: nothing is remembered but when it first came.
        *api.published.refuse.lock().unwrap() = Some(PublishRefused::KafkaUnavailable("away".to_owned()));
        let away = api.ask(signed(ORDER, ERP, "msg_2", now(&api), body)).await;
        assert_eq!(away.problem(), (503, "kafka_unavailable".to_owned()));
        *api.published.refuse.lock().unwrap() = None;
        assert_eq!(api.ask(signed(ORDER, ERP, "msg_2", now(&api), body)).await.status, StatusCode::ACCEPTED);

        // The plain form has no id that is signed: its bytes are its identity.
        let first = api.ask(plainly_signed(ORDER, OLD, body)).await;
        let mut replayed = plainly_signed(ORDER, OLD, body);
        replayed.headers_mut().insert("webhook-id", "another".parse().unwrap());
        let again = api.ask(replayed).await;
        assert_eq!((first.status, again.json()), (StatusCode::ACCEPTED, first.json()));
        assert_eq!(api.published.taken.lock().unwrap().last().unwrap().meta().tenant_id, "market");
    })
    .await;
}

#[tokio::test]
async fn whoever_is_not_a_sender_of_this_endpoint_is_refused_and_nothing_is_published() {
    each_engine(async |db| {
        let api = Api::new(db);
        let body = r#"{"orderId":"o-1","status":"paid"}"#;
        let at = now(&api);
        let changed = |mut request: Request<Body>, body: &str| {
            *request.body_mut() = Body::from(body.to_owned());
            request
        };
        let bare =
            request("POST", ORDER).header("content-type", "application/json").body(Body::from(body)).unwrap();
        let cases = [
            (bare, "signature_missing"),
            (signed(ORDER, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "m", at, body), "signature_invalid"),
            (signed(ORDER, WORKERS, "m", at, body), "signature_invalid"),
            (signed(ORDER, OLD, "m", at, body), "signature_invalid"),
            (plainly_signed(ORDER, ERP, body), "signature_invalid"),
            (
                changed(signed(ORDER, ERP, "m", at, body), r#"{"orderId":"o-2","status":"paid"}"#),
                "signature_invalid",
            ),
            (changed(signed(ORDER, ERP, "m", at, body), "{"), "signature_invalid"),
            (signed(ORDER, ERP, "m", at - 301, body), "signature_expired"),
            (signed(ORDER, ERP, "m", at + 900, body), "signature_expired"),
        ];
        for (request, code) in cases {
            assert_eq!(api.ask(request).await.problem(), (401, code.to_owned()));
        }
        // A token doesn't help.
        let service = api.token("erp", &[Role::Service, Role::Admin], "shop");
        assert_eq!(
            api.post_as(&service, ORDER, None, body).await.problem(),
            (401, "signature_missing".to_owned())
        );
        assert!(api.published.taken.lock().unwrap().is_empty());
    })
    .await;
}

/// What a stranger's request costs is bounded: no more than so many MACs.
#[tokio::test]
async fn of_many_senders_one_names_itself_and_proves_it() {
    let mut options = options();
    for number in 10..40 {
        let secret = format!("the secret of sender {number}");
        let sender = source("shop", &[Endpoint::OrderStatus], &[&secret]);
        options.sources.insert(format!("s-{number}"), sender);
    }
    let (senders, body) = (Senders::new(&options).unwrap(), r#"{"orderId":"o-1","status":"paid"}"#);
    let named = |name: Option<&str>| {
        let mut request = signed(ORDER, ERP, "msg_1", 1_760_000_000, body);
        if let Some(name) = name {
            request.headers_mut().insert("x-webhook-source", name.parse().unwrap());
        }
        let headers = request.into_parts().0.headers;
        let at_ms = 1_760_000_000_000;
        let message = senders.message(Endpoint::OrderStatus, &headers, body.as_bytes(), at_ms);
        message.map(|message| message.sender.name.clone()).map_err(|problem| problem.code())
    };
    assert_eq!(named(Some("erp")), Ok("erp".to_owned()));
    assert_eq!(named(Some("s-11")), Err(Code::SignatureInvalid), "a name proves nothing");
    assert_eq!(named(Some("nobody")), Err(Code::SignatureInvalid));
    assert_eq!(named(None), Err(Code::SignatureMissing));

    let plain = plainly_signed(ORDER, OLD, body).into_parts().0.headers;
    let message = senders.message(Endpoint::OrderStatus, &plain, body.as_bytes(), 0).ok().unwrap();
    assert!(message.remember.as_secs() > 10 * 365 * 24 * 3_600, "its bytes never grow old");
}

#[tokio::test]
async fn what_is_not_right_is_refused_by_name() {
    each_engine(async |db| {
        let api = Api::new(db);
        let check = async |path: &str, body: &str, status: u16, code: &str, field: &str| {
            let secret = if path == ORDER { ERP } else { WORKERS };
            let answer = api.ask(signed(path, secret, "m", now(&api), body)).await;
            assert_eq!(answer.problem(), (status, code.to_owned()), "{body}: {}", answer.text);
            if !field.is_empty() {
                assert_eq!(answer.json()["errors"][0]["field"], field, "{body}: {}", answer.text);
            }
        };
        check(ORDER, "{", 400, "malformed_json", "").await;
        check(ORDER, r#"{"orderId":"1","status":"paid","tenantId":"x"}"#, 422, "invalid_fields", "tenantId")
            .await;
        check(ORDER, r#"{"status":"paid"}"#, 422, "invalid_fields", "orderId").await;
        check(ORDER, r#"{"orderId":"1","status":"unknown"}"#, 422, "invalid_fields", "status").await;
        check(
            ORDER,
            r#"{"orderId":"1","status":"paid","occurredAt":"soon"}"#,
            422,
            "invalid_fields",
            "occurredAt",
        )
        .await;
        let with = |more: &str| format!(r#"{{"orderId":"1","status":"shipped",{more}}}"#);
        check(ORDER, &with(r#""previousStatus":"new""#), 422, "invalid_fields", "previousStatus").await;
        check(
            ORDER,
            &with(r#""shipment":{"carrier":"DHL"}"#),
            422,
            "invalid_fields",
            "shipment.trackingNumber",
        )
        .await;
        check(ORDER, &with(r#""shipment":{"by":"DHL"}"#), 422, "invalid_fields", "shipment.by").await;
        let both = with(r#""reason":"x","shipment":{"carrier":"DHL","trackingNumber":"1"}"#);
        check(ORDER, &both, 422, "invalid_fields", "reason").await;
        check(ORDER, r#"{"orderId":"1","status":"paid","shipment":{}}"#, 422, "invalid_fields", "shipment")
            .await;
        let large = format!(r#"{{"orderId":"1","status":"paid","reason":"{}"}}"#, "x".repeat(1_000));
        check(ORDER, &large, 413, "too_large", "").await;

        let job =
            |status: &str| format!(r#"{{"queueName":"q","jobId":"j","jobType":"t","status":"{status}"}}"#);
        check(WORKER, &job("started"), 422, "invalid_fields", "workerId").await;
        check(WORKER, &job("failed"), 422, "invalid_fields", "error").await;
        check(WORKER, &job("done"), 422, "invalid_fields", "status").await;
        let done = r#"{"workerId":"w","queueName":"q","jobId":"j","jobType":"t","status":"completed"}"#;
        check(WORKER, done, 422, "invalid_fields", "processingTime").await;
        check(WORKER, &done.replace("\"q\"", "\"\""), 422, "invalid_fields", "queueName").await;
        check(WORKER, &done.replace("\"j\"", "1.5"), 422, "invalid_fields", "jobId").await;

        let text = signed(ORDER, ERP, "m", now(&api), r#"{"orderId":"1","status":"paid"}"#);
        let mut text = text;
        text.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(api.ask(text).await.problem(), (415, "unsupported_media_type".to_owned()));
        assert!(api.published.taken.lock().unwrap().is_empty());
        // A refusal keeps no id: the corrected message may use it.
        let fine = r#"{"orderId":"1","status":"paid"}"#;
        assert_eq!(api.ask(signed(ORDER, ERP, "m", now(&api), fine)).await.status, StatusCode::ACCEPTED);
    })
    .await;
}

#[test]
fn senders_that_can_not_be_told_apart_or_guessed_are_refused() {
    let check = |change: &dyn Fn(&mut InboundOptions), words: &str| {
        let mut options = options();
        change(&mut options);
        let message = Senders::new(&options).expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    };
    let erp = |options: &mut InboundOptions, change: &dyn Fn(&mut SourceOptions)| {
        change(options.sources.get_mut("erp").unwrap());
    };
    let secrets =
        |texts: &[&str]| texts.iter().map(|text| Secret::new((*text).to_owned())).collect::<Vec<_>>();
    check(&|options| erp(options, &|erp| erp.tenant.clear()), "inbound.sources.erp.tenant");
    check(&|options| erp(options, &|erp| erp.endpoints.clear()), "inbound.sources.erp.endpoints");
    check(&|options| erp(options, &|erp| erp.secrets.clear()), "inbound.sources.erp.secrets");
    check(&|options| erp(options, &|erp| erp.secrets = secrets(&["short"])), "fewer than 16 bytes");
    check(&|options| erp(options, &|erp| erp.secrets = secrets(&["whsec_c2hvcnQ="])), "fewer than 16 bytes");
    check(&|options| erp(options, &|erp| erp.secrets = secrets(&[ERP; 11])), "1 to 10 secrets");
    check(&|options| erp(options, &|erp| erp.secrets = secrets(&[WORKERS])), "has a secret of");
    let respelled = |options: &mut InboundOptions| {
        let bare = ERP.strip_prefix("whsec_").expect("it has a prefix");
        options.sources.insert("twin".to_owned(), source("shop", &[Endpoint::OrderStatus], &[bare]));
    };
    check(&respelled, "has a secret of");
    check(&|options| options.remember = options.tolerance, "inbound.remember");
    let named_badly = |options: &mut InboundOptions| {
        options
            .sources
            .insert("The ERP".to_owned(), source("shop", &[Endpoint::OrderStatus], &["0123456789abcdef-"]));
    };
    check(&named_badly, "inbound.sources.The ERP must be called");
}
