//! More that receivers and their names do to us: numbers that lie, answers that come too late, and names that lead
//! somewhere else when they are asked again.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{FutureExt as _, ready};
use tokio::io::AsyncWriteExt as _;

use super::guard::Guard;
use super::tests::{PATIENCE, Receiver, client, open, post};
use super::*;

#[tokio::test]
async fn one_byte_a_second_ends_at_the_time_out_whatever_was_told_already() {
    let receiver = Receiver::start(|mut peer, _| async move {
        peer.request().await?;
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" {
            peer.stream.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    })
    .await;
    let ended = post(&client(open()), &receiver.address()).await;
    assert!(matches!(ended, Err(AttemptError::TimedOut)), "{ended:?}");
}

#[tokio::test]
async fn of_two_hundred_megabytes_a_few_are_taken_and_the_status_counts() {
    const SIZE: usize = 200 * 1024 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let receiver = Receiver::start(move |mut peer, _| {
        let sent = Arc::clone(&counted);
        async move {
            peer.request().await?;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            peer.stream.write_all(head.as_bytes()).await?;
            let chunk = vec![b'x'; 64 * 1024];
            for _ in 0..SIZE / chunk.len() {
                peer.stream.write_all(&chunk).await?;
                sent.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            Ok(())
        }
    })
    .await;
    let answer = post(&client(open()), &receiver.address()).await.expect("its status is told");
    assert_eq!((answer.status, answer.body.len()), (200, KEPT));
    // What buffers of both kernels hold, and not more.
    let taken = sent.load(Ordering::SeqCst);
    assert!(taken < SIZE / 8, "{taken} bytes were taken");
}

#[tokio::test]
async fn an_answer_that_is_longer_than_it_says_does_not_become_the_next_one() {
    let receiver = Receiver::start(|mut peer, _| async move {
        while peer.request().await? {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n";
            peer.stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    let client = client(open());
    for _ in 0..10 {
        let answer = post(&client, &receiver.address()).await.expect("an answer");
        assert_eq!(answer.status, 200, "what was sent unasked is nobody's answer");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_no_answer_to_the_next_request() {
    let receiver = Receiver::start(|mut peer, number| async move {
        while peer.request().await? {
            if number == 1 {
                tokio::time::sleep(PATIENCE * 2).await;
            }
            let status = if number == 1 { "200 OK" } else { "202 Accepted" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            peer.stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    let client = client(open());
    let late = post(&client, &receiver.address()).await;
    assert!(matches!(late, Err(AttemptError::TimedOut)), "{late:?}");
    assert_eq!(post(&client, &receiver.address()).await.expect("an answer").status, 202);
    assert_eq!(receiver.connections(), 2, "the connection was given up with its request");
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const INSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A client to which 127.0.0.2 is the outside world and 127.0.0.1 our own network, with a resolver that gives `answers`
/// one after the other, the last one from then on. Counts the questions.
fn rebound(answers: Vec<Vec<IpAddr>>) -> (Client, Arc<AtomicUsize>) {
    let guard = Guard { allowed: Arc::from(["127.0.0.2/32".parse().unwrap()]), ..Guard::default() };
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let mut client = client(guard);
    client.connector.lookup = Arc::new(move |_| {
        let at = counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        ready(Ok(answers[at].clone())).boxed()
    });
    (client, asked)
}

/// A server at both addresses under one port; each tells its requests.
async fn both() -> (Receiver, Receiver) {
    let answer = |mut peer: super::tests::Peer, _| async move {
        peer.request().await?;
        peer.stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await
    };
    loop {
        let outside = Receiver::start_at("127.0.0.2:0", answer).await;
        let address = format!("127.0.0.1:{}", outside.port);
        // The port is ours there, but perhaps somebody else's here.
        if tokio::net::TcpListener::bind(&address).await.is_ok() {
            return (outside, Receiver::start_at(&address, answer).await);
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_when_it_is_asked_again_leads_nowhere() {
    let (outside, inside) = both().await;
    let address = Address::of(&format!("http://rebound.example:{}/", outside.port)).unwrap();
    let (client, asked) = rebound(vec![vec![HERE], vec![INSIDE]]);
    assert_eq!(post(&client, &address).await.expect("it may be sent to").status, 204);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "what was checked is what is connected to");
    let ended = post(&client, &address).await;
    assert!(matches!(ended, Err(AttemptError::Forbidden)), "{ended:?}");
    assert_eq!((outside.requests(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn of_a_name_that_leads_to_both_only_what_is_allowed_is_connected_to() {
    let (outside, inside) = both().await;
    let address = Address::of(&format!("http://both.example:{}/", outside.port)).unwrap();
    let (client, _) = rebound(vec![vec![INSIDE, HERE]]);
    assert_eq!(post(&client, &address).await.expect("it may be sent to").status, 204);
    // When the one that is allowed is away, that is the end of it.
    drop(outside);
    let ended = post(&client, &address).await;
    assert!(matches!(ended, Err(AttemptError::Connect(_))), "{ended:?}");
    assert_eq!(inside.connections(), 0);
}
