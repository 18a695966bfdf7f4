//! The API as a whole, called without a network: who may do what, and how every error looks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

use super::routes::{Access, Rule};
use super::token::{Grant, issue};
use super::*;
use crate::clock::Clock;
use crate::crypto::{Secret, Vault};
use crate::store::Database;
use crate::store::testing::each_engine;
use crate::telemetry::Metrics;

fn options() -> HttpOptions {
    HttpOptions {
        jwt_secret: Some(Secret::new("a-secret-of-more-than-thirty-two-bytes".to_owned())),
        max_body_bytes: 64 * 1024,
        cors_origins: vec!["https://shop.example".to_owned()],
        ..HttpOptions::default()
    }
}

fn parts(db: Database, options: HttpOptions) -> Parts {
    let clock = Clock::system();
    Parts {
        auth: Arc::new(Auth::new(&options, clock.clone()).unwrap()),
        options: Arc::new(options),
        db,
        vault: Vault::ephemeral(),
        metrics: Metrics::new(),
        clock,
        readiness: Arc::new([Check { name: "database", probe: Probe::new(async || Ok(())) }]),
        events_health: Probe::new(async || {
            Ok(EventsHealth { active: true, subscribers: 5, ..Default::default() })
        }),
    }
}

fn token(parts: &Parts, roles: &[Role], tenant: &str) -> String {
    let grant = Grant { subject: "somebody", roles, tenant, ttl: Duration::from_secs(60) };
    format!("Bearer {}", issue(&parts.options, &parts.clock, &grant).unwrap().expose())
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask(parts: &Parts, request: Request<Body>) -> Answer {
    let response = router(parts.clone()).unwrap().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

async fn get(parts: &Parts, path: &str) -> Answer {
    ask(parts, request("GET", path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_route_lets_in_its_roles_and_nobody_else() {
    each_engine(async |db| {
        let parts = parts(db, options());
        let (rules, _) = router::rules(parts.clone());
        for Rule { method, path, access } in rules {
            let Access::Roles(allowed) = access else { continue };
            let path = path.replace(['{', '}'], "");
            let ask = async |token: Option<String>| {
                let mut request = request(method, &path).header("content-type", "application/json");
                if let Some(token) = token {
                    request = request.header("authorization", token);
                }
                ask(&parts, request.body(Body::from("{}")).unwrap()).await
            };
            assert_eq!(ask(None).await.code(), "token_missing", "{method} {path}");
            assert_eq!(ask(Some("Bearer x.y.z".to_owned())).await.code(), "token_invalid", "{method} {path}");
            assert_eq!(
                ask(Some(token(&parts, &[], "shop"))).await.code(),
                "role_not_allowed",
                "{method} {path}"
            );
            for role in Role::ALL {
                let answer = ask(Some(token(&parts, &[role], "shop"))).await;
                let refused = answer.code() == "role_not_allowed";
                assert_eq!(refused, !allowed.contains(&role), "{method} {path} as {role}: {}", answer.text);
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} as {role}");
                assert!(answer.status.as_u16() < 500, "{method} {path} as {role}: {}", answer.text);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_description_lists_every_route_with_its_roles() {
    each_engine(async |db| {
        let parts = parts(db, options());
        let (rules, _) = router::rules(parts.clone());
        let api = get(&parts, "/openapi.json").await.json();
        let docs = get(&parts, "/docs").await.text;
        for Rule { method, path, access } in rules {
            let operation = &api["paths"][&path][method.to_lowercase()];
            assert!(operation.is_object(), "{method} {path}");
            assert!(
                operation["summary"].is_string() || operation["description"].is_string(),
                "{method} {path}"
            );
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert_eq!(operation["security"].is_array(), access != Access::Public, "{method} {path}");
            assert!(docs.contains(&format!("<code>{path}</code>")), "{path}");
        }
        assert!(api["components"]["schemas"]["Problem"].is_object());
        let errors = get(&parts, "/docs/errors").await.text;
        assert!(Code::ALL.iter().all(|code| errors.contains(&format!("id=\"{}\"", code.as_str()))));
    })
    .await;
}

#[tokio::test]
async fn errors_have_one_form_whoever_makes_them() {
    each_engine(async |db| {
        let parts = parts(db, options());
        let check = async |method: &str, path: &str, status: u16, code: &str| {
            let answer = ask(&parts, request(method, path).body(Body::empty()).unwrap()).await;
            let json = answer.json();
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{method} {path}");
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
            assert!(answer.headers.contains_key("x-request-id"));
            assert_eq!(json["instance"], path.split('?').next().unwrap());
            assert_eq!(json["type"], format!("/docs/errors#{code}"));
            assert_eq!(json["status"], status);
            answer
        };
        check("GET", "/nope", 404, "route_not_found").await;
        check("GET", "/%ff", 404, "route_not_found").await;
        let allow = check("POST", "/health/live", 405, "method_not_allowed").await;
        assert_eq!(allow.headers["allow"], "GET,HEAD");
        let unknown = check("GET", "/health/live?verbose=1", 422, "invalid_fields").await;
        assert_eq!(unknown.json()["errors"][0]["field"], "verbose");
    })
    .await;
}

#[tokio::test]
async fn health_names_what_is_wrong() {
    each_engine(async |db| {
        let mut parts = parts(db, options());
        assert_eq!(get(&parts, "/health/live").await.json()["status"], "ok");
        assert_eq!(get(&parts, "/health/ready").await.json()["status"], "ready");
        let events = get(&parts, "/health/events").await.json();
        assert_eq!((&events["status"], &events["eventBus"]["subscribers"]), (&"ok".into(), &5.into()));

        let broken = Probe::new(async || Err("connection refused".to_owned()));
        let healthy = Check { name: "database", probe: Probe::new(async || Ok(())) };
        parts.readiness = Arc::new([Check { name: "kafka", probe: broken }, healthy]);
        parts.events_health = Probe::new(async || Ok(EventsHealth::default()));
        let ready = get(&parts, "/health/ready").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["checks"]["kafka"], "connection refused");
        assert_eq!(ready.json()["checks"]["database"], "ok");
        assert_eq!(get(&parts, "/health/events").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&parts, "/health/live").await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_ask_for_a_token_when_told() {
    each_engine(async |db| {
        let open = parts(db.clone(), options());
        get(&open, "/health/live").await;
        get(&open, "/wp-login.php").await;
        let text = get(&open, "/metrics").await.text;
        for series in [
            r#"orderflow_http_requests_total{method="GET",route="/health/live",status="200"} 1"#,
            r#"orderflow_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
            r#"orderflow_http_request_duration_seconds_count{method="GET",route="/health/live"} 1"#,
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
        let metrics_token = Some(Secret::new("scrape".to_owned()));
        let closed = parts(db, HttpOptions { metrics_token, ..options() });
        assert_eq!(get(&closed, "/metrics").await.code(), "token_missing");
        for (sent, status) in [("Bearer scrape", 200), ("Bearer scraped", 401), ("Basic scrape", 401)] {
            let request =
                request("GET", "/metrics").header("authorization", sent).body(Body::empty()).unwrap();
            assert_eq!(ask(&closed, request).await.status.as_u16(), status, "{sent}");
        }
    })
    .await;
}

#[tokio::test]
async fn only_named_origins_may_call_and_odd_request_ids_are_replaced() {
    each_engine(async |db| {
        let parts = parts(db.clone(), options());
        for (origin, allowed) in [("https://shop.example", true), ("https://evil.example", false)] {
            let request =
                request("GET", "/health/live").header("origin", origin).body(Body::empty()).unwrap();
            let answer = ask(&parts, request).await;
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        }
        for (id, kept) in [("abc-1", true), ("a b", false), (&*"x".repeat(65), false)] {
            let request =
                request("GET", "/health/live").header("x-request-id", id).body(Body::empty()).unwrap();
            assert_eq!(ask(&parts, request).await.headers["x-request-id"] == id, kept, "{id}");
        }
        for origin in ["*", "shop.example", "https://shop.example/"] {
            let bad = HttpOptions { cors_origins: vec![origin.to_owned()], ..options() };
            let bad = self::parts(db.clone(), bad);
            assert!(router(bad).is_err(), "{origin}");
        }
    })
    .await;
}
