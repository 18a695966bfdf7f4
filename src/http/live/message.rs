//! What goes over the live socket, both ways.

use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::http::Problem;

/// Something that concerns a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMessage {
    /// Names the message for ever; a client resumes after it.
    pub id: String,
    /// The event's dotted type.
    pub kind: String,
    /// The order.
    pub order_id: String,
    /// The message as plain text.
    pub message: String,
    /// When the event happened, epoch milliseconds.
    pub occurred_at_ms: i64,
    /// When the message was put on the topic, epoch milliseconds: a client isn't shown what is older than its
    /// connection, unless it resumes.
    pub published_at_ms: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    r#type: &'a str,
    order_id: &'a str,
    message: &'a str,
    timestamp: String,
    id: &'a str,
}

impl LiveMessage {
    /// `{"type","orderId","message","timestamp","id"}`.
    pub fn to_json(&self) -> String {
        let shown = Shown {
            r#type: &self.kind,
            order_id: &self.order_id,
            message: &self.message,
            timestamp: rfc3339(self.occurred_at_ms),
            id: &self.id,
        };
        // Texts always serialise.
        serde_json::to_string(&shown).unwrap_or_default()
    }
}

/// What a client may say.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum ClientMessage {
    /// First message of a client that sent no `Authorization` header.
    Authenticate {
        /// The token, without a scheme.
        token: String,
    },
    /// Send what came after this message; asked once, right after connecting.
    Resume {
        /// The `id` of the last message that the client saw.
        last_id: String,
    },
    /// Ask for a `pong`, for clients that can't send WebSocket pings.
    Ping,
}

/// What the socket says beside [`LiveMessage`]s.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(super) enum ServerMessage<'a> {
    /// The token was believed; messages follow.
    Ready,
    /// What came after `lastId` isn't kept any more: read it over the API.
    Resync,
    /// The answer to `ping`.
    Pong,
    /// What the client said was not understood, or is refused.
    Error {
        /// One of the API's error codes.
        code: &'a str,
        /// What is wrong.
        detail: &'a str,
    },
}

impl ServerMessage<'_> {
    pub(super) fn to_json(&self) -> String {
        // Texts always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn error(problem: &Problem) -> ServerMessage<'_> {
        ServerMessage::Error { code: problem.code().as_str(), detail: problem.detail() }
    }
}
