//! Partners over real connections, fed with requests signed by a library that isn't ours.

use std::time::Instant;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Post {
    order: &'static str,
    event: &'static str,
    sequence: i64,
    attempt: u32,
}

/// Sends one webhook and gives the status, or none when there was no connection.
async fn send(partner: &Partner, post: Post, tamper: bool) -> Option<u16> {
    let id = format!("evt_{}_{}", post.order, post.event);
    let body = format!(r#"{{"id":"{id}","event":"{}","data":{{"orderId":"{}"}}}}"#, post.event, post.order);
    let seconds = Clock::system().now_ms() / 1000;
    let signature =
        standardwebhooks::Webhook::new(SECRET).unwrap().sign(&id, seconds, body.as_bytes()).unwrap();
    let body = if tamper { body.replace("orderId\":\"o", "orderId\":\"p") } else { body };
    let answer = reqwest::Client::new()
        .post(partner.url())
        .header("webhook-id", &id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", signature)
        .header("x-webhook-event", post.event)
        .header("x-webhook-sequence", post.sequence.to_string())
        .header("x-webhook-attempt", post.attempt.to_string())
        .body(body)
        .send()
        .await;
    match answer {
        Ok(answer) => Some(answer.status().as_u16()),
        Err(error) if error.is_connect() => None,
        Err(error) => panic!("{error}"),
    }
}

fn open(behaviour: Behaviour) -> Partner {
    let partner = Partner::open("sample", behaviour, &[], 100, Clock::system(), Feed::new()).unwrap();
    partner.learn_secret(Secret::new(SECRET.to_owned()));
    partner
}

#[tokio::test]
async fn a_healthy_partner_counts_a_duplicate_a_violation_and_a_forgery() {
    let partner = open(Behaviour::Healthy);
    let created = || Post { order: "o-1", event: "order.created", sequence: 5, attempt: 1 };
    let paid = || Post { order: "o-1", event: "order.paid", sequence: 3, attempt: 1 };
    assert_eq!(send(&partner, created(), true).await, Some(401));
    assert_eq!(send(&partner, created(), false).await, Some(200));
    assert_eq!(send(&partner, created(), false).await, Some(200));
    assert_eq!(partner.book().counts().violations, 0);
    assert_eq!(send(&partner, paid(), false).await, Some(200));
    let counts = partner.book().counts();
    assert_eq!((counts.requests, counts.verified, counts.refused), (4, 3, 1));
    assert_eq!((counts.accepted, counts.duplicates), (2, 1));
    assert!(counts.violations > 0, "{counts:?}");
    assert!(partner.book().has_accepted("o-1", "evt_o-1_order.created"));
}

#[tokio::test]
async fn a_partner_without_its_secret_believes_nobody() {
    let partner = Partner::open("new", Behaviour::Healthy, &[], 100, Clock::system(), Feed::new()).unwrap();
    let post = Post { order: "o-1", event: "order.created", sequence: 5, attempt: 1 };
    assert_eq!(send(&partner, post, false).await, Some(401));
    assert_eq!(partner.book().counts().verified, 0);
}

#[tokio::test]
async fn a_partner_that_is_down_refuses_connections_and_comes_up() {
    let post = |attempt| Post { order: "o-1", event: "order.created", sequence: 5, attempt };
    let down = open(Behaviour::DownFor(Duration::from_secs(3600)));
    assert_eq!(send(&down, post(1), false).await, None);
    let partner = open(Behaviour::DownFor(Duration::from_millis(300)));
    let deadline = Instant::now() + Duration::from_secs(20);
    while send(&partner, post(2), false).await != Some(200) {
        assert!(Instant::now() < deadline, "it never came up");
    }
    let counts = partner.book().counts();
    assert_eq!((counts.accepted, counts.first_try), (1, 0));
}

#[test]
fn failing_at_times_is_decided_by_the_seed_and_ends_after_a_few_attempts() {
    let fails = Behaviour::FailsAtTimes { seed: 7, one_in: 8 };
    let ids: Vec<String> = (0..2000).map(|n| format!("evt_{n}")).collect();
    let moods = |sighting| ids.iter().filter(|id| fails.mood(id, sighting) != Mood::Accept).count();
    assert!((180..320).contains(&moods(1)), "{}", moods(1));
    assert!(moods(2) > 0 && moods(2) < moods(1) && moods(2) == moods(3));
    assert_eq!(moods(4), 0);
    assert!(ids.iter().any(|id| fails.mood(id, 1) == Mood::Hang));
}
