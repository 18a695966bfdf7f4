//! What may be registered, and what comes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::secrets::{MOST_LIVE, SECRET_BYTES};
use super::settings::Accepted;
use super::*;
use crate::event::{EventPattern, EventType};
use crate::store::testing::each_engine;
use crate::store::webhooks::{SignatureScheme, Subscription, open_secrets};

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
    Registration { url: url.to_owned(), ..Registration::default() }
}

fn good() -> Registration {
    asking("https://example.com/hook")
}

fn own(headers: &[(&str, &str)]) -> std::collections::BTreeMap<String, Secret<String>> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect()
}

#[test]
fn any_spelling_of_a_type_is_taken_and_none_is_all() {
    let check = |names: &[&str], expected: &[&str]| {
        let events = names.iter().map(|name| (*name).to_owned()).collect();
        let accepted = rules().check(&Registration { events, ..good() }).unwrap();
        assert_eq!(accepted.events.unwrap().patterns(), expected, "{names:?}");
    };
    check(&[], &["*"]);
    check(&["order.paid", "*"], &["*"]);
    check(
        &["ORDER_SHIPPED", "OrderCreatedEvent", "order:shipped", "PAYMENT_RECEIVED", "DISPUTE_*"],
        &["order.created", "order.paid", "order.shipped", "dispute.*"],
    );
}

#[test]
fn defaults_are_filled_in_and_urls_made_canonical() {
    let accepted = rules().check(&asking("HTTPS://Example.COM:443/a b?x=1")).unwrap();
    let expected = Accepted {
        url: Some("https://example.com/a%20b?x=1".to_owned()),
        events: Some(Subscription::All),
        timeout_ms: Some(10_000),
        filter: Some(None),
        headers: Some(webhooks::Headers::new()),
        rate: Some(None),
        concurrency: Some(None),
        retry_attempts: Some(None),
        retry_delay_ms: Some(None),
        contact: Some(None),
        description: Some(None),
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
        (
            Registration { events: vec!["job.*".to_owned(), "orders.*".to_owned()], ..good() },
            vec!["events[1]"],
        ),
        (Registration { filter: Some("$..a".to_owned()), ..good() }, vec!["filter"]),
        (
            Registration { headers: own(&[("Host", "x"), ("X-A", "a"), ("x-a", "b")]), ..good() },
            vec!["headers.Host", "headers.x-a"],
        ),
        (
            Registration {
                headers: (0..21).map(|n| (n.to_string(), Secret::new(n.to_string()))).collect(),
                ..good()
            },
            vec!["headers"],
        ),
        (Registration { rate: Some(0), concurrency: Some(1_001), ..good() }, vec!["rate", "concurrency"]),
        (Registration { contact: Some("nobody".to_owned()), ..good() }, vec!["contact"]),
        (Registration { contact: Some("a@b.c\r\nBcc: d@e.f".to_owned()), ..good() }, vec!["contact"]),
        (Registration { description: Some("two\nlines".to_owned()), ..good() }, vec!["description"]),
        (Registration { secret: secret("whsk_AAAAAAAA"), ..good() }, vec!["secret"]),
        (
            Registration {
                secret: secret("a-secret-of-ones-own"),
                signature: Some(SignatureScheme::Ed25519),
                ..good()
            },
            vec!["secret"],
        ),
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
        assert!(matches!(third, Err(WebhookError::TooMany(2))), "{third:?}");
        assert!(!registrar.remove("shop", Some("p-2"), &first.endpoint.id).await.unwrap());
        assert!(!registrar.remove("market", None, &first.endpoint.id).await.unwrap());
        assert!(registrar.remove("shop", Some("p-1"), &first.endpoint.id).await.unwrap());
        registrar.register("shop", None, &good()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_null_takes_a_value_away() {
    each_engine(async |db| {
        let registrar = Registrar::new(db, Vault::ephemeral(), Clock::system(), rules());
        let full = Registration {
            events: vec!["order.shipped".to_owned()],
            filter: Some("$.data.total".to_owned()),
            headers: own(&[("Authorization", "Bearer t")]),
            rate: Some(5),
            concurrency: Some(2),
            contact: Some("ops@partner.example".to_owned()),
            timeout: Some(500),
            ..good()
        };
        let made = registrar.register("shop", Some("p-1"), &full).await.unwrap();
        let id = made.endpoint.id.as_str();
        let change = Change {
            url: Some("https://example.com/new".to_owned()),
            events: Some(vec!["payment.*".to_owned()]),
            filter: Some(None),
            rate: Some(None),
            timeout: Some(None),
            ..Change::default()
        };
        for (tenant, owner) in [("shop", Some("p-2")), ("market", None)] {
            let refused = registrar.change(tenant, owner, id, &change).await;
            assert!(matches!(refused, Err(WebhookError::NotFound(_))), "{refused:?}");
        }
        let changed = registrar.change("shop", Some("p-1"), id, &change).await.unwrap();
        let shown = registrar.show(&changed).unwrap();
        assert_eq!(
            (shown.url.as_str(), shown.events),
            ("https://example.com/new", vec!["payment.*".to_owned()])
        );
        assert_eq!((shown.filter, shown.rate, shown.concurrency), (None, None, Some(2)));
        assert_eq!((shown.header_names, shown.timeout), (vec!["authorization".to_owned()], 10_000));
        assert_eq!(shown.contact.as_deref(), Some("ops@partner.example"));
        let shipped = EventPattern::Type(EventType::OrderShipped);
        assert_eq!(
            changed.events_before,
            Subscription::Only(vec![shipped]),
            "what waits of it is still told"
        );
        assert_eq!(changed.secrets, made.endpoint.secrets);

        let bad = Change { url: Some("ftp://x".to_owned()), rate: Some(Some(0)), ..Change::default() };
        let refused = registrar.change("shop", None, id, &bad).await;
        assert!(matches!(&refused, Err(WebhookError::Fields(faults)) if faults.len() == 2), "{refused:?}");

        let paused = registrar.pause("shop", Some("p-1"), id).await.unwrap();
        assert_eq!(paused.state, EndpointState::Paused);
        let resumed = registrar.resume("shop", None, id).await.unwrap();
        assert_eq!(resumed.state, EndpointState::Enabled);
        assert!(registrar.pause("shop", Some("p-2"), id).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn secrets_are_rotated_with_overlap_and_at_most_ten_sign() {
    each_engine(async |db| {
        let registrar = Registrar::new(db, Vault::ephemeral(), Clock::system(), rules());
        let made = registrar.register("shop", Some("p-1"), &good()).await.unwrap();
        let id = made.endpoint.id.as_str();
        let rotate = async |rotation: Rotation| registrar.rotate("shop", Some("p-1"), id, &rotation).await;
        let named = Rotation { request: Some(Uuid::nil()), overlap: Some(60_000), ..Rotation::default() };
        let first = rotate(named.clone()).await.unwrap();
        let again = rotate(named).await.unwrap();
        assert_eq!(first.secret, again.secret, "the repeat of a request rotates nothing");
        let signing = open_secrets(&registrar.vault, &again.endpoint).unwrap();
        assert_eq!(signing.iter().map(|one| &one.secret).collect::<Vec<_>>(), [&first.secret, &made.secret]);
        assert!(signing[0].expires_at.is_none() && signing[1].expires_at.is_some());

        let pair = Rotation { signature: Some(SignatureScheme::Ed25519), ..Rotation::default() };
        let pair = rotate(pair).await.unwrap();
        assert_eq!(pair.shown_secret(), None, "the private key is told to nobody");
        let shown = registrar.show(&pair.endpoint).unwrap();
        assert_eq!((shown.signature, shown.secrets.len()), ("ed25519", 3));
        assert!(shown.secrets[0].public_key.as_ref().unwrap().starts_with("whpk_"));
        let kept = rotate(Rotation::default()).await.unwrap();
        assert_eq!(registrar.show(&kept.endpoint).unwrap().signature, "ed25519", "as before unless said");

        let own = Some(Secret::new("a-secret-of-ones-own".to_owned()));
        let hmac = Some(SignatureScheme::Hmac);
        for _ in 0..2 {
            let own = Rotation { secret: own.clone(), signature: hmac, ..Rotation::default() };
            assert_eq!(rotate(own).await.unwrap().shown_secret(), Some("a-secret-of-ones-own"));
        }
        for _ in 5..MOST_LIVE {
            rotate(Rotation::default()).await.unwrap();
        }
        let refused = rotate(Rotation::default()).await;
        assert!(matches!(refused, Err(WebhookError::TooManySecrets(MOST_LIVE))), "{refused:?}");
        let cut = rotate(Rotation { overlap: Some(0), ..Rotation::default() }).await.unwrap();
        assert_eq!(
            registrar.show(&cut.endpoint).unwrap().secrets.len(),
            1,
            "without overlap the old ones go"
        );
        for overlap in [-1, i64::MAX] {
            let refused = rotate(Rotation { overlap: Some(overlap), ..Rotation::default() }).await;
            assert!(matches!(refused, Err(WebhookError::Fields(_))), "{refused:?}");
        }
        assert!(registrar.rotate("shop", Some("p-2"), id, &Rotation::default()).await.is_err());
    })
    .await;
}
