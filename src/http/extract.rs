//! Reads requests strictly: what can't be understood is refused by name, nothing is ignored.

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Code, Problem};

/// The JSON body. Types that read it deny unknown fields.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body with content-type: application/json",
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        read_json(&bytes).map(Self)
    }
}

/// `bytes` as JSON of the form `T`.
///
/// # Errors
/// 400 when it isn't JSON, 422 naming the field when it has another form.
pub(super) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed =
        |error: String| Problem::new(Code::MalformedJson, format!("the body is not valid JSON: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| malformed(error.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(Problem::field("", "the body must be a JSON object"));
    }
    match axum::Json::<T>::from_bytes(bytes) {
        Ok(axum::Json(value)) => Ok(value),
        Err(rejection) => Err(named_field(
            rejection
                .body_text()
                .trim_start_matches("Failed to deserialize the JSON body into the target type: "),
        )),
    }
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if let BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) = rejection {
        return Problem::new(Code::TooLarge, "the body is larger than http.max_body_bytes");
    }
    Problem::new(Code::BadRequest, format!("the body could not be read: {rejection}"))
}

/// The parameters behind `?`. Types that read them deny unknown fields.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(named_field(
                rejection.body_text().trim_start_matches("Failed to deserialize query string: "),
            )),
        }
    }
}

/// No parameters behind `?` at all.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// The parts of the path that vary.
#[derive(Debug, Clone, Copy)]
pub struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::new(Code::BadRequest, format!("the path is not valid: {error}")))
            }
            Err(other) => Err(Problem::internal(other)),
        }
    }
}

/// Turns serde's message into a field and what is wrong with it: `a.b: invalid type: …`, or
/// ``missing field `url` at line 1 column 2``.
fn named_field(message: &str) -> Problem {
    let message = message.split(" at line ").next().unwrap_or(message);
    for kind in ["missing field `", "unknown field `", "duplicate field `"] {
        if let Some((before, rest)) = message.split_once(kind) {
            let name = rest.split('`').next().unwrap_or_default();
            let (kind, rest) = (kind.trim_end_matches('`'), &rest[name.len() + 1..]);
            let before = before.trim_end_matches(": ");
            let parent = before.strip_suffix(name).unwrap_or(before).trim_end_matches('.');
            let field = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
            return Problem::field(field, format!("{}{rest}", kind.trim_end()));
        }
    }
    match message.split_once(": ") {
        Some((path, reason)) if !path.contains(' ') => Problem::field(path, reason),
        _ => Problem::field("", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Order {
        #[expect(dead_code, reason = "only its reading matters")]
        order_id: String,
        #[expect(dead_code, reason = "only its reading matters")]
        lines: Option<Vec<Line>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only its reading matters")]
        sku: String,
    }

    fn check(body: &str, code: Code, detail: &str) {
        let problem = read_json::<Order>(body.as_bytes()).unwrap_err();
        assert_eq!((problem.code(), problem.detail()), (code, detail), "{body}");
    }

    #[test]
    fn a_body_that_does_not_fit_is_refused_by_the_name_of_its_field() {
        check(
            r#"{"orderId":1}"#,
            Code::InvalidFields,
            "orderId: invalid type: integer `1`, expected a string",
        );
        check("{}", Code::InvalidFields, "orderId: missing field");
        check(
            r#"{"orderId":"1","nope":2}"#,
            Code::InvalidFields,
            "nope: unknown field, expected `orderId` or `lines`",
        );
        check(
            r#"{"orderId":"1","lines":[{"sku":"a"},{"sku":"a","x":1}]}"#,
            Code::InvalidFields,
            "lines[1].x: unknown field, expected `sku`",
        );
        check(r#"{"orderId":"1","lines":[{}]}"#, Code::InvalidFields, "lines[0].sku: missing field");
        check(r#"{"orderId":"1","orderId":"2"}"#, Code::InvalidFields, "orderId: duplicate field");
        check(r#"["1"]"#, Code::InvalidFields, "the body must be a JSON object");
    }

    #[test]
    fn what_is_not_json_is_malformed_even_where_a_field_would_be_wrong_too() {
        for body in ["", "{", r#"{"nope":1"#, "{}{}", "\u{0}", "nul"] {
            let problem = read_json::<Order>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::MalformedJson, "{body}");
        }
        assert_eq!(read_json::<Order>(b"{\"orderId\":\"\xff\"}").unwrap_err().code(), Code::MalformedJson);
    }
}
