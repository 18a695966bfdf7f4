//! The rooms without sockets: who gets what, what is kept, what is bounded.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Full;
use super::*;
use crate::clock::Clock;
use crate::telemetry::Metrics;

const NOW_MS: i64 = 1_700_000_000_000;

fn hub(options: LiveOptions) -> (Hub, Arc<Metrics>, Clock) {
    let (metrics, clock) = (Metrics::new(), Clock::manual(NOW_MS));
    (Hub::new(options, Arc::clone(&metrics), clock.clone()), metrics, clock)
}

fn message(id: &str) -> LiveMessage {
    LiveMessage {
        id: id.to_owned(),
        kind: "order.shipped".to_owned(),
        order_id: "o-1".to_owned(),
        message: "It is on its way".to_owned(),
        occurred_at_ms: NOW_MS,
        published_at_ms: NOW_MS,
    }
}

fn ids(texts: impl IntoIterator<Item = Arc<str>>) -> Vec<String> {
    let id = |text: Arc<str>| {
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
    };
    texts.into_iter().map(id).collect()
}

#[test]
fn a_message_reaches_its_user_in_its_tenant_alone() {
    let (hub, metrics, _) = hub(LiveOptions::default());
    let mut ana = hub.join("shop", "ana").unwrap();
    let mut second = hub.join("shop", "ana").unwrap();
    let mut namesake = hub.join("other", "ana").unwrap();
    let mut bob = hub.join("shop", "bob").unwrap();
    hub.deliver("shop", "ana", &message("m1"));
    hub.deliver("shop", "ana", &message("m1"));
    for session in [&mut ana, &mut second] {
        let json: serde_json::Value = serde_json::from_str(&session.queue.try_recv().unwrap().json).unwrap();
        let expected = serde_json::json!({"type": "order.shipped", "orderId": "o-1", "message": "It is on its way",
                                          "timestamp": "2023-11-14T22:13:20.000Z", "id": "m1"});
        assert_eq!(json, expected);
        assert!(session.queue.try_recv().is_err(), "a repeat of the topic is no new message");
    }
    assert!(namesake.queue.try_recv().is_err() && bob.queue.try_recv().is_err());
    let text = metrics.text();
    assert!(text.contains(r#"orderflow_ws_messages_total{outcome="sent"} 2"#), "{text}");
    assert!(text.contains(r#"orderflow_ws_messages_total{outcome="duplicate"} 1"#), "{text}");
    assert!(text.contains("orderflow_ws_clients 4"), "{text}");
    drop((ana, second, namesake, bob));
    assert!(metrics.text().contains("orderflow_ws_clients 0"));
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_nothing_twice() {
    let (hub, _, _) = hub(LiveOptions::default());
    for id in ["m1", "m2", "m3"] {
        hub.deliver("shop", "ana", &message(id));
    }
    let mut back = hub.join("shop", "ana").unwrap();
    hub.deliver("shop", "ana", &message("m4"));
    assert_eq!(ids(back.missed("m1").unwrap()), ["m2", "m3"], "m4 is in the queue");
    assert_eq!(ids([back.queue.try_recv().unwrap().json]), ["m4"]);
    assert!(back.missed("m3").unwrap().is_empty());
    assert!(back.missed("m0").is_none(), "older than what is kept");
    assert!(
        hub.join("other", "ana").unwrap().missed("m1").is_none(),
        "another tenant's messages are not kept for us"
    );
}

#[test]
fn what_is_kept_is_bounded_per_user_and_in_all() {
    let (hub, _, _) = hub(LiveOptions { kept_per_user: 3, kept_in_all: 4, ..LiveOptions::default() });
    for number in 0..100 {
        hub.deliver("shop", "busy", &message(&format!("m{number}")));
    }
    let busy = hub.join("shop", "busy").unwrap();
    assert!(busy.missed("m96").is_none());
    assert_eq!(ids(busy.missed("m97").unwrap()), ["m98", "m99"]);
    for user in ["a", "b", "c"] {
        hub.deliver("shop", user, &message("x"));
    }
    assert!(busy.missed("m98").is_none(), "the oldest of all went first");
    assert!(busy.missed("m99").is_some());
}

#[test]
fn a_slow_client_is_dropped_and_delays_nobody() {
    let (hub, metrics, _) = hub(LiveOptions { queue: 2, ..LiveOptions::default() });
    let mut slow = hub.join("shop", "ana").unwrap();
    let mut quick = hub.join("shop", "ana").unwrap();
    for number in 0..5 {
        hub.deliver("shop", "ana", &message(&format!("m{number}")));
        assert!(quick.queue.try_recv().is_ok());
    }
    assert!(slow.queue.try_recv().is_ok() && slow.queue.try_recv().is_ok());
    assert_eq!(slow.queue.try_recv().err(), Some(tokio::sync::mpsc::error::TryRecvError::Disconnected));
    assert!(metrics.text().contains(r#"orderflow_ws_messages_total{outcome="slow"} 1"#));
    assert!(metrics.text().contains("orderflow_ws_clients 1"));
    drop(slow);
    assert!(metrics.text().contains("orderflow_ws_clients 1"), "leaving after being dropped counts once");
}

#[test]
fn clients_are_bounded_per_user_and_in_all() {
    let (hub, _, _) = hub(LiveOptions { max_clients: 3, max_clients_per_user: 2, ..LiveOptions::default() });
    let _first = hub.join("shop", "ana").unwrap();
    let second = hub.join("shop", "ana").unwrap();
    assert_eq!(hub.join("shop", "ana").err(), Some(Full::User));
    let _bob = hub.join("shop", "bob").unwrap();
    assert_eq!(hub.join("shop", "cy").err(), Some(Full::Server));
    drop(second);
    let nameless = hub.wait().unwrap();
    assert_eq!(hub.wait().err(), Some(Full::Server), "who hasn't sent a token yet takes a place, too");
    assert_eq!(hub.join("shop", "cy").err(), Some(Full::Server));
    drop(nameless);
    assert!(hub.join("shop", "cy").is_ok());
    hub.close();
    assert_eq!(hub.join("shop", "dee").err(), Some(Full::Server));
}

#[test]
fn what_is_older_than_the_connection_is_kept_but_not_shown() {
    let (hub, _, clock) = hub(LiveOptions::default());
    clock.advance(Duration::from_secs(3600));
    let mut ana = hub.join("shop", "ana").unwrap();
    hub.deliver("shop", "ana", &message("old"));
    assert!(ana.queue.try_recv().is_err());
    hub.deliver("shop", "ana", &LiveMessage { published_at_ms: clock.now_ms(), ..message("new") });
    assert_eq!(ids([ana.queue.try_recv().unwrap().json]), ["new"]);
}
