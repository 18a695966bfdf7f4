//! One live socket: let in, fed, and let go with a reason.
//!
//! ```text
//! upgrade ──► token (header, or first message) ──► room ──► ready ──► messages … ──► close(code, reason)
//! ```

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::Hub;
use super::hub::{Full, Session, Waiting};
use super::message::{ClientMessage, ServerMessage};
use crate::http::auth::{Auth, TokenFault, bearer};
use crate::http::extract::NoParameters;
use crate::http::{Caller, Code, Parts, Problem, Query};

/// The largest message taken from a client: a token fits.
const MAX_CLIENT_MESSAGE: usize = 16 * 1024;
/// A client that doesn't take a message within this is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// No token lives so long that this would matter; it bounds what is added to the clock.
const LONGEST_SESSION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a connection ends: a WebSocket close code (RFC 6455, 4000 and up are ours) and a word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    GoingAway,
    Unintelligible,
    TooSlow,
    TokenMissing,
    TokenInvalid,
    TokenExpired,
    Idle,
    TooManyConnections,
    Unavailable,
    /// The client left.
    Left,
}

impl Ending {
    fn code_and_reason(self) -> (u16, &'static str) {
        match self {
            Self::Left => (1000, "bye"),
            Self::GoingAway => (1001, "going_away"),
            Self::Unintelligible => (1008, "bad_request"),
            Self::Unavailable => (1013, "keys_unavailable"),
            Self::TokenMissing => (4401, "token_missing"),
            Self::TokenInvalid => (4401, "token_invalid"),
            Self::TokenExpired => (4401, "token_expired"),
            Self::Idle => (4408, "idle"),
            Self::TooSlow => (4413, "too_slow"),
            Self::TooManyConnections => (4429, "too_many_connections"),
        }
    }
}

impl From<&TokenFault> for Ending {
    fn from(fault: &TokenFault) -> Self {
        match fault {
            TokenFault::Missing => Self::TokenMissing,
            TokenFault::Invalid(_) => Self::TokenInvalid,
            TokenFault::Expired => Self::TokenExpired,
            TokenFault::NoKeys(_) => Self::Unavailable,
        }
    }
}

/// The live socket of the token's user.
///
/// The token comes in the `Authorization` header, or as the first message: `{"type":"authenticate","token":"…"}`.
/// The server answers `{"type":"ready"}`, then sends each message. A client that comes back sends
/// `{"type":"resume","lastId":"…"}` and gets what it missed, or `{"type":"resync"}`.
#[utoipa::path(
    get, path = "/ws", tag = "live",
    responses((status = 101, description = "A WebSocket; messages are JSON texts"))
)]
pub(in crate::http) async fn socket(
    State(parts): State<Parts>,
    headers: HeaderMap,
    _: Query<NoParameters>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let refuse = |problem: Problem| {
        count_failure(&parts.hub, problem.code().as_str());
        problem
    };
    let upgrade = upgrade.map_err(|rejection| {
        let detail = format!("this path takes WebSocket handshakes (RFC 6455): {rejection}");
        refuse(Problem::new(Code::BadRequest, detail))
    })?;
    check_origin(&headers, &parts.options.cors_origins).map_err(&refuse)?;
    let upgrade = upgrade.max_message_size(MAX_CLIENT_MESSAGE).max_frame_size(MAX_CLIENT_MESSAGE);
    let full = |full: Full| refuse(Problem::new(Code::TooManyConnections, full.to_string()));
    let entry = match headers.contains_key(header::AUTHORIZATION) {
        false => Entry::Unknown(parts.hub.wait().map_err(full)?),
        true => {
            let caller = match bearer(&headers) {
                Some(token) => parts.auth.check(token).await,
                None => Err(TokenFault::Missing),
            };
            let caller = caller.map_err(|fault| refuse(fault.into_problem()))?;
            let session = join(&parts.hub, &caller).map_err(full)?;
            Entry::Known(caller, session)
        }
    };
    Ok(upgrade.on_upgrade(move |socket| async move { converse(parts, socket, entry).await }))
}

/// Who stands at the door, holding a place either way.
enum Entry {
    /// The token came with the handshake.
    Known(Caller, Session),
    /// It is to come as the first message.
    Unknown(Waiting),
}

/// A page of a foreign origin must not use a token that its user pasted elsewhere; programs send no origin.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    match headers.get(header::ORIGIN) {
        Some(origin) if !allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()) => {
            Err(Problem::new(
                Code::OriginNotAllowed,
                "pages of this origin may not connect; http.cors_origins lists those that may",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn join(hub: &Hub, caller: &Caller) -> Result<Session, Full> {
    hub.join(&caller.tenant, &caller.subject)
}

fn count_failure(hub: &Hub, reason: &str) {
    hub.metrics().ws_connection_failures.with_label_values(&[reason]).inc();
}

async fn converse(parts: Parts, mut socket: WebSocket, entry: Entry) {
    let entered = match entry {
        Entry::Known(caller, session) => Ok((caller, session)),
        Entry::Unknown(place) => log_in(&parts, &mut socket, place).await,
    };
    let ending = match entered {
        Ok((caller, session)) => Feed::new(&parts, caller, session).run(&mut socket).await,
        Err(ending) => ending,
    };
    let (code, reason) = ending.code_and_reason();
    if ending != Ending::Left && ending != Ending::GoingAway {
        count_failure(&parts.hub, reason);
    }
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Whether the client still hears why doesn't change anything.
    let _ = timeout(SEND_TIMEOUT, socket.send(close)).await;
}

/// Waits for the first message and believes or doubts its token.
async fn log_in(parts: &Parts, socket: &mut WebSocket, place: Waiting) -> Result<(Caller, Session), Ending> {
    let first = timeout(parts.hub.options().login_timeout, socket.recv());
    let first = tokio::select! {
        first = first => first.map_err(|_| Ending::TokenMissing)?,
        () = parts.hub.closing().cancelled() => return Err(Ending::GoingAway),
    };
    let text = match first {
        Some(Ok(Message::Text(text))) => text,
        None | Some(Ok(Message::Close(_)) | Err(_)) => return Err(Ending::Left),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
            return Err(Ending::TokenMissing);
        }
    };
    let Ok(ClientMessage::Authenticate { token }) = serde_json::from_str(&text) else {
        return Err(Ending::TokenMissing);
    };
    let caller = check(&parts.auth, &token).await?;
    drop(place);
    let session = join(&parts.hub, &caller).map_err(|_| Ending::TooManyConnections)?;
    Ok((caller, session))
}

async fn check(auth: &Auth, token: &str) -> Result<Caller, Ending> {
    auth.check(token).await.map_err(|fault| {
        tracing::info!(%fault, "a live socket's token was refused");
        Ending::from(&fault)
    })
}

/// A client that was let in.
struct Feed<'a> {
    hub: &'a Hub,
    session: Session,
    /// When the token ends.
    until: Instant,
    /// When something last came from the client.
    heard: Instant,
    resumed: bool,
}

impl<'a> Feed<'a> {
    fn new(parts: &'a Parts, caller: Caller, session: Session) -> Self {
        let left = caller.expires_at_ms.saturating_sub(parts.clock.now_ms());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(LONGEST_SESSION);
        let now = Instant::now();
        Self { hub: &parts.hub, session, until: now + left, heard: now, resumed: false }
    }

    async fn run(mut self, socket: &mut WebSocket) -> Ending {
        match self.talk(socket).await {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, Ending> {
        send(socket, ServerMessage::Ready.to_json()).await?;
        let options = self.hub.options();
        let mut pings = interval(options.ping_interval.max(Duration::from_millis(10)));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.hub.closing().cancelled() => return Err(Ending::GoingAway),
                () = sleep_until(self.until) => return Err(Ending::TokenExpired),
                heard = socket.recv() => self.hear(socket, heard).await?,
                queued = self.session.queue.recv() => match queued {
                    Some(queued) => send(socket, queued.json.to_string()).await?,
                    None => return Err(Ending::TooSlow),
                },
                _ = pings.tick() => {
                    if self.heard.elapsed() > options.idle_timeout {
                        return Err(Ending::Idle);
                    }
                    deliver(socket, Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn hear(
        &mut self,
        socket: &mut WebSocket,
        heard: Option<Result<Message, axum::Error>>,
    ) -> Result<(), Ending> {
        self.heard = Instant::now();
        let text = match heard {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err(Ending::Unintelligible),
            None | Some(Ok(Message::Close(_)) | Err(_)) => return Err(Ending::Left),
        };
        match serde_json::from_str::<ClientMessage>(&text) {
            Ok(ClientMessage::Ping) => send(socket, ServerMessage::Pong.to_json()).await,
            Ok(ClientMessage::Resume { last_id }) if !self.resumed => {
                self.resumed = true;
                self.resume(socket, &last_id).await
            }
            Ok(ClientMessage::Resume { .. }) => {
                complain(socket, "resume is asked once, right after ready").await
            }
            Ok(ClientMessage::Authenticate { .. }) => {
                complain(socket, "this connection has a token already").await
            }
            Err(error) => complain(socket, &format!("not a message that a client may send: {error}")).await,
        }
    }

    async fn resume(&self, socket: &mut WebSocket, last_id: &str) -> Result<(), Ending> {
        let Some(missed) = self.session.missed(last_id) else {
            return send(socket, ServerMessage::Resync.to_json()).await;
        };
        for json in missed {
            send(socket, json.to_string()).await?;
        }
        Ok(())
    }
}

async fn complain(socket: &mut WebSocket, detail: &str) -> Result<(), Ending> {
    let problem = Problem::new(Code::BadRequest, detail);
    send(socket, ServerMessage::error(&problem).to_json()).await
}

async fn send(socket: &mut WebSocket, json: String) -> Result<(), Ending> {
    deliver(socket, Message::Text(json.into())).await
}

async fn deliver(socket: &mut WebSocket, message: Message) -> Result<(), Ending> {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::Left),
        Err(_) => Err(Ending::TooSlow),
    }
}
