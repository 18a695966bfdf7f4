//! Conversations, decisions and disputes on real services: what an order's events leave behind.

use std::future::ready;
use std::time::Duration;

use orderflow::crypto::Subject;
use orderflow::event::{Decoded, Event, Factory, LineItem, Money, OutboundNotification, Party};
use orderflow::runtime::Record;
use orderflow::stages::StageOptions;
use orderflow::store::conversations::{self, Kind, OrderKey, Role};
use orderflow::store::disputes::{self, Stage, Status};
use orderflow::store::notifications::{self, Outcome};

use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(30);
const NOW: i64 = 1_760_000_000_000;

/// Buyer and seller with the same user ids in every tenant, and addresses that name the tenant.
fn created(tenant: &str) -> Event {
    let party = |id: &str, locale: &str| Party {
        user_id: id.to_owned(),
        name: Some(format!("{id} of {tenant}")),
        email: Some(format!("{id}@{tenant}.example")),
        locale: Some(locale.to_owned()),
        ..Party::default()
    };
    let (buyer, seller) = (party("ann", "de-AT"), party("bob", "en"));
    let lines: Vec<LineItem> = Vec::new();
    Factory::new(tenant, "it")
        .order_created("o-1", NOW, 1042, buyer, seller, lines, Money::new(123_456, "EUR"))
        .into()
}

fn order_of(tenant: &str) -> Vec<Event> {
    let factory = Factory::new(tenant, "it").correlated("cor-1");
    let money = || Money::new(123_456, "EUR");
    let mut shipped = factory.order_shipped("o-1", NOW + 3, "DHL", "T1");
    shipped.tracking_url = Some("https://example.com/T1".to_owned());
    vec![
        created(tenant),
        factory.payment_processed("o-1", NOW + 1, "p-1", "card", money()).into(),
        factory.order_paid("o-1", NOW + 2, "p-1", "card", money()).into(),
        shipped.into(),
        factory.dispute_initiated("o-1", NOW + 4, "d-1", "ann", "not_received").into(),
    ]
}

/// Every decision as a line, in the order in which the events happened.
async fn decisions(program: &TestProgram, tenant: &str) -> Vec<String> {
    let key = OrderKey::new(tenant, "o-1");
    let decisions = notifications::of_order(&program.parts.db, &key).await.expect("the store answers");
    let mut lines: Vec<_> = decisions
        .iter()
        .map(|decision| {
            let who = decision.recipient.as_deref().unwrap_or(decision.role.as_str());
            let why = decision.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let (event, channel) = (&decision.event_type, &decision.channel);
            let (locale, outcome) = (&decision.locale, decision.outcome.as_str());
            format!("{} {event} {who} {channel} {locale} {outcome}{why}", decision.occurred_at - NOW)
        })
        .collect();
    lines.sort();
    lines
}

async fn outbound(program: &TestProgram) -> Vec<OutboundNotification> {
    let mut found = Vec::new();
    for Record { payload, .. } in program.kafka.all(&program.topic("notifications.outbound")).await {
        let payload = payload.expect("a value");
        found.push(program.parts.codec.decode_record(&payload).await.expect("our own record"));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orders_events_keep_its_conversation_and_tell_each_party_once() {
    let mut program = TestProgram::new("told", StageOptions::default()).await;
    let events = order_of("shop");
    for event in &events {
        program.publish(event).await;
    }
    program.start(&["notification", "dispute"]);
    let db = program.parts.db.clone();
    let key = OrderKey::new("shop", "o-1");
    eventually("the moderator has joined", SOON, || async {
        let people = conversations::participants(&db, &key).await.expect("the store answers");
        people.iter().any(|person| person.role == Role::Moderator)
    })
    .await;

    let told = decisions(&program, "shop").await;
    let (assigned, told): (Vec<_>, Vec<_>) = told.into_iter().partition(|line| line.contains("assigned"));
    assert_eq!(
        told,
        [
            "0 order.created ann email de queued",
            "0 order.created bob live en queued",
            "1 payment.processed ann email de queued",
            "1 payment.processed ann live de queued",
            "1 payment.processed bob email en queued",
            "1 payment.processed bob live en queued",
            "2 order.paid ann email de suppressed: already told",
            "2 order.paid ann live de suppressed: already told",
            "2 order.paid bob email en suppressed: already told",
            "2 order.paid bob live en suppressed: already told",
            "3 order.shipped ann email de queued",
            "3 order.shipped ann live de queued",
            "4 dispute.initiated ann email de queued",
            "4 dispute.initiated ann live de queued",
            "4 dispute.initiated bob email en queued",
            "4 dispute.initiated bob live en queued",
        ]
    );
    assert_eq!(assigned.len(), 3, "buyer, seller and moderator hear of the assignment: {assigned:?}");

    let conversation = conversations::find(&db, &key).await.expect("it answers").expect("it is there");
    assert_eq!((conversation.kind, conversation.order_number), (Kind::Dispute, Some(1042)));
    assert_eq!(conversation.payment.map(|payment| payment.status).as_deref(), Some("paid"));
    let shipments = conversations::shipments(&db, &key).await.expect("it answers");
    assert_eq!(shipments[0].tracking_url.as_deref(), Some("https://example.com/T1"));
    let messages = conversations::messages(&db, &key).await.expect("it answers");
    let kinds: Vec<_> = messages.iter().map(|message| message.event_type.as_str()).collect();
    let expected =
        ["order.created", "payment.processed", "order.shipped", "dispute.initiated", "dispute.assigned"];
    assert_eq!(kinds, expected);
    let subject = Subject::Person { tenant: "shop", person: "ann" };
    let welcome = program.parts.vault.open_text(subject, &messages[0].body).expect("it opens");
    assert!(welcome.contains("Bestellung 1042") && welcome.contains("1.234,56 EUR"), "{welcome}");

    // Everything again: nothing changes.
    let before = (decisions(&program, "shop").await, messages);
    for event in &events {
        program.publish(event).await;
    }
    let marker: Event = Factory::new("shop", "it").order_delivered("o-1", NOW + 9, NOW + 9).into();
    program.publish(&marker).await;
    eventually("the marker behind them is decided", SOON, || async {
        decisions(&program, "shop").await.iter().any(|line| line.contains("delivered"))
    })
    .await;
    let mut after = decisions(&program, "shop").await;
    after.retain(|line| !line.contains("delivered"));
    assert_eq!(after, before.0);
    let mut said = conversations::messages(&db, &key).await.expect("it answers");
    said.retain(|message| message.event_type != "order.delivered");
    assert_eq!(said, before.1);

    let sent = outbound(&program).await;
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|one| one.notification_id.as_str()).collect();
    assert_eq!(ids.len(), sent.len(), "no message leaves twice");
    let mail = sent.iter().find(|one| one.event_type == "order.shipped" && one.channel == "email");
    let mail = mail.expect("the buyer is told of the parcel");
    assert_eq!(mail.address.as_deref(), Some("ann@shop.example"));
    assert!(mail.text.contains("Sendungsnummer: T1"), "{}", mail.text);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_equal_events_orders_and_users_see_nothing_of_each_other() {
    let mut program = TestProgram::new("tenants", StageOptions::default()).await;
    for (first, mut second) in order_of("shop").iter().zip(order_of("market")) {
        second.meta_mut().event_id.clone_from(&first.meta().event_id);
        program.publish(first).await;
        program.publish(&second).await;
    }
    program.start(&["notification", "dispute"]);
    let db = program.parts.db.clone();
    for tenant in ["shop", "market"] {
        eventually("the moderator has joined", SOON, || async {
            decisions(&program, tenant).await.iter().filter(|line| line.contains("assigned")).count() == 3
        })
        .await;
        let key = OrderKey::new(tenant, "o-1");
        let decided = notifications::of_order(&db, &key).await.expect("it answers");
        assert_eq!(decided.len(), 19, "the same as alone");
        assert_eq!(decided.iter().filter(|one| one.outcome == Outcome::Queued).count(), 15);
        let dispute = disputes::of_order(&db, &key).await.expect("it answers").remove(0).1;
        assert_eq!(dispute.moderator_id.as_deref(), Some("moderator-1"));
        assert_eq!((dispute.stage, dispute.status), (Stage::Inquiry, Status::NeedsResponse));
    }
    eventually("every message has left", SOON, || async { outbound(&program).await.len() == 30 }).await;
    for one in outbound(&program).await {
        let foreign = if one.tenant_id == "shop" { "market" } else { "shop" };
        assert!(!format!("{one:?}").contains(foreign), "{one:?}");
    }
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opened_dispute_is_assigned_by_one_event_that_follows_it() {
    let mut program = TestProgram::new("assigned", StageOptions::default()).await;
    let mut initiated: Event =
        Factory::new("shop", "it").dispute_initiated("o-1", NOW, "d-1", "ann", "not_received").into();
    initiated.meta_mut().correlation_id = Some("cor-1".to_owned());
    for _ in 0..2 {
        program.publish(&initiated).await;
    }
    program.start(&["dispute"]);
    let topic = program.topic("orders.events");
    eventually("the assignment is published", SOON, || async { program.kafka.all(&topic).await.len() == 3 })
        .await;
    let text = || program.parts.env.metrics.text();
    let open =
        |number| text().contains(&format!("orderflow_dispute_open{{dispute_stage=\"inquiry\"}} {number}"));
    eventually("the open dispute is counted", SOON, || ready(open(1))).await;
    let closed: Event = Factory::new("shop", "it").dispute_closed("o-1", NOW + 9, "d-1").into();
    program.publish(&closed).await;
    let (db, key) = (program.parts.db.clone(), OrderKey::new("shop", "o-1"));
    eventually("the dispute is closed", SOON, || async {
        let found = disputes::of_order(&db, &key).await.expect("it answers");
        found.iter().any(|(_, dispute)| dispute.status == Status::Closed)
    })
    .await;
    let mut assigned = Vec::new();
    for record in program.kafka.all(&topic).await {
        if record.headers.text("ce_type") != Some("dispute.assigned") {
            continue;
        }
        assert_eq!(record.key.as_deref(), Some(b"o-1".as_slice()));
        assert_eq!(record.headers.text("ce_correlationid"), Some("cor-1"));
        let payload = record.payload.expect("a value");
        let Decoded::Event { event, .. } = program.parts.codec.decode(&payload).await.expect("it decodes")
        else {
            panic!("a known type");
        };
        assigned.push(event);
    }
    assert_eq!(assigned.len(), 1, "the repeated opening assigned nobody again");
    assert_eq!(assigned[0].meta().causation_id.as_deref(), Some(initiated.meta().event_id.as_str()));
    eventually("no dispute is open", SOON, || ready(open(0))).await;
    program.end().await;
}

/// The mail about an order names its lines twice, as text and as HTML, so that it may be larger than the event.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_too_large_for_its_topic_is_recorded_as_failed_and_holds_nothing_up() {
    let mut program = TestProgram::new("too-large", StageOptions::default()).await;
    let Event::OrderCreated(mut large) = created("shop") else { panic!("an order is created") };
    let line = LineItem { title: "<".repeat(500), quantity: 1, ..LineItem::default() };
    large.lines = vec![line; 1_000];
    program.publish(&(*large).into()).await;
    let factory = Factory::new("shop", "it");
    program.publish(&factory.order_shipped("o-1", NOW + 3, "DHL", "T1").into()).await;
    program.start(&["notification"]);
    eventually("the later event is told", SOON, || async {
        outbound(&program).await.iter().filter(|one| one.event_type == "order.shipped").count() == 2
    })
    .await;
    let told = decisions(&program, "shop").await;
    assert!(told[0].starts_with("0 order.created ann email de failed: the message has "), "{told:?}");
    assert_eq!(told[1], "0 order.created bob live en queued");
    program.end().await;
}
