//! The floor: who may take which route, how errors look, health, metrics, origins.

use super::*;
use crate::http::routes::{Access, Rule};

#[tokio::test]
async fn every_route_lets_in_its_roles_and_nobody_else() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (rules, _) = router::rules(api.parts.clone());
        for Rule { method, path, access } in rules {
            let Access::Roles(allowed) = access else { continue };
            let path = path.replace(['{', '}'], "");
            let ask = async |token: Option<String>| {
                let mut request = request(method, &path).header("content-type", "application/json");
                if let Some(token) = token {
                    request = request.header("authorization", token);
                }
                api.ask(request.body(Body::from("{}")).unwrap()).await
            };
            assert_eq!(ask(None).await.code(), "token_missing", "{method} {path}");
            assert_eq!(ask(Some("Bearer x.y.z".to_owned())).await.code(), "token_invalid", "{method} {path}");
            assert_eq!(
                ask(Some(api.token("x", &[], "shop"))).await.code(),
                "role_not_allowed",
                "{method} {path}"
            );
            for role in Role::ALL {
                let answer = ask(Some(api.token("x", &[role], "shop"))).await;
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
async fn to_another_tenant_everything_is_as_if_it_were_not_there() {
    each_engine(async |db| {
        let api = Api::new(db);
        api.remember("shop", "o-1", life_of_an_order("shop", "o-1")).await;
        let (rules, _) = router::rules(api.parts.clone());
        for Rule { method, path, access } in rules {
            let Access::Roles(allowed) = access else { continue };
            for role in allowed {
                let ask = async |subject: &str, tenant: &str, id: &str| {
                    let request = request(method, &path.replace("{id}", id))
                        .header("authorization", api.token(subject, &[*role], tenant))
                        .header("content-type", "application/json");
                    let answer = api.ask(request.body(Body::from("{}")).unwrap()).await;
                    (answer.status, answer.text.replace(id, "ID"))
                };
                for party in ["ana", "sam"] {
                    let theirs = ask(party, "other", "o-1").await;
                    assert_eq!(theirs, ask(party, "other", "o-none").await, "{method} {path} as {role}");
                    assert!(!theirs.1.contains("JD-shop"), "{method} {path} as {role}: {}", theirs.1);
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_panic_and_a_slow_answer_are_problems_too() {
    each_engine(async |db| {
        let options = HttpOptions { request_timeout: Duration::from_millis(50), ..options() };
        let api = Api::with(db, options);
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        let routes = axum::Router::new()
            .route("/panics", axum::routing::get(panics))
            .route("/hangs", axum::routing::get(std::future::pending::<&'static str>));
        let routes = layers::around(routes, api.parts.clone()).unwrap();
        for (path, status, code) in [("/panics", 500, "internal"), ("/hangs", 503, "timed_out")] {
            let asked = request("GET", path).body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(asked).await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let problem: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(problem["code"], code);
            assert!(!problem.to_string().contains("on purpose"), "what broke is for the log alone");
        }
        let text = api.get("/metrics").await.text;
        assert!(
            text.contains(r#"orderflow_http_requests_total{method="GET",route="/panics",status="500"} 1"#)
        );
    })
    .await;
}

#[tokio::test]
async fn the_description_lists_every_route_with_its_roles() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (rules, _) = router::rules(api.parts.clone());
        let described = api.get("/openapi.json").await.json();
        let docs = api.get("/docs").await.text;
        for Rule { method, path, access } in rules {
            let operation = &described["paths"][&path][method.to_lowercase()];
            assert!(operation.is_object(), "{method} {path}");
            assert!(
                operation["summary"].is_string() || operation["description"].is_string(),
                "{method} {path}"
            );
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert_eq!(operation["security"].is_array(), access != Access::Public, "{method} {path}");
            assert!(docs.contains(&format!("<code>{path}</code>")), "{path}");
        }
        assert!(described["components"]["schemas"]["Problem"].is_object());
        let errors = api.get("/docs/errors").await.text;
        assert!(Code::ALL.iter().all(|code| errors.contains(&format!("id=\"{}\"", code.as_str()))));
    })
    .await;
}

#[tokio::test]
async fn errors_have_one_form_whoever_makes_them() {
    each_engine(async |db| {
        let api = Api::new(db);
        let check = async |method: &str, path: &str, status: u16, code: &str| {
            let answer = api.ask(request(method, path).body(Body::empty()).unwrap()).await;
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
        let mut api = Api::new(db);
        assert_eq!(api.get("/health/live").await.json()["status"], "ok");
        assert_eq!(api.get("/health/ready").await.json()["status"], "ready");
        let events = api.get("/health/events").await.json();
        assert_eq!((&events["status"], &events["eventBus"]["subscribers"]), (&"ok".into(), &5.into()));

        let troubled = EventsHealth {
            active: true,
            troubles: vec!["webhook: partition 3 is stalled".to_owned()],
            ..EventsHealth::default()
        };
        api.parts.events_health = Probe::new(move || std::future::ready(Ok(troubled.clone())));
        let events = api.get("/health/events").await;
        assert_eq!(events.status, StatusCode::OK);
        assert_eq!(events.json()["status"], "degraded");
        assert_eq!(events.json()["troubles"][0], "webhook: partition 3 is stalled");

        let broken = Probe::new(async || Err("connection refused".to_owned()));
        let healthy = Check { name: "database", probe: Probe::new(async || Ok(())) };
        api.parts.readiness = Arc::new([Check { name: "kafka", probe: broken }, healthy]);
        api.parts.events_health = Probe::new(async || Ok(EventsHealth::default()));
        let ready = api.get("/health/ready").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["checks"]["kafka"], "connection refused");
        assert_eq!(ready.json()["checks"]["database"], "ok");
        assert_eq!(api.get("/health/events").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(api.get("/health/live").await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_ask_for_a_token_when_told() {
    each_engine(async |db| {
        let open = Api::new(db.clone());
        open.get("/health/live").await;
        open.get("/wp-login.php").await;
        let text = open.get("/metrics").await.text;
        for series in [
            r#"orderflow_http_requests_total{method="GET",route="/health/live",status="200"} 1"#,
            r#"orderflow_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
            r#"orderflow_http_request_duration_seconds_count{method="GET",route="/health/live"} 1"#,
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
        let metrics_token = Some(Secret::new("scrape".to_owned()));
        let closed = Api::with(db, HttpOptions { metrics_token, ..options() });
        assert_eq!(closed.get("/metrics").await.code(), "token_missing");
        for (sent, status) in [("Bearer scrape", 200), ("Bearer scraped", 401), ("Basic scrape", 401)] {
            let request =
                request("GET", "/metrics").header("authorization", sent).body(Body::empty()).unwrap();
            assert_eq!(closed.ask(request).await.status.as_u16(), status, "{sent}");
        }
    })
    .await;
}

#[tokio::test]
async fn only_named_origins_may_call_and_odd_request_ids_are_replaced() {
    each_engine(async |db| {
        let api = Api::new(db.clone());
        for (origin, allowed) in [("https://shop.example", true), ("https://evil.example", false)] {
            let request =
                request("GET", "/health/live").header("origin", origin).body(Body::empty()).unwrap();
            let answer = api.ask(request).await;
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        }
        for (id, kept) in [("abc-1", true), ("a b", false), (&*"x".repeat(65), false)] {
            let request =
                request("GET", "/health/live").header("x-request-id", id).body(Body::empty()).unwrap();
            assert_eq!(api.ask(request).await.headers["x-request-id"] == id, kept, "{id}");
        }
        for origin in ["*", "shop.example", "https://shop.example/"] {
            let bad = HttpOptions { cors_origins: vec![origin.to_owned()], ..options() };
            assert!(router(Api::with(db.clone(), bad).parts).is_err(), "{origin}");
        }
    })
    .await;
}
