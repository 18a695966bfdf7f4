//! A schema registry in memory that speaks Confluent's HTTP API, for the demo and for tests.
//!
//! It answers what serializers of Java, Python, Node and Rust ask: look up, register, compare, read by id and by
//! version, levels of compatibility. The paths, bodies and error codes are those of
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>. It keeps nothing over a restart,
//! knows Avro only, and neither deletes nor follows references: what production relies on is a real registry.
//!
//! This file is the HTTP side; what is kept and the rules for it are in `registry/shelf.rs`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::task;
use shelf::{Fault, Shelf};

mod level;
mod shelf;

/// Larger requests are refused: no schema is that long.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A running registry; it closes when this is dropped.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    url: String,
    server: JoinHandle<()>,
}

impl EmbeddedRegistry {
    /// Opens a registry at `bind`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub async fn start(bind: SocketAddr) -> io::Result<EmbeddedRegistry> {
        let listener = TcpListener::bind(bind).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = task::spawn("registry", async move {
            if let Err(error) = axum::serve(listener, router()).await {
                tracing::error!(%error, "the embedded schema registry ended");
            }
        });
        Ok(EmbeddedRegistry { url, server })
    }

    /// Where clients find it, such as `http://127.0.0.1:8081`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for EmbeddedRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Kept = State<Arc<Mutex<Shelf>>>;
type Answer = Result<Json, Fault>;

fn router() -> Router {
    Router::new()
        .route("/", get(async || Json(json!({}))))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/versions", get(users_of_id))
        .route("/schemas/types", get(async || Json(json!(["AVRO"]))))
        .route("/compatibility/subjects/{subject}/versions", post(compatible_with_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(compatible))
        .route("/config", get(level_of_all).put(set_level_of_all))
        .route("/config/{subject}", get(level_of).put(set_level_of))
        .route("/mode", get(async || Json(json!({ "mode": "READWRITE" }))))
        .route("/mode/{subject}", get(async || Json(json!({ "mode": "READWRITE" }))))
        .fallback(async || Fault::new(404, 404, "HTTP 404 Not Found"))
        .method_not_allowed_fallback(async || Fault::new(405, 405, "HTTP 405 Method Not Allowed"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::default())
}

/// What clients send along with a schema; fields that we have no use for are let pass.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Submission {
    schema: String,
    schema_type: Option<String>,
    references: Option<Vec<Value>>,
}

impl Submission {
    fn read(body: &Bytes) -> Result<String, Fault> {
        let submission: Submission = serde_json::from_slice(body)
            .map_err(|error| Fault::new(422, 42201, &format!("Invalid schema: {error}")))?;
        if submission.schema_type.as_deref().is_some_and(|kind| kind != "AVRO") {
            return Err(Fault::new(422, 42201, "Invalid schema: only AVRO is known here"));
        }
        if submission.references.is_some_and(|references| !references.is_empty()) {
            return Err(Fault::new(422, 42201, "Invalid schema: references are not known here"));
        }
        Ok(submission.schema)
    }
}

async fn subjects(kept: Kept, Query(query): Query<HashMap<String, String>>) -> Json {
    let prefix = query.get("subjectPrefix").map_or("", String::as_str);
    Json(json!(shelf(&kept).subjects().filter(|subject| subject.starts_with(prefix)).collect::<Vec<_>>()))
}

async fn versions(kept: Kept, Path(subject): Path<String>) -> Answer {
    Ok(Json(json!((1..=shelf(&kept).versions(&subject)?.len()).collect::<Vec<_>>())))
}

async fn version(kept: Kept, Path((subject, version)): Path<(String, String)>) -> Answer {
    let shelf = shelf(&kept);
    let (number, id) = shelf.version(&subject, &version)?;
    Ok(Json(json!({ "subject": subject, "version": number, "id": id, "schema": shelf.text(id)? })))
}

async fn lookup(kept: Kept, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = Submission::read(&body)?;
    let shelf = shelf(&kept);
    let (number, id) = shelf.lookup(&subject, &text)?;
    Ok(Json(json!({ "subject": subject, "version": number, "id": id, "schema": shelf.text(id)? })))
}

async fn register(kept: Kept, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = Submission::read(&body)?;
    Ok(Json(json!({ "id": shelf(&kept).register(&subject, &text)? })))
}

async fn by_id(kept: Kept, Path(id): Path<String>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let (shelf, id) = (shelf(&kept), number(&id)?);
    let text = shelf.text(id)?;
    match query.get("subject").filter(|subject| !subject.is_empty()) {
        Some(subject) if !shelf.users(id).any(|(user, _)| user == subject) => Err(Fault::no_schema()),
        Some(_) | None => Ok(Json(json!({ "schema": text }))),
    }
}

async fn users_of_id(kept: Kept, Path(id): Path<String>) -> Answer {
    let (shelf, id) = (shelf(&kept), number(&id)?);
    shelf.text(id)?;
    let users = shelf.users(id).map(|(subject, version)| json!({ "subject": subject, "version": version }));
    Ok(Json(users.collect()))
}

async fn compatible(kept: Kept, Path((subject, version)): Path<(String, String)>, body: Bytes) -> Answer {
    let text = Submission::read(&body)?;
    verdict(&shelf(&kept).obstacles(&subject, Some(&version), &text)?)
}

async fn compatible_with_all(kept: Kept, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = Submission::read(&body)?;
    verdict(&shelf(&kept).obstacles(&subject, None, &text)?)
}

fn verdict(obstacles: &[String]) -> Answer {
    Ok(Json(json!({ "is_compatible": obstacles.is_empty(), "messages": obstacles })))
}

async fn level_of_all(kept: Kept) -> Json {
    Json(json!({ "compatibilityLevel": shelf(&kept).level(None) }))
}

async fn level_of(
    kept: Kept,
    Path(subject): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let shelf = shelf(&kept);
    let or_default = query.get("defaultToGlobal").is_some_and(|value| value == "true");
    if !or_default && !shelf.has_own_level(&subject) {
        let message = format!("Subject '{subject}' does not have subject-level compatibility configured");
        return Err(Fault::new(404, 40408, &message));
    }
    Ok(Json(json!({ "compatibilityLevel": shelf.level(Some(&subject)) })))
}

async fn set_level_of_all(kept: Kept, body: Bytes) -> Answer {
    set_level(&kept, None, &body)
}

async fn set_level_of(kept: Kept, Path(subject): Path<String>, body: Bytes) -> Answer {
    set_level(&kept, Some(subject), &body)
}

fn set_level(kept: &Kept, subject: Option<String>, body: &Bytes) -> Answer {
    let invalid = || Fault::new(422, 42203, "Invalid compatibility level");
    let wanted: Value = serde_json::from_slice(body).map_err(|_| invalid())?;
    let level = wanted["compatibility"].as_str().and_then(|name| name.parse().ok()).ok_or_else(invalid)?;
    shelf(kept).set_level(subject, level)?;
    Ok(Json(json!({ "compatibility": level })))
}

fn shelf(kept: &Kept) -> MutexGuard<'_, Shelf> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(id: &str) -> Result<usize, Fault> {
    id.parse().map_err(|_| Fault::no_schema())
}

/// An answer in the media type that Confluent's clients ask for.
struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], self.0.to_string())
            .into_response()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error_code": self.code, "message": self.message }))).into_response()
    }
}

#[cfg(test)]
mod tests;
