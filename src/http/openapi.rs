//! The API's description of itself, made from the code, and two pages that need no network.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Json};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi};

use super::Query;
use super::error::{Code, FieldError, ProblemBody};
use super::extract::NoParameters;
use super::routes::operations;

/// The schemas that every route shares.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ProblemBody<'_>, FieldError)))]
struct Shared;

/// The description without its routes.
pub(super) fn about() -> OpenApi {
    let mut api = Shared::openapi();
    api.info = InfoBuilder::new()
        .title("orderflow")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Order events in; conversations, notifications, disputes, webhooks and history out. Lists take \
             `limit` and `cursor`; every POST takes an `Idempotency-Key` (1 to 255 visible ASCII characters). \
             Unknown fields and parameters are refused by name.",
        ))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    api.components
        .get_or_insert_default()
        .security_schemes
        .insert("bearer".to_owned(), SecurityScheme::Http(bearer));
    api
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "description",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value))
)]
pub(super) async fn description(
    Extension(api): Extension<Arc<OpenApi>>,
    _: Query<NoParameters>,
) -> Json<OpenApi> {
    Json(api.as_ref().clone())
}

/// The operations as a page for people.
#[utoipa::path(
    get, path = "/docs", tag = "description",
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn docs(Extension(api): Extension<Arc<OpenApi>>, _: Query<NoParameters>) -> Response {
    let mut api = api.as_ref().clone();
    let mut rows = String::new();
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            let roles = operation
                .extensions
                .as_ref()
                .and_then(|extensions| extensions.get("x-roles"))
                .and_then(serde_json::Value::as_array)
                .map(|roles| {
                    roles.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
                })
                .unwrap_or_else(|| "anybody".to_owned());
            let summary = operation.summary.as_deref().unwrap_or_default();
            let _ = writeln!(
                rows,
                "<tr><td>{method}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escape(path),
                escape(summary),
                escape(&roles)
            );
        }
    }
    page(
        "orderflow API",
        &format!(
            "<p>The machine-readable description is at <a href=\"/openapi.json\">/openapi.json</a>, the errors are at \
             <a href=\"/docs/errors\">/docs/errors</a>. Send <code>Authorization: Bearer &lt;token&gt;</code>.</p>\n\
             <table><tr><th>Method</th><th>Path</th><th>Does</th><th>Roles</th></tr>\n{rows}</table>"
        ),
    )
}

/// Every error code, what it means and what to do.
#[utoipa::path(
    get, path = "/docs/errors", tag = "description",
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(super) async fn errors(_: Query<NoParameters>) -> Response {
    let mut body = String::new();
    for code in Code::ALL {
        let name = code.as_str();
        let _ = writeln!(
            body,
            "<h2 id=\"{name}\"><code>{name}</code></h2><p>{}: {}.</p><p>{}</p>",
            code.status().as_u16(),
            escape(code.title()),
            escape(code.page())
        );
    }
    page("orderflow API errors", &body)
}

/// A page that loads nothing and runs nothing.
fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}\
         table{{border-collapse:collapse}}td,th{{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #8886}}\
         </style></head><body><h1>{title}</h1>\n{body}</body></html>"
    );
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
