//! Webhook endpoints over HTTP: who sees them, what is refused, and that the secret is told once.

use super::*;
use crate::admin::webhooks::{Registrar, Rules, Schedule, Trials};
use crate::crypto::Subject;
use crate::event::WebhookAttempt;
use crate::store::attempts::{self, Attempt};

const PATH: &str = "/api/webhooks";

/// A registrar with a policy of three attempts.
pub(super) fn registrar(db: &Database, vault: &Vault, clock: &Clock) -> Registrar {
    let policy = Schedule { attempts: 3, delays: vec![Duration::from_secs(5)], jitter_percent: 10 };
    let rules = Rules {
        allow_http: true,
        timeout: Duration::from_secs(10),
        endpoints_per_tenant: 5,
        refresh: Duration::from_millis(1),
        deliverable: EventType::ALL.iter().copied().filter(|kind| *kind != EventType::JobCompleted).collect(),
        policy,
    };
    Registrar::new(db.clone(), vault.clone(), clock.clone(), rules)
}

/// Tests that send nothing: what they would go to answers 418.
pub(super) fn trials(registrar: &Registrar) -> Trials {
    let send = |endpoint: crate::store::webhooks::Endpoint| {
        let receipt = WebhookAttempt {
            endpoint_id: endpoint.id,
            outcome: "refused".to_owned(),
            status: Some(418),
            ..WebhookAttempt::default()
        };
        let headers = vec![("webhook-id".to_owned(), "evt_test_1".to_owned())];
        Box::pin(std::future::ready((headers, b"{}".to_vec(), receipt))) as _
    };
    Trials::new(registrar.clone(), Arc::new(send))
}

async fn delete_as(api: &Api, token: &str, path: &str) -> Answer {
    api.ask(request("DELETE", path).header("authorization", token).body(Body::empty()).unwrap()).await
}

fn ids(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let rows = json["data"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_registration_tells_its_secret_once_and_its_schedule() {
    each_engine(async |db| {
        let api = Api::new(db);
        let partner = api.token("p-1", &[Role::Partner], "shop");
        let body = r#"{"url":"https://example.com/hook","events":["ORDER_SHIPPED"],"retryAttempts":4,"retryDelay":1000}"#;
        for path in [PATH, "/api/webhooks/register"] {
            let made = api.post_as(&partner, path, None, body).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
            let made = made.json();
            assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
            assert_eq!(made["events"], serde_json::json!(["order.shipped"]));
            assert_eq!(
                made["schedule"],
                serde_json::json!({"attempts": 4, "delays": [1000, 2000, 4000], "jitterPercent": 10})
            );
            assert_eq!((&made["owner"], &made["state"]), (&"p-1".into(), &"enabled".into()));
            let seen = api.get_as(&partner, &format!("{PATH}/{}", made["id"].as_str().unwrap())).await.json();
            assert_eq!(seen["url"], "https://example.com/hook");
            assert_eq!(seen["secret"], Value::Null);
        }
        let plain = api.post_as(&partner, PATH, None, r#"{"url":"http://example.com","events":[]}"#).await.json();
        assert_eq!(plain["schedule"]["delays"], serde_json::json!([5000, 5000]));
        assert_eq!(plain["events"], serde_json::json!(["*"]));
    })
    .await;
}

#[tokio::test]
async fn a_registration_whose_answer_was_lost_is_the_same_endpoint_when_it_is_asked_again() {
    each_engine(async |db| {
        let api = Api::new(db);
        let partner = api.token("p-1", &[Role::Partner], "shop");
        let body = r#"{"url":"https://example.com/hook"}"#;
        let first = api.post_as(&partner, PATH, Some("k"), body).await;
        api.lose_answer("k").await;
        let again = api.post_as(&partner, PATH, Some("k"), body).await;
        assert_eq!((again.status, &again.text), (StatusCode::CREATED, &first.text), "its secret, too");
        assert_eq!(ids(&api.get_as(&partner, PATH).await).len(), 1, "nobody is told of an event twice");
        let other = api.post_as(&partner, PATH, Some("k-2"), body).await;
        assert_ne!(other.json()["id"], first.json()["id"]);
    })
    .await;
}

#[tokio::test]
async fn partners_and_tenants_see_their_own_alone() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (one, two) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let service = api.token("erp", &[Role::Service], "shop");
        let stranger = api.token("p-1", &[Role::Partner, Role::Service], "market");
        let body = r#"{"url":"https://example.com/hook"}"#;
        for token in [&one, &one, &two, &service] {
            assert_eq!(api.post_as(token, PATH, None, body).await.status, StatusCode::CREATED);
        }
        for (token, count) in [(&one, 2), (&two, 1), (&service, 4), (&stranger, 0)] {
            assert_eq!(ids(&api.get_as(token, PATH).await).len(), count);
        }
        let mut paged = Vec::new();
        let mut path = format!("{PATH}?limit=3");
        loop {
            let page = api.get_as(&service, &path).await;
            paged.extend(ids(&page));
            let Some(cursor) = page.json()["nextCursor"].as_str().map(str::to_owned) else { break };
            path = format!("{PATH}?limit=3&cursor={cursor}");
        }
        assert_eq!(paged, ids(&api.get_as(&service, PATH).await));

        let mine = ids(&api.get_as(&one, PATH).await).remove(0);
        for path in [format!("{PATH}/{mine}"), format!("{PATH}/{mine}/deliveries")] {
            assert_eq!(api.get_as(&one, &path).await.status, StatusCode::OK);
            for token in [&two, &stranger] {
                assert_eq!(api.get_as(token, &path).await.problem(), (404, "webhook_not_found".to_owned()));
            }
        }
        let path = format!("{PATH}/{mine}");
        assert_eq!(delete_as(&api, &two, &path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(delete_as(&api, &one, &path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(delete_as(&api, &one, &path).await.status, StatusCode::NOT_FOUND);
        let buyer = api.token("ana", &[Role::Buyer], "shop");
        assert_eq!(api.get_as(&buyer, PATH).await.status, StatusCode::FORBIDDEN);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_is_changed_paused_and_given_a_new_secret_by_whose_it_is() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (one, two) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let stranger = api.token("p-1", &[Role::Partner, Role::Service], "market");
        let body = r#"{"url":"https://example.com/hook","headers":{"Authorization":"Bearer t0ken"},"rate":5,
            "events":["order.*"],"filter":"$.data.total","contact":"ops@partner.example","signature":"ed25519"}"#;
        let made = api.post_as(&one, PATH, None, body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let made = made.json();
        assert_eq!((&made["headerNames"], &made["secret"]), (&serde_json::json!(["authorization"]), &Value::Null));
        assert!(made["secrets"][0]["publicKey"].as_str().unwrap().starts_with("whpk_"));
        let path = format!("{PATH}/{}", made["id"].as_str().unwrap());

        let patch = async |token: &str, body: &str| {
            let request = request("PATCH", &path)
                .header("authorization", token)
                .header("content-type", "application/json");
            api.ask(request.body(Body::from(body.to_owned())).unwrap()).await
        };
        for token in [&two, &stranger] {
            assert_eq!(patch(token, "{}").await.status, StatusCode::NOT_FOUND);
            for action in ["pause", "resume", "rotate-secret"] {
                let answer = api.post_as(token, &format!("{path}/{action}"), None, "{}").await;
                assert_eq!(answer.problem(), (404, "webhook_not_found".to_owned()), "{action}");
            }
        }
        let changed = patch(&one, r#"{"rate":null,"filter":null,"events":["payment.*"]}"#).await;
        assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
        let changed = changed.json();
        assert_eq!((&changed["rate"], &changed["filter"]), (&Value::Null, &Value::Null));
        assert_eq!((&changed["events"], &changed["contact"]), (&serde_json::json!(["payment.*"]), &made["contact"]));
        for (body, field) in [(r#"{"id":"x"}"#, "id"), (r#"{"url":null,"nope":1}"#, "nope"), (r#"{"rate":0}"#, "rate")] {
            let answer = patch(&one, body).await;
            assert_eq!(answer.problem().0, 422, "{body}");
            assert_eq!(answer.json()["errors"][0]["field"], field, "{body}: {}", answer.text);
        }

        let paused = api.post_as(&one, &format!("{path}/pause"), None, "").await;
        assert_eq!(paused.json()["state"], "paused", "{}", paused.text);
        assert_eq!(ids(&api.get_as(&one, &format!("{PATH}?state=paused")).await).len(), 1);
        assert_eq!(ids(&api.get_as(&one, &format!("{PATH}?state=enabled")).await).len(), 0);
        assert_eq!(api.get_as(&one, &format!("{PATH}?state=gone")).await.problem().0, 422);
        assert_eq!(ids(&api.get_as(&two, &format!("{PATH}?owner=p-1")).await).len(), 0);
        let resumed = api.post_as(&one, &format!("{path}/resume"), None, "").await;
        assert_eq!(resumed.json()["state"], "enabled");

        let rotate = format!("{path}/rotate-secret");
        let first = api.post_as(&one, &rotate, Some("r"), r#"{"signature":"hmac"}"#).await;
        assert!(first.json()["secret"].as_str().unwrap().starts_with("whsec_"), "{}", first.text);
        assert_eq!(first.json()["secrets"].as_array().unwrap().len(), 2);
        api.lose_answer("r").await;
        let again = api.post_as(&one, &rotate, Some("r"), r#"{"signature":"hmac"}"#).await;
        assert_eq!(again.json()["secret"], first.json()["secret"], "a lost answer rotates nothing twice");
        for text in [changed.to_string(), resumed.text, again.text] {
            assert!(!text.contains("t0ken") && !text.contains("whsk_"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_right_is_refused_by_name() {
    each_engine(async |db| {
        let api = Api::new(db);
        let partner = api.token("p-1", &[Role::Partner], "shop");
        for (body, status, code, field) in [
            ("{", 400, "malformed_json", ""),
            ("{}", 422, "invalid_fields", "url"),
            (r#"{"url":"https://e.com","nope":1}"#, 422, "invalid_fields", "nope"),
            (r#"{"url":"https://u:p@e.com"}"#, 422, "invalid_fields", "url"),
            (r#"{"url":"https://e.com","retryAttempts":0}"#, 422, "invalid_fields", "retryAttempts"),
            (r#"{"url":"https://e.com","filter":"$..x"}"#, 422, "invalid_fields", "filter"),
            (r#"{"url":"https://e.com","signature":"rsa"}"#, 422, "invalid_fields", "signature"),
            (r#"{"url":"https://e.com","headers":{"Host":"x"}}"#, 422, "invalid_fields", "headers.Host"),
            (r#"{"url":"https://e.com","events":["orders.*"]}"#, 422, "unknown_event_type", "events[0]"),
            (r#"{"url":"https://e.com","secret":"short"}"#, 422, "invalid_fields", "secret"),
            (r#"{"url":"https://e.com","events":["order.payed"]}"#, 422, "unknown_event_type", "events[0]"),
            (r#"{"url":"https://e.com","events":["job.completed"]}"#, 422, "invalid_fields", "events[0]"),
        ] {
            let answer = api.post_as(&partner, PATH, None, body).await;
            assert_eq!(answer.problem(), (status, code.to_owned()), "{body}: {}", answer.text);
            assert_eq!(answer.json()["errors"][0]["field"].as_str().unwrap_or_default(), field, "{body}");
        }
        assert_eq!(ids(&api.get_as(&partner, PATH).await).len(), 0);
    })
    .await;
}

fn attempt(endpoint: &str, number: i64, vault: &Vault) -> Attempt {
    let answer = vault.seal(Subject::Tenant { tenant: "shop" }, b"try later").unwrap();
    Attempt {
        tenant: "shop".to_owned(),
        attempt_id: format!("a-{number}"),
        endpoint_id: endpoint.to_owned(),
        delivery_id: "d-1".to_owned(),
        webhook_id: "evt_1".to_owned(),
        event_id: "1".to_owned(),
        event_type: "order.paid".to_owned(),
        order_id: "o-1".to_owned(),
        attempt: number,
        outcome: "failed".to_owned(),
        status: Some(503),
        latency_ms: 12,
        error: Some("answered 503".to_owned()),
        response: Some(answer),
        attempted_at: number * 1_000,
        next_attempt_at: None,
        source_topic: None,
        source_partition: None,
        source_offset: None,
        resend: false,
    }
}

#[tokio::test]
async fn what_was_tried_is_shown_newest_first_to_whose_endpoint_it_is() {
    each_engine(async |db| {
        let api = Api::new(db);
        let partner = api.token("p-1", &[Role::Partner], "shop");
        let made = api.post_as(&partner, PATH, None, r#"{"url":"https://example.com/hook"}"#).await.json();
        let id = made["id"].as_str().unwrap();
        let rows: Vec<Attempt> = (1..=3).map(|number| attempt(id, number, &api.parts.vault)).collect();
        let mut tx = api.parts.db.begin().await.unwrap();
        attempts::add(&mut tx, &rows).await.unwrap();
        tx.commit().await.unwrap();

        let path = format!("{PATH}/{id}/deliveries");
        let first = api.get_as(&partner, &format!("{path}?limit=2")).await.json();
        let cursor = first["nextCursor"].as_str().unwrap();
        let second = api.get_as(&partner, &format!("{path}?limit=2&cursor={cursor}")).await.json();
        let numbers = |page: &Value| -> Vec<i64> {
            page["data"].as_array().unwrap().iter().map(|row| row["attempt"].as_i64().unwrap()).collect()
        };
        assert_eq!((numbers(&first), numbers(&second)), (vec![3, 2], vec![1]));
        assert_eq!(second["nextCursor"], Value::Null);
        let shown = &second["data"][0];
        assert_eq!((&shown["response"], &shown["status"]), (&"try later".into(), &503.into()));
        assert_eq!(shown["attemptedAt"], "1970-01-01T00:00:01.000Z");

        for (filter, expected) in [
            ("orderId=o-1&outcome=failed&status=503&event=ORDER_PAID", vec![3, 2, 1]),
            ("orderId=o-2", vec![]),
            ("outcome=delivered", vec![]),
            ("event=order.shipped", vec![]),
            ("from=1970-01-01T00:00:02Z&to=1970-01-01T00:00:03Z", vec![2]),
        ] {
            let found = api.get_as(&partner, &format!("{path}?{filter}")).await.json();
            assert_eq!(numbers(&found), expected, "{filter}");
        }
        for filter in ["outcome=good", "from=yesterday", "event=order.payed", "nope=1"] {
            assert_eq!(api.get_as(&partner, &format!("{path}?{filter}")).await.problem().0, 422, "{filter}");
        }
        let delivery = api.get_as(&partner, &format!("{path}/d-1")).await.json();
        assert_eq!((&delivery["state"], &delivery["orderId"]), (&"failed".into(), &"o-1".into()));
        assert_eq!(delivery["attempts"].as_array().unwrap().len(), 3);
        let unknown = api.get_as(&partner, &format!("{path}/d-2")).await;
        assert_eq!(unknown.problem(), (404, "delivery_not_found".to_owned()));
        let other = api.token("p-2", &[Role::Partner], "shop");
        let foreign = api.get_as(&other, &format!("{path}/d-1")).await;
        assert_eq!(foreign.problem(), (404, "webhook_not_found".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn stats_count_what_the_caller_may_see() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (one, two) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let service = api.token("erp", &[Role::Service], "shop");
        let now = api.parts.clock.now_ms();
        let mut rows = Vec::new();
        for (token, outcome, delivery) in
            [(&one, "delivered", "d-1"), (&two, "failed", "d-2"), (&two, "failed", "d-3")]
        {
            let made = api.post_as(token, PATH, None, r#"{"url":"https://example.com/hook"}"#).await.json();
            let id = made["id"].as_str().unwrap().to_owned();
            let number = i64::try_from(rows.len()).unwrap();
            let next_attempt_at = (delivery == "d-3").then_some(now + 1_000);
            let row = attempt(&id, number, &api.parts.vault);
            rows.push(Attempt {
                outcome: outcome.to_owned(),
                delivery_id: delivery.to_owned(),
                attempted_at: now,
                next_attempt_at,
                ..row
            });
        }
        // An earlier attempt at the one that was taken, which waits no more, and one of long ago.
        let earlier = Attempt {
            outcome: "failed".to_owned(),
            attempt_id: "a-x".to_owned(),
            attempted_at: now - 5,
            next_attempt_at: Some(now),
            ..rows[0].clone()
        };
        let old = Attempt { attempt_id: "a-y".to_owned(), attempted_at: 1, ..rows[0].clone() };
        rows.extend([earlier, old]);
        let mut tx = api.parts.db.begin().await.unwrap();
        attempts::add(&mut tx, &rows).await.unwrap();
        tx.commit().await.unwrap();
        for (token, expected) in [(&one, (1, 1, 0, 0)), (&two, (2, 0, 1, 1)), (&service, (3, 1, 1, 1))] {
            let stats = api.get_as(token, &format!("{PATH}/stats")).await.json();
            let number = |name: &str| stats[name].as_u64().unwrap();
            let told = (
                number("registeredWebhooks"),
                number("deliveredWebhooks"),
                number("failedWebhooks"),
                number("queuedWebhooks"),
            );
            assert_eq!(told, expected, "{stats}");
        }
        let rate = api.get_as(&service, &format!("{PATH}/stats")).await.json();
        assert_eq!(rate["deliveryRate"], 0.5);
        let nothing = api.token("p-3", &[Role::Partner], "shop");
        assert_eq!(api.get_as(&nothing, &format!("{PATH}/stats")).await.json()["deliveryRate"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_test_goes_to_ones_own_endpoint_or_to_an_allowed_url() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (one, two) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let made = api.post_as(&one, PATH, None, r#"{"url":"https://example.com/hook"}"#).await.json();
        let body = format!(r#"{{"webhookId":{}}}"#, made["id"]);
        let path = format!("{PATH}/test");
        let tested = api.post_as(&one, &path, None, &body).await.json();
        assert_eq!((&tested["status"], &tested["url"]), (&418.into(), &"https://example.com/hook".into()));
        assert_eq!((&tested["requestBody"], &tested["secret"]), (&"{}".into(), &Value::Null));
        assert_eq!(
            api.post_as(&two, &path, None, &body).await.problem(),
            (404, "webhook_not_found".to_owned())
        );
        let url = api.post_as(&two, &path, None, r#"{"url":"https://example.com/other"}"#).await.json();
        assert!(url["secret"].as_str().unwrap().starts_with("whsec_"));
        for body in
            ["{}", r#"{"webhookId":"x","url":"https://e.com"}"#, r#"{"url":"ftp://e.com"}"#, r#"{"url":1}"#]
        {
            assert_eq!(api.post_as(&one, &path, None, body).await.problem().0, 422, "{body}");
        }
    })
    .await;
}
