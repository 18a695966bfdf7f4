//! What may be registered, and what comes of it.

use super::rules::Accepted;
use super::*;
use crate::event::EventType;
use crate::store::testing::each_engine;
use crate::store::webhooks::Subscription;

fn rules() -> Rules {
    let seconds = [5, 300, 1_800].map(Duration::from_secs);
    Rules {
        allow_http: false,
        timeout: Duration::from_secs(10),
        endpoints_per_tenant: 2,
        refresh: Duration::from_millis(1),
        deliverable: EventType::ALL.iter().copied().filter(|kind| *kind != EventType::JobCompleted).collect(),
        policy: Schedule { attempts: 8, delays: seconds.to_vec(), jitter_percent: 10 },
    }
}

fn asking(url: &str) -> Registration {
    Registration {
        url: url.to_owned(),
        secret: None,
        events: Vec::new(),
        retry_attempts: None,
        retry_delay: None,
        timeout: None,
        request: None,
    }
}

fn good() -> Registration {
    asking("https://example.com/hook")
}

#[test]
fn any_spelling_of_a_type_is_taken_and_none_is_all() {
    let check = |names: &[&str], expected: Subscription| {
        let events = names.iter().map(|name| (*name).to_owned()).collect();
        let accepted = rules().check(&Registration { events, ..good() }).unwrap();
        assert_eq!(accepted.events, expected, "{names:?}");
    };
    check(&[], Subscription::All);
    check(&["order.paid", "*"], Subscription::All);
    check(
        &["ORDER_SHIPPED", "OrderCreatedEvent", "order:shipped", "PAYMENT_RECEIVED"],
        Subscription::Only(vec![EventType::OrderCreated, EventType::OrderPaid, EventType::OrderShipped]),
    );
}

#[test]
fn defaults_are_filled_in_and_urls_made_canonical() {
    let accepted = rules().check(&asking("HTTPS://Example.COM:443/a b?x=1")).unwrap();
    let expected = Accepted {
        url: "https://example.com/a%20b?x=1".to_owned(),
        events: Subscription::All,
        retry_attempts: None,
        timeout_ms: 10_000,
    };
    assert_eq!(accepted, expected);
}

#[test]
fn everything_that_is_wrong_is_named() {
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let long = format!("https://example.com/{}", "x".repeat(3_000));
    for (registration, fields) in [
        (asking("not a url"), vec!["url"]),
        (asking("http://example.com"), vec!["url"]),
        (asking("ftp://example.com"), vec!["url"]),
        (asking("https://user:pw@example.com"), vec!["url"]),
        (asking("https://example.com/#x"), vec!["url"]),
        (asking("https://example.com:0/"), vec!["url"]),
        (asking(&long), vec!["url"]),
        (Registration { secret: secret("short"), ..good() }, vec!["secret"]),
        (Registration { secret: secret("has a space in it"), ..good() }, vec!["secret"]),
        (Registration { secret: secret("whsec_not-base64!"), ..good() }, vec!["secret"]),
        (Registration { secret: secret("whsec_AAAA"), ..good() }, vec!["secret"]),
        (
            Registration { retry_attempts: Some(0), retry_delay: Some(-1), ..good() },
            vec!["retryAttempts", "retryDelay"],
        ),
        (
            Registration { retry_attempts: Some(21), timeout: Some(1), ..good() },
            vec!["retryAttempts", "timeout"],
        ),
        (
            Registration { events: vec!["order.paid".to_owned(), "order.payed".to_owned()], ..asking("x") },
            vec!["url", "events[1]"],
        ),
        (
            Registration { events: vec!["*".to_owned(), "job.completed".to_owned()], ..good() },
            vec!["events[1]"],
        ),
        (Registration { events: vec!["order.paid".to_owned(); 201], ..good() }, vec!["events"]),
    ] {
        let faults = rules().check(&registration).unwrap_err();
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            fields,
            "{registration:?}"
        );
    }
    assert!(Rules { allow_http: true, ..rules() }.check(&asking("http://127.0.0.1:8080")).is_ok());
}

#[tokio::test]
async fn a_registration_has_a_secret_of_its_own_and_a_schedule() {
    each_engine(async |db| {
        let registrar = Registrar::new(db, Vault::ephemeral(), Clock::system(), rules());
        let first = registrar.register("shop", Some("p-1"), &good()).await.unwrap();
        let secret = first.secret.expose();
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(key.len(), SECRET_BYTES);
        assert_eq!(registrar.schedule(&first.endpoint), rules().policy);

        let own = Registration {
            secret: Some(Secret::new("a-secret-of-ones-own".to_owned())),
            retry_attempts: Some(3),
            retry_delay: Some(1_000),
            ..good()
        };
        let second = registrar.register("shop", None, &own).await.unwrap();
        assert_eq!(second.secret.expose(), "a-secret-of-ones-own");
        let schedule = registrar.schedule(&second.endpoint);
        assert_eq!((schedule.attempts, schedule.delays), (3, [1, 2].map(Duration::from_secs).to_vec()));
        assert_ne!(first.endpoint.id, second.endpoint.id);

        let third = registrar.register("shop", None, &good()).await;
        assert!(matches!(third, Err(RegisterError::TooMany(2))), "{third:?}");
        assert!(!registrar.remove("shop", Some("p-2"), &first.endpoint.id).await.unwrap());
        assert!(!registrar.remove("market", None, &first.endpoint.id).await.unwrap());
        assert!(registrar.remove("shop", Some("p-1"), &first.endpoint.id).await.unwrap());
        registrar.register("shop", None, &good()).await.unwrap();
    })
    .await;
}
