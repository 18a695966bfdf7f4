//! Every error that the API answers with: a closed list of codes, each with a status and a page.
//!
//! The form is RFC 9457 (`application/problem+json`). The page of a code is a section of
//! `ops/runbooks/errors.md`, served at `/docs/errors`; a test keeps the two equal. What must not live here:
//! deciding that something is wrong.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

macro_rules! codes {
    ($($(#[doc = $page:literal])+ $variant:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// What went wrong. Programs branch on the code; people read its page.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $page])+ $variant,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// The HTTP status it comes with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// The same few words for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// The text of its page: what it means and what to do.
            pub fn page(self) -> &'static str {
                match self { $(Self::$variant => concat!($($page),+).trim_ascii()),+ }
            }
        }
    };
}

codes! {
    /// The body isn't JSON. Nothing was done. The detail says where reading stopped; send valid JSON in UTF-8.
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not valid JSON";
    /// The request breaks HTTP's own rules (a path that isn't UTF-8, a socket request without its headers).
    BadRequest = "bad_request", BAD_REQUEST, "The request can't be understood";
    /// No token came with the request. Send `Authorization: Bearer <token>`.
    TokenMissing = "token_missing", UNAUTHORIZED, "A token is needed";
    /// The token isn't ours: signature, algorithm, issuer, audience or a needed claim is wrong. For safety the answer doesn't say which; the log does. Get a new token.
    TokenInvalid = "token_invalid", UNAUTHORIZED, "The token is not valid";
    /// The token was good once. Get a new one; nothing else is wrong with it.
    TokenExpired = "token_expired", UNAUTHORIZED, "The token has expired";
    /// A webhook that is sent to us must be signed: `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks. The detail names the header that is missing.
    SignatureMissing = "signature_missing", UNAUTHORIZED, "A signature is needed";
    /// None of the senders that may use this endpoint has signed these bytes, this id and this time with a secret that is live. Sign the body's raw bytes, and check which secret is set on either side (`inbound.sources`).
    SignatureInvalid = "signature_invalid", UNAUTHORIZED, "The signature is not valid";
    /// The time that was signed lies further from ours than `inbound.tolerance`: the request is old, replayed, or from a clock that is wrong. Sign every attempt anew, with the time of the attempt and the same `webhook-id`.
    SignatureExpired = "signature_expired", UNAUTHORIZED, "The signature's time is too far away";
    /// The token is good, but none of its roles may do this. The API's description lists the roles of every operation.
    RoleNotAllowed = "role_not_allowed", FORBIDDEN, "No role of this token may do this";
    /// The page that opened the live socket isn't among `http.cors_origins`.
    OriginNotAllowed = "origin_not_allowed", FORBIDDEN, "This origin may not connect";
    /// There is no such path. The API's description lists them all.
    RouteNotFound = "route_not_found", NOT_FOUND, "There is no such path";
    /// No order of this id is known in the token's tenant, or the caller has no part in it: the two are not told apart on purpose.
    OrderNotFound = "order_not_found", NOT_FOUND, "The order is not known";
    /// No webhook of this id is registered in the token's tenant.
    WebhookNotFound = "webhook_not_found", NOT_FOUND, "The webhook is not known";
    /// No delivery of this id exists for the webhook.
    DeliveryNotFound = "delivery_not_found", NOT_FOUND, "The delivery is not known";
    /// No backfill of this id was asked for of the webhook.
    BackfillNotFound = "backfill_not_found", NOT_FOUND, "The backfill is not known";
    /// The program has no stage of this name; `GET /api/v1/stages` lists those it has.
    StageNotFound = "stage_not_found", NOT_FOUND, "There is no such stage";
    /// No lane of this name waits in the stage's retry topic: it went on, or never waited. `GET /api/v1/lanes` lists those that do.
    LaneNotFound = "lane_not_found", NOT_FOUND, "No such lane waits";
    /// The path exists but not with this method; the `Allow` header lists those it has.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not have this method";
    /// The same `Idempotency-Key` is being worked on. Wait and send the request again, unchanged.
    IdempotencyInFlight = "idempotency_in_flight", CONFLICT, "A request with this key is still running";
    /// The sender used this `webhook-id` before for other bytes. A repeat must be byte for byte the same; what is new needs an id of its own.
    WebhookIdReused = "webhook_id_reused", CONFLICT, "The webhook-id belongs to another message";
    /// What is stored stands against the request; the detail says what.
    Conflict = "conflict", CONFLICT, "The request conflicts with what is stored";
    /// The body, or the event made from it, is larger than what is taken (`http.max_body_bytes`, `kafka.max_message_bytes`). Send less.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// The body must be sent with `Content-Type: application/json`.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body's type is not supported";
    /// Fields are missing, unknown or out of range; `errors` names each of them. Nothing was done.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are not valid";
    /// No event type has this name in any spelling; the detail names the nearest one.
    UnknownEventType = "unknown_event_type", UNPROCESSABLE_ENTITY, "There is no such event type";
    /// The `Idempotency-Key` was used before with another request. A new request needs a new key.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The key belongs to another request";
    /// Too many live socket connections are open for this user, or in all. Close one, or wait.
    TooManyConnections = "too_many_connections", TOO_MANY_REQUESTS, "Too many connections are open";
    /// A fault of ours. The log has the details under the request's `x-request-id`; tell the operators.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// Kafka doesn't answer or doesn't take events now, or didn't acknowledge in time, in which case the event may still arrive. Send the request again with the same `Idempotency-Key`: the event then keeps its id and takes effect once.
    KafkaUnavailable = "kafka_unavailable", SERVICE_UNAVAILABLE, "Kafka does not take events now";
    /// The schema registry doesn't answer, so nothing can be encoded. Try again later.
    RegistryUnavailable = "registry_unavailable", SERVICE_UNAVAILABLE, "The schema registry does not answer";
    /// The database doesn't answer. Try again later.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "The database does not answer";
    /// The keys that check tokens can't be fetched (`http.jwks_url`). Try again later.
    KeysUnavailable = "keys_unavailable", SERVICE_UNAVAILABLE, "Tokens can't be checked now";
    /// The answer took longer than `http.request_timeout`. Send the request again, with the same `Idempotency-Key` if it has one.
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, "The answer took too long";
}

/// One field that isn't right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Its path: `events[0]`, `limit`, or empty for the whole body.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// What goes over the wire.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProblemBody<'a> {
    /// The code's page.
    r#type: String,
    /// The same for every occurrence of the code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time.
    detail: &'a str,
    /// The path that was asked.
    instance: &'a str,
    /// One of a closed list; programs branch on it.
    code: &'a str,
    /// The fields at fault.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem of this kind; `detail` is a sentence for people.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }))
    }

    /// `invalid_fields` (422) for one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// `invalid_fields` (422); `errors` names each field.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let named: Vec<String> = errors
            .iter()
            .map(|error| match error.field.as_str() {
                "" => error.message.clone(),
                field => format!("{field}: {}", error.message),
            })
            .collect();
        let mut problem = Self::new(Code::InvalidFields, named.join("; "));
        problem.0.errors = errors;
        problem
    }

    /// A fault of ours: `reason` goes to the log, not to the client.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "an internal fault was answered with 500");
        Self::new(Code::Internal, "the request could not be completed; the log says why")
    }

    /// Adds the fields at fault.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a header, `Retry-After` say.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What is wrong this time.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The answer to a request for `instance` (its path).
    pub(super) fn answer(&self, instance: &str) -> Response {
        let Inner { code, detail, errors, headers } = &*self.0;
        let body = ProblemBody {
            r#type: format!("/docs/errors#{}", code.as_str()),
            title: code.title(),
            status: code.status().as_u16(),
            detail,
            instance,
            code: code.as_str(),
            errors,
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (code.status(), text).into_response();
        let set = response.headers_mut();
        set.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in headers {
            set.insert(name, value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The layer `observe` knows the path and writes the body again with it.
    fn into_response(self) -> Response {
        let mut response = self.answer("");
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(reason, "the database is unavailable to a request");
                Self::new(Code::DatabaseUnavailable, "the database does not answer; try again later")
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
            }
            StoreError::Data(reason) => {
                Self::new(Code::InvalidFields, format!("a value can't be stored: {reason}"))
            }
            error @ (StoreError::Settings(_)
            | StoreError::Constraint(_)
            | StoreError::Corrupt { .. }
            | StoreError::Migration(_)) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to write the page anew after a code was added.
    const BLESS: &str = "ORDERFLOW_TEST_BLESS";

    /// The page of every code in Markdown: what `ops/runbooks/errors.md` holds.
    fn pages() -> String {
        let mut text = String::from(
            "# Errors of the HTTP API\n\nEvery error is `application/problem+json` (RFC 9457) with one of these codes. \
             `x-request-id` in the answer finds the request in the logs.\n",
        );
        for code in Code::ALL {
            let (name, status) = (code.as_str(), code.status().as_u16());
            text.push_str(&format!("\n## {name}\n\n{status}: {}.\n\n{}\n", code.title(), code.page()));
        }
        text
    }

    #[test]
    fn the_runbook_holds_the_page_of_every_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/runbooks/errors.md");
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(path, pages()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, pages(), "write it anew: {BLESS}=1 cargo test the_runbook_holds");
    }

    #[test]
    fn codes_are_snake_case_and_distinct() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
