//! Against a registry that answers what the test wants: faults aren't kept, and calls at once share a request.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::event::{Codec, DecodeError, Decoded, EventType, Fill, sample};

/// A registry that gives these answers one after the other, the last one for ever.
struct Scripted {
    url: String,
    asked: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Scripted {
    async fn start(answers: Vec<(u16, String)>) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = async move || {
            let nth = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, body) = answers[nth].clone();
            (StatusCode::from_u16(status).expect("a status"), body)
        };
        let router = axum::Router::new().fallback(answer);
        #[expect(clippy::disallowed_methods, reason = "this room can't import the one that names tasks")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Scripted { url, asked, server }
    }

    fn codec(&self) -> Codec {
        let timeout = Duration::from_millis(500);
        let options = RegistryOptions { url: self.url.clone(), timeout, ..RegistryOptions::default() };
        Codec::new(&options).expect("a valid address")
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn schema_answer() -> (u16, String) {
    (200, json!({ "schema": EventType::OrderPaid.schema().text() }).to_string())
}

fn payload() -> Vec<u8> {
    crate::event::codec::write_frame(7, &sample(EventType::OrderPaid, Fill::Full)).expect("samples fit")
}

#[tokio::test]
async fn whatever_the_registry_answers_but_not_found_is_tried_again() {
    let faults = [
        (500, json!({"error_code": 50001, "message": "Error in the backend data store"}).to_string()),
        (401, json!({"error_code": 401, "message": "Unauthorized"}).to_string()),
        (429, String::new()),
        (404, "<html>no such page</html>".to_owned()),
        (404, json!({"error_code": 404, "message": "HTTP 404 Not Found"}).to_string()),
        (200, "not JSON".to_owned()),
    ];
    let registry = Scripted::start(faults.iter().cloned().chain([schema_answer()]).collect()).await;
    let codec = registry.codec();
    for fault in &faults {
        let outcome = codec.decode(&payload()).await;
        assert!(matches!(outcome, Err(DecodeError::RegistryUnavailable(_))), "{fault:?}: {outcome:?}");
    }
    for _ in 0..3 {
        assert!(matches!(codec.decode(&payload()).await, Ok(Decoded::Event { schema_id: 7, .. })));
    }
    assert_eq!(registry.asked.load(Ordering::SeqCst), faults.len() + 1, "once known, it isn't asked again");
}

#[tokio::test]
async fn a_schema_that_is_not_there_yet_is_found_when_it_comes() {
    let missing = (404, json!({"error_code": 40403, "message": "Schema not found"}).to_string());
    let registry = Scripted::start(vec![missing, schema_answer()]).await;
    let codec = registry.codec();
    assert_eq!(codec.decode(&payload()).await, Err(DecodeError::SchemaUnknown { id: 7 }));
    assert!(matches!(codec.decode(&payload()).await, Ok(Decoded::Event { .. })));
}

#[tokio::test]
async fn a_schema_of_another_kind_is_the_records_own_fault() {
    let protobuf = (200, json!({"schemaType": "PROTOBUF", "schema": "message A {}"}).to_string());
    let registry = Scripted::start(vec![protobuf]).await;
    assert!(matches!(registry.codec().decode(&payload()).await, Err(DecodeError::Invalid(_))));
}

#[tokio::test]
async fn many_records_of_a_new_schema_ask_once() {
    let registry = Scripted::start(vec![schema_answer()]).await;
    let (codec, payload) = (registry.codec(), payload());
    let all = futures_util::future::join_all((0..200).map(|_| codec.decode(&payload))).await;
    assert!(all.iter().all(|outcome| matches!(outcome, Ok(Decoded::Event { .. }))));
    assert_eq!(registry.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn passwords_are_not_printed_and_a_wrong_address_is_said_so() {
    let options = RegistryOptions {
        url: "nowhere".to_owned(),
        password: Some("hush".to_owned()),
        ..RegistryOptions::default()
    };
    assert!(!format!("{options:?}").contains("hush"));
    assert!(matches!(Registry::new(&options), Err(RegistryError::Unusable { .. })));
}
