//! The live socket as a client sees it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use orderflow::event::LiveNotification;
use orderflow::http::Role;
use orderflow::http::live::{LiveMessage, LiveOptions};
use orderflow::runtime::OutRecord;
use orderflow::stages::StageOptions;
use orderflow::stages::live_feed::LiveFeed;
use orderflow::task;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::TestApi;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(60);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects with these headers; the status when the handshake is refused.
    async fn connect(api: &TestApi, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{}/ws", api.address).into_client_request().expect("a valid URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    /// Connects as `user` of `tenant` and waits until the server is ready.
    async fn open(api: &TestApi, user: &str, tenant: &str) -> Self {
        let bearer = format!("Bearer {}", api.token(user, Role::Buyer, tenant));
        let mut client = Self::connect(api, &[("authorization", &bearer)]).await.expect("let in");
        assert_eq!(client.next().await, json!({"type": "ready"}));
        client
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("the server listens");
    }

    /// The next message, or the close code and its reason.
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next()).await.expect("something comes in time");
            match message {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return json!({"closed": u16::from(frame.code), "reason": frame.reason.as_str()});
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn message(api: &TestApi, id: &str) -> LiveMessage {
    let now = api.parts.clock.now_ms();
    LiveMessage {
        id: id.to_owned(),
        kind: "order.shipped".to_owned(),
        order_id: "o-1".to_owned(),
        message: "It is on its way".to_owned(),
        occurred_at_ms: now,
        published_at_ms: now,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_opens_the_socket() {
    let program = TestProgram::new("ws-token", StageOptions::default()).await;
    let quick = LiveOptions {
        // Long enough for a client that does send its token, on a busy machine.
        login_timeout: Duration::from_secs(10),
        max_clients_per_user: 1,
        ..LiveOptions::default()
    };
    let api = TestApi::start(&program, quick).await;
    assert_eq!(Client::connect(&api, &[("authorization", "Bearer a.b.c")]).await.err(), Some(401));
    assert_eq!(Client::connect(&api, &[("authorization", "Basic x")]).await.err(), Some(401));
    assert_eq!(Client::connect(&api, &[("origin", "https://evil.example")]).await.err(), Some(403));
    assert!(Client::connect(&api, &[("origin", "https://shop.example")]).await.is_ok());
    let plain = api.client.get(api.url("/ws")).send().await.expect("the API answers");
    assert_eq!(plain.json::<Value>().await.expect("a problem")["code"], "bad_request");

    let mut silent = Client::connect(&api, &[]).await.expect("the handshake needs no token");
    assert_eq!(silent.next().await, json!({"closed": 4401, "reason": "token_missing"}));
    for (first, reason) in [
        (json!({"type": "authenticate", "token": "a.b.c"}), "token_invalid"),
        (json!({"type": "resume", "lastId": "x"}), "token_missing"),
        (json!("hello"), "token_missing"),
    ] {
        let mut client = Client::connect(&api, &[]).await.expect("the handshake needs no token");
        client.say(first).await;
        assert_eq!(client.next().await, json!({"closed": 4401, "reason": reason}));
    }
    let mut late = Client::connect(&api, &[]).await.expect("the handshake needs no token");
    late.say(json!({"type": "authenticate", "token": api.token("ana", Role::Buyer, "shop")})).await;
    assert_eq!(late.next().await, json!({"type": "ready"}));
    let bearer = format!("Bearer {}", api.token("ana", Role::Buyer, "shop"));
    assert_eq!(
        Client::connect(&api, &[("authorization", &bearer)]).await.err(),
        Some(429),
        "one is the most"
    );
    late.say(json!({"type": "dance"})).await;
    assert_eq!(late.next().await["code"], "bad_request");
    late.say(json!({"type": "ping"})).await;
    assert_eq!(late.next().await, json!({"type": "pong"}));
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_their_messages_resumes_without_gaps_and_is_told_when_the_server_goes() {
    let program = TestProgram::new("ws-room", StageOptions::default()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let mut ana = Client::open(&api, "ana", "shop").await;
    let mut namesake = Client::open(&api, "ana", "other").await;
    api.parts.hub.deliver("shop", "ana", &message(&api, "m-1"));
    let seen = ana.next().await;
    assert_eq!(
        (&seen["id"], &seen["type"], &seen["orderId"]),
        (&json!("m-1"), &json!("order.shipped"), &json!("o-1"))
    );

    drop(ana);
    for id in ["m-2", "m-3"] {
        api.parts.hub.deliver("shop", "ana", &message(&api, id));
    }
    let mut back = Client::open(&api, "ana", "shop").await;
    back.say(json!({"type": "resume", "lastId": "m-1"})).await;
    assert_eq!(
        (back.next().await["id"].clone(), back.next().await["id"].clone()),
        (json!("m-2"), json!("m-3"))
    );
    back.say(json!({"type": "resume", "lastId": "m-1"})).await;
    assert_eq!(back.next().await["type"], "error", "once is enough");
    namesake.say(json!({"type": "resume", "lastId": "m-1"})).await;
    assert_eq!(
        namesake.next().await,
        json!({"type": "resync"}),
        "the other tenant's messages are unknown here"
    );

    api.stop.cancel();
    assert_eq!(back.next().await, json!({"closed": 1001, "reason": "going_away"}));
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_at_all_is_let_go() {
    let program = TestProgram::new("ws-idle", StageOptions::default()).await;
    let options = LiveOptions {
        // A living client has several pings' time to answer, on a busy machine too.
        ping_interval: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(5),
        ..LiveOptions::default()
    };
    let api = TestApi::start(&program, options).await;
    let mut alive = Client::open(&api, "ana", "shop").await;
    // A client that doesn't read doesn't answer pings either.
    let dead = Client::open(&api, "bob", "shop").await;
    let metrics = &api.parts.metrics;
    let idle = metrics.ws_connection_failures.with_label_values(&["idle"]);
    let reading = task::spawn("reader", async move {
        while tokio::time::timeout(SOON, alive.0.next()).await.is_ok_and(|m| m.is_some()) {
            if idle.get() == 1 {
                break;
            }
        }
        alive
    });
    let mut alive = reading.await.expect("no panic");
    assert!(metrics.text().contains("orderflow_ws_clients 1"), "the dead one is gone, the living one is not");
    drop(dead);
    alive.say(json!({"type": "ping"})).await;
    assert_eq!(alive.next().await, json!({"type": "pong"}));
    api.end().await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_on_the_topic_is_shown_to_the_user_it_is_for() {
    let program = TestProgram::new("ws-feed", StageOptions::default()).await;
    let api = TestApi::start(&program, LiveOptions::default()).await;
    let topic = program.topic("notifications.live");
    let (hub, stop) = (api.parts.hub.clone(), CancellationToken::new());
    let feed = LiveFeed {
        kafka: program.kafka.options.clone(),
        topic: topic.clone(),
        codec: program.parts.codec.clone(),
        clock: program.parts.env.clock.clone(),
    };
    let show =
        move |notification: LiveNotification, published_at_ms| hub.show(&notification, published_at_ms);
    let feeding = task::spawn("live feed", feed.follow(stop.clone(), show));
    let mut ana = Client::open(&api, "ana", "shop").await;
    let mut bob = Client::open(&api, "bob", "shop").await;
    for (user, id) in [("ana", "n-1"), ("bob", "n-2"), ("ana", "n-1"), ("ana", "n-3")] {
        let notification = LiveNotification {
            notification_id: id.to_owned(),
            tenant_id: "shop".to_owned(),
            user_id: user.to_owned(),
            order_id: "o-1".to_owned(),
            event_id: "e-1".to_owned(),
            event_type: "order.shipped".to_owned(),
            message: "It is on its way".to_owned(),
            occurred_at: 1_700_000_000_000,
        };
        let payload =
            program.parts.codec.encode_record(&topic, &notification).await.expect("it fits its schema");
        let record = OutRecord::keyed(topic.clone(), user.as_bytes().to_vec(), payload);
        program.parts.env.producer.send(record).await.expect("acknowledged");
    }
    assert_eq!(ana.next().await["id"], "n-1");
    assert_eq!(ana.next().await["id"], "n-3", "a repeat on the topic is shown once");
    let seen = bob.next().await;
    assert_eq!((&seen["id"], &seen["timestamp"]), (&json!("n-2"), &json!("2023-11-14T22:13:20.000Z")));
    stop.cancel();
    feeding.await.expect("no panic");
    api.end().await;
    program.end().await;
}
