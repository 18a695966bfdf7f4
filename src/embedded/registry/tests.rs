//! The same calls against the embedded registry and a real one, which ORDERFLOW_TEST_REGISTRY names.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::EmbeddedRegistry;
use crate::event::{
    AvroRecord, Codec, DecodeError, Decoded, EncodeError, Event, Factory, LiveNotification, OrderShipped,
    Peeked, RegistryError, RegistryOptions,
};

/// Runs `check` against both registries, each with a topic of its own.
async fn each_registry(check: impl AsyncFn(&str, &str)) {
    let embedded = EmbeddedRegistry::start((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
    let real = std::env::var("ORDERFLOW_TEST_REGISTRY")
        .expect("ORDERFLOW_TEST_REGISTRY names a Confluent-compatible registry; see ops/dev");
    for url in [embedded.url(), &real] {
        check(url, &format!("registry-test-{}", uuid::Uuid::new_v4())).await;
    }
}

fn codec(url: &str, auto_register: bool) -> Codec {
    Codec::new(&RegistryOptions { url: url.to_owned(), auto_register, ..RegistryOptions::default() })
        .expect("the address is valid")
}

fn shipped() -> Event {
    Factory::new("shop", "test").order_shipped("o-1", 1_760_000_000_123, "DHL", "JD014600").into()
}

#[tokio::test]
async fn events_go_there_and_back_once_their_schema_is_registered() {
    each_registry(async |url, topic| {
        let (codec, event) = (codec(url, false), shipped());
        let subject = OrderShipped::schema().subject(topic);
        let refused = codec.encode(topic, &event).await;
        assert_eq!(refused, Err(EncodeError::NotRegistered { subject: subject.clone() }), "{url}");

        let id = codec.registry().register(&subject, OrderShipped::schema()).await.expect("it is registered");
        assert_eq!(
            codec.registry().register(&subject, OrderShipped::schema()).await,
            Ok(id),
            "once is enough"
        );
        let versions = codec.registry().versions(&subject).await.expect("it has versions");
        assert_eq!(versions.len(), 1);
        assert_eq!((versions[0].version, versions[0].text.as_str()), (1, OrderShipped::schema().text()));

        let payload = codec.encode(topic, &event).await.expect("it is registered now");
        let reader = self::codec(url, false);
        assert_eq!(reader.peek(&payload), None, "nothing is known yet");
        let Ok(Decoded::Event { event: read, schema_id, writer_version }) = reader.decode(&payload).await
        else {
            panic!("it is an event")
        };
        assert_eq!((read, writer_version), (event.clone(), Some(2)));
        assert_eq!(u32::try_from(schema_id), Ok(id));
        assert_eq!(reader.peek(&payload), Some(Peeked::Event(event.event_type())));
    })
    .await;
}

#[tokio::test]
async fn a_missing_schema_is_registered_when_the_options_say_so() {
    each_registry(async |url, topic| {
        let codec = codec(url, true);
        let note = LiveNotification { user_id: "u-1".to_owned(), ..LiveNotification::default() };
        let payload = codec.encode_record(topic, &note).await.expect("it is registered on the way");
        assert_eq!(codec.decode_record(&payload).await, Ok(note));
        let wrong = codec.decode_record::<OrderShipped>(&payload).await;
        assert!(matches!(wrong, Err(DecodeError::Invalid(_))), "{wrong:?}");
        let unknown = codec.decode(&payload).await;
        assert!(matches!(unknown, Ok(Decoded::UnknownType { .. })), "{unknown:?}");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_id_is_unknown_until_it_is_not() {
    each_registry(async |url, _| {
        let codec = codec(url, false);
        for _ in 0..2 {
            let outcome = codec.decode(&[0, 0x7f, 0xff, 0xff, 0x00, 1]).await;
            assert_eq!(outcome, Err(DecodeError::SchemaUnknown { id: 0x7fff_ff00 }), "{url}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_is_away_is_not_held_against_the_record() {
    let (embedded, payload) = {
        let embedded = EmbeddedRegistry::start((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
        let payload = codec(embedded.url(), true).encode("t", &shipped()).await.expect("it is registered");
        (embedded.url().to_owned(), payload)
    };
    let codec = codec(&embedded, true);
    assert!(matches!(codec.decode(&payload).await, Err(DecodeError::RegistryUnavailable(_))));
    assert!(matches!(codec.encode("t", &shipped()).await, Err(EncodeError::RegistryUnavailable(_))));
    let versions = codec.registry().versions("t").await;
    assert!(matches!(versions, Err(RegistryError::Unavailable { .. })));
}

#[tokio::test]
async fn the_status_and_code_of_every_refusal_are_confluents() {
    let schema = |fields: Value| json!({"schema": json!({"type": "record", "name": "R", "fields": fields}).to_string()});
    let field = |name: &str| json!({"name": name, "type": "string"});
    each_registry(async |url, topic| {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let ask = async |method: &str, path: &str, body: Option<&Value>| {
            let method = method.parse().expect("a method");
            let mut request = client.request(method, format!("{url}{}", path.replace("{s}", topic)));
            if let Some(body) = body {
                request = request
                    .header("content-type", "application/vnd.schemaregistry.v1+json")
                    .body(body.to_string());
            }
            let response = request.send().await.expect("the registry answers");
            let status = response.status().as_u16();
            let body: Value = response.json().await.unwrap_or_default();
            (status, body["error_code"].as_i64().unwrap_or_default(), body)
        };
        let expect = async |method: &str, path: &str, body: Option<&Value>, status: u16, code: i64| {
            let (found, told, body) = ask(method, path, body).await;
            // Apicurio names another reason than Confluent's documentation in places; clients take both.
            let (found, told) = match (url.contains("ccompat"), found, told) {
                (true, 404, 40401) if code == 40403 => (found, code),
                (true, 404, 40402) if code == 42202 => (status, code),
                (true, 500, _) if code == 42203 => (status, code),
                (_, found, told) => (found, told),
            };
            assert_eq!((found, told), (status, code), "{method} {path} at {url}: {body}");
            body
        };
        let (one, two) = (schema(json!([field("a")])), schema(json!([field("a"), field("b")])));

        expect("GET", "/subjects/{s}/versions", None, 404, 40401).await;
        expect("GET", "/subjects/{s}/versions/1", None, 404, 40401).await;
        expect("POST", "/subjects/{s}", Some(&one), 404, 40401).await;
        expect("GET", "/schemas/ids/2147483000", None, 404, 40403).await;
        expect("POST", "/subjects/{s}/versions", Some(&json!({"schema": "{"})), 422, 42201).await;

        let id = expect("POST", "/subjects/{s}/versions", Some(&one), 200, 0).await["id"].clone();
        expect("POST", "/subjects/{s}", Some(&two), 404, 40403).await;
        expect("GET", "/subjects/{s}/versions/9", None, 404, 40402).await;
        expect("GET", "/subjects/{s}/versions/nine", None, 422, 42202).await;
        let found = expect("POST", "/subjects/{s}", Some(&one), 200, 0).await;
        assert_eq!((&found["id"], &found["version"]), (&id, &json!(1)), "{url}");
        let latest = expect("GET", "/subjects/{s}/versions/latest", None, 200, 0).await;
        assert_eq!((&latest["id"], &latest["subject"]), (&id, &json!(topic)), "{url}");
        let by_id = expect("GET", &format!("/schemas/ids/{id}?subject={topic}"), None, 200, 0).await;
        assert_eq!(by_id["schema"], one["schema"], "{url}");

        expect("PUT", "/config/{s}", Some(&json!({"compatibility": "SIDEWAYS"})), 422, 42203).await;
        let set = json!({"compatibility": "BACKWARD_TRANSITIVE"});
        expect("PUT", "/config/{s}", Some(&set), 200, 0).await;
        let level = expect("GET", "/config/{s}", None, 200, 0).await;
        assert_eq!(level["compatibilityLevel"], "BACKWARD_TRANSITIVE", "{url}");
        let verdict = expect("POST", "/compatibility/subjects/{s}/versions/latest", Some(&two), 200, 0).await;
        assert_eq!(verdict["is_compatible"], false, "{url}");
        expect("POST", "/subjects/{s}/versions", Some(&two), 409, 409).await;
        let verdict = expect("POST", "/compatibility/subjects/{s}/versions/latest", Some(&one), 200, 0).await;
        assert_eq!(verdict["is_compatible"], true, "{url}");
        expect("GET", "/subjects", None, 200, 0).await;
    })
    .await;
}
