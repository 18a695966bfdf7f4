//! Delivery on real services: mail over TCP to a real mail server, live messages on their topic, and what is
//! recorded of both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::embedded::feed::Feed;
use orderflow::embedded::mailbox::{Mailbox, PutsOff};
use orderflow::event::{Decoded, Event, EventType, Factory, LineItem, LiveNotification, Money, Party};
use orderflow::stages::StageOptions;
use orderflow::stages::delivery::email::SmtpOptions;
use orderflow::stages::live_feed::LiveFeed;
use orderflow::store::conversations::OrderKey;
use orderflow::store::notifications::{self, Counts, Outcome};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(40);
const NOW: i64 = 1_760_000_000_000;
const STAGES: [&str; 3] = ["notification", "dispute", "delivery"];

fn created(tenant: &str, order: &str, buyer_mail: &str) -> Event {
    let party = |id: &str, email: &str| Party {
        user_id: id.to_owned(),
        email: Some(email.to_owned()),
        ..Party::default()
    };
    let (buyer, seller) = (party("ann", buyer_mail), party("bob", "bob@example.com"));
    let lines: Vec<LineItem> = Vec::new();
    Factory::new(tenant, "it")
        .correlated("cor-1")
        .order_created(order, NOW, 1042, buyer, seller, lines, Money::new(500, "JPY"))
        .into()
}

fn paid(tenant: &str, order: &str) -> Event {
    Factory::new(tenant, "it").order_paid(order, NOW + 1, "p-1", "card", Money::new(500, "JPY")).into()
}

async fn program(subject: &str, mail_server: SocketAddr) -> TestProgram {
    let smtp = SmtpOptions {
        host: mail_server.ip().to_string(),
        port: mail_server.port(),
        from: "Shop <shop@example.com>".to_owned(),
        ..SmtpOptions::default()
    };
    let mail = smtp.check().expect("the options are usable");
    TestProgram::new(subject, StageOptions { mail, ..StageOptions::default() }).await
}

async fn counts(program: &TestProgram) -> Counts {
    notifications::count(&program.parts.db).await.expect("the store answers")
}

/// The events of the order's topic of a type.
async fn published(program: &TestProgram, event_type: EventType) -> Vec<Event> {
    let mut found = Vec::new();
    for record in program.kafka.all(&program.topic("orders.events")).await {
        let payload = record.payload.expect("a value");
        match program.parts.codec.decode(&payload).await.expect("it decodes") {
            Decoded::Event { event, .. } if event.event_type() == event_type => found.push(event),
            Decoded::Event { .. } | Decoded::UnknownType { .. } => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_and_live_messages_arrive_once_and_the_confirmation_is_an_event() {
    let puts_off = Some(PutsOff { seed: 7, one_in: 2 });
    let mailbox = Mailbox::open(100, puts_off, Feed::new()).await.expect("a port");
    let mut program = program("delivered", mailbox.address()).await;
    let live = program.topic("notifications.live");
    let shown: Arc<Mutex<Vec<LiveNotification>>> = Arc::default();
    let (stop, seen) = (CancellationToken::new(), Arc::clone(&shown));
    let env = &program.parts.env;
    let feed = LiveFeed {
        kafka: env.kafka.clone(),
        topic: live.clone(),
        codec: program.parts.codec.clone(),
        clock: env.clock.clone(),
    };
    let show = move |message, _at| seen.lock().expect("not poisoned").push(message);
    let feed = orderflow::task::spawn("feed", feed.follow(stop.clone(), show));

    let first = created("shop", "o-1", "ann@example.com");
    // Another tenant's event with the same id, order and buyer is another event.
    let mut elsewhere = created("market", "o-1", "ann@market.example");
    elsewhere.meta_mut().event_id.clone_from(&first.meta().event_id);
    for event in [&first, &paid("shop", "o-1"), &first, &elsewhere] {
        program.publish(event).await;
    }
    program.start(&STAGES);
    let done = Counts { sent: 8, ..Counts::default() };
    eventually("everything is sent", SOON, || async { counts(&program).await == done }).await;

    let mut per_address: BTreeMap<String, Vec<String>> = BTreeMap::new();
    {
        let letters = mailbox.letters();
        assert_eq!((letters.accepted, letters.duplicates), (4, 0));
        for mail in &letters.mails {
            assert!(mail.message_id.ends_with("@example.com"), "{}", mail.message_id);
            per_address.entry(mail.to.join(",")).or_default().push(mail.subject.clone());
        }
    }
    let confirmed = "Your order 1042 is confirmed".to_owned();
    assert_eq!(
        per_address["ann@example.com"],
        [confirmed.clone(), "We received your payment for order 1042".to_owned()],
        "in the order of the events, though the server may put off the first"
    );
    assert_eq!(per_address["bob@example.com"], ["Order 1042 is paid"]);
    assert_eq!(per_address["ann@market.example"], [confirmed]);

    let records = program.kafka.all(&live).await;
    let mut keys: Vec<_> = records.iter().filter_map(|record| record.key.clone()).collect();
    keys.sort();
    assert_eq!(keys, ["ann", "bob", "bob", "bob"]);
    eventually("the gateway saw them", SOON, || async { shown.lock().expect("not poisoned").len() == 4 })
        .await;

    eventually("both confirmations are told", SOON, || async {
        published(&program, EventType::OrderConfirmationSent).await.len() == 2
            && published(&program, EventType::EmailSent).await.len() == 2
    })
    .await;
    let told = published(&program, EventType::OrderConfirmationSent).await;
    let ours = told.iter().find(|event| event.meta().tenant_id == "shop").expect("one of the shop");
    assert_eq!(ours.meta().causation_id.as_deref(), Some(first.meta().event_id.as_str()));
    assert_eq!(ours.meta().correlation_id.as_deref(), Some("cor-1"));
    stop.cancel();
    feed.await.expect("no panic");
    program.end().await;
}

/// A mail server that takes nobody's mail but bob's.
async fn picky() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            orderflow::task::spawn("picky", async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                let _ = write.write_all(b"220 picky\r\n").await;
                let mut in_data = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer: &[u8] = match line.as_str() {
                        "." => b"250 accepted\r\n",
                        _ if in_data => continue,
                        "DATA" => b"354 go on\r\n",
                        line if line.starts_with("RCPT") && !line.contains("bob@") => b"550 no such user\r\n",
                        _ => b"250 fine\r\n",
                    };
                    in_data = line == "DATA";
                    if write.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    };
    (address, orderflow::task::spawn("picky server", serve))
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_refused_for_good_is_a_dead_letter_and_the_rest_goes_on() {
    let (address, server) = picky().await;
    let mut program = program("refused", address).await;
    program.publish(&created("shop", "o-1", "nobody@example.com")).await;
    program.publish(&created("shop", "o-2", "ann@@example..com\r\nRCPT TO:<bob@example.com>")).await;
    program.publish(&paid("shop", "o-1")).await;
    program.start(&STAGES);
    let expected = Counts { sent: 5, failed: 3, ..Counts::default() };
    eventually("every message has its end", SOON, || async { counts(&program).await == expected }).await;

    let decisions = notifications::of_order(&program.parts.db, &OrderKey::new("shop", "o-2")).await;
    let decisions = decisions.expect("the store answers");
    let mail = decisions.iter().find(|decision| decision.channel == "email").expect("a decision");
    assert_eq!(mail.outcome, Outcome::Failed);
    let reason = mail.reason.as_deref().expect("a reason");
    assert!(reason.contains("address is refused") && !reason.contains("bob"), "{reason}");

    let letters = program.topic("notifications.outbound.delivery.dlq");
    eventually("they are dead letters", SOON, || async { program.kafka.all(&letters).await.len() == 3 })
        .await;
    for letter in program.kafka.all(&letters).await {
        assert_eq!(letter.headers.text("of-error-class"), Some("rejected"));
    }
    assert!(published(&program, EventType::OrderConfirmationSent).await.is_empty());
    let text = program.parts.env.metrics.text();
    assert!(text.contains("orderflow_notifications_total{channel=\"email\",outcome=\"failed\"} 3"), "{text}");
    program.end().await;
    server.abort();
}
