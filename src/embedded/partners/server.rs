//! The HTTP side of a partner: one route that takes webhooks as they come.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::book::Arrival;
use super::verify::{Doubt, verify};
use super::{Desk, HANGS_FOR, Mood};

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let router = Router::new().route("/hooks/orders", post(receive)).with_state(Arc::clone(&desk));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(partner = desk.name, %error, "a partner stopped serving");
    }
}

/// What a partner reads of the body.
#[derive(Debug, Deserialize)]
struct Body {
    id: String,
    event: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    order_id: String,
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = text("webhook-id");
    if let Err(doubt) = believe(&desk, id, text("webhook-timestamp"), text("webhook-signature"), &body) {
        desk.book().refused();
        return (StatusCode::UNAUTHORIZED, doubt.to_string());
    }
    let (Ok(body), Ok(sequence), Ok(attempt)) = (
        serde_json::from_slice::<Body>(&body),
        text("x-webhook-sequence").parse::<i64>(),
        text("x-webhook-attempt").parse::<u32>(),
    ) else {
        desk.book().refused();
        return (StatusCode::BAD_REQUEST, "body, sequence or attempt can't be read".to_owned());
    };
    if body.id != id || body.event != text("x-webhook-event") {
        desk.book().refused();
        return (StatusCode::BAD_REQUEST, "body and headers disagree".to_owned());
    }

    let arrival = Arrival { order: &body.data.order_id, id, sequence, attempt };
    let sighting = desk.book().arrived(arrival);
    let tell = |what: String| desk.feed.tell(arrival.order, &desk.name, what);
    match desk.behaviour.mood(id, sighting) {
        Mood::Accept => {
            desk.book().accepted(arrival);
            let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            tell(format!("webhook {} accepted{again}", body.event));
            (StatusCode::OK, String::new())
        }
        Mood::Fail => {
            desk.book().failed();
            tell(format!("webhook {} answered with 500, attempt {attempt}", body.event));
            (StatusCode::INTERNAL_SERVER_ERROR, "out of order today".to_owned())
        }
        Mood::Hang => {
            desk.book().failed();
            tell(format!("webhook {} left without an answer, attempt {attempt}", body.event));
            desk.clock.sleep(HANGS_FOR).await;
            (StatusCode::SERVICE_UNAVAILABLE, "too late".to_owned())
        }
    }
}

fn believe(desk: &Desk, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Result<(), Doubt> {
    let secret = desk.secret().ok_or(Doubt::NoSecret)?;
    verify(secret.expose(), id, timestamp, signatures, body, desk.clock.now_ms())
}
