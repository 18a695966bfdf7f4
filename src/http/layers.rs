//! What happens around every request, whatever its route: it gets an id and a time limit, a panic becomes an
//! answer, every error takes one form, and each is counted and logged once.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::limit::RequestBodyLimitLayer;
use tracing::Instrument;
use uuid::Uuid;

use super::{AuthSetupError, Code, Parts, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id taken from a client, in bytes.
const MAX_REQUEST_ID: usize = 64;
/// What the metrics call a path that no route has.
const UNMATCHED: &str = "unmatched";

/// Puts all layers around `routes`, the first named outermost.
///
/// # Errors
/// When `http.cors_origins` holds something that isn't an origin.
pub(super) fn around(routes: Router, parts: Parts) -> Result<Router, AuthSetupError> {
    let cors = cors(&parts.options.cors_origins)?;
    let limit = RequestBodyLimitLayer::new(parts.options.max_body_bytes);
    let routes = routes.layer(axum::extract::DefaultBodyLimit::max(parts.options.max_body_bytes));
    Ok(routes.layer(limit).layer(cors).layer(from_fn_with_state(parts, observe)))
}

/// Cross-origin calls (the Fetch standard's CORS): only from the origins that are named. Tokens come in a
/// header, never in a cookie, so credentials aren't allowed.
fn cors(origins: &[String]) -> Result<CorsLayer, AuthSetupError> {
    let allowed = origins
        .iter()
        .map(|origin| {
            let url = url::Url::parse(origin).ok();
            let same = url
                .is_some_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == *origin);
            let value = HeaderValue::from_str(origin).ok().filter(|_| same);
            value.ok_or_else(|| AuthSetupError::BadOrigin(origin.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            REQUEST_ID,
        ])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(std::time::Duration::from_secs(3600)))
}

async fn observe(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = known_method(request.method());
    let path = request.uri().path().to_owned();
    let route =
        request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or(UNMATCHED).to_owned();

    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    let response = answered(&parts, &route, request, next).instrument(span.clone()).await;
    let mut response = in_one_form(response, &path);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));

    let (status, elapsed) = (response.status(), started.elapsed());
    parts.metrics.http_requests.with_label_values(&[method, &route, status.as_str()]).inc();
    parts.metrics.http_request_duration.with_label_values(&[method, &route]).observe(elapsed.as_secs_f64());
    let (status, elapsed_ms) = (status.as_u16(), elapsed.as_millis() as u64);
    span.in_scope(|| tracing::debug!(status, elapsed_ms, "request answered"));
    response
}

/// The route's answer, or a problem in its place when it panics or takes too long.
async fn answered(parts: &Parts, route: &str, request: Request, next: Next) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(parts.options.request_timeout, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => Problem::internal(format!("the handler of {route} panicked")).into_response(),
        Err(_elapsed) => {
            Problem::new(Code::TimedOut, "the answer took longer than http.request_timeout").into_response()
        }
    }
}

/// The client's own id where it is harmless to repeat and to log, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let harmless = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    };
    request.headers().get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// A client may invent methods; the metrics don't grow by them.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Every error as a problem that names its path: ours, and those that the framework answers by itself.
fn in_one_form(response: Response, path: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    if let Some(problem) = response.extensions().get::<Problem>() {
        return problem.answer(path);
    }
    let content_type =
        response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type.starts_with(b"application/json") {
        return response;
    }
    let (head, _body): (_, Body) = response.into_parts();
    let mut problem = frameworks_own(head.status).answer(path);
    if let Some(allow) = head.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

fn frameworks_own(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::new(Code::RouteNotFound, "there is no such path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, "the path does not have this method; see the Allow header")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::TooLarge, "the body is larger than http.max_body_bytes")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(Code::UnsupportedMediaType, "send the body with content-type: application/json")
        }
        status if status.is_client_error() => {
            Problem::new(Code::BadRequest, format!("the request was refused with {status}"))
        }
        status => Problem::internal(format!("a handler answered {status} without saying why")),
    }
}
