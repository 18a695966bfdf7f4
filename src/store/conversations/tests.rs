//! Conversations over both engines: repeats and late events change nothing that is newer.

use super::*;
use crate::store::testing::each_engine;

fn key() -> OrderKey {
    OrderKey::new("shop", "o-1")
}

fn payment(id: &str, status: &str, at: i64) -> Payment {
    Payment {
        payment_id: id.to_owned(),
        status: status.to_owned(),
        method: "card".to_owned(),
        amount_minor: 1999,
        currency: "EUR".to_owned(),
        at,
    }
}

#[tokio::test]
async fn events_in_any_order_leave_the_newest_state() {
    each_engine(async |db| {
        let mut tx = db.begin().await.unwrap();
        let paid = Change { payment: Some(payment("p-1", "paid", 20)), ..Change::default() };
        let dispute = Change { becomes_dispute: true, ..Change::default() };
        let created = Change { order_number: Some(7), ..Change::default() };
        let older = Change { payment: Some(payment("p-1", "processed", 15)), ..Change::default() };
        for (each, at) in [(&paid, 20), (&dispute, 30), (&created, 10), (&older, 15), (&created, 10)] {
            change(&mut tx, &[(key(), each.clone(), at)]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let expected = Conversation {
            kind: Kind::Dispute,
            order_number: Some(7),
            payment: Some(payment("p-1", "paid", 20)),
            opened_at: 10,
            updated_at: 30,
        };
        assert_eq!(find(&db, &key()).await.unwrap(), Some(expected));
        assert_eq!(find(&db, &OrderKey::new("other", "o-1")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn joining_again_only_fills_in_a_missing_contact() {
    each_engine(async |db| {
        let bare = Participant { role: Role::Buyer, user_id: "u-1".to_owned(), contact: None, joined_at: 10 };
        let known = Participant { contact: Some(Sealed::from_bytes(vec![1])), joined_at: 12, ..bare.clone() };
        let again = Participant { contact: Some(Sealed::from_bytes(vec![2])), ..bare.clone() };
        let mut tx = db.begin().await.unwrap();
        for each in [&bare, &known, &again] {
            join(&mut tx, &[(key(), each.clone())]).await.unwrap();
        }
        let seen = held_in(&mut tx, &[key()]).await.unwrap().remove(&key()).unwrap().participants;
        tx.commit().await.unwrap();
        assert_eq!(seen, [Participant { joined_at: 10, ..known }]);
        assert_eq!(participants(&db, &key()).await.unwrap(), seen);
    })
    .await;
}

#[tokio::test]
async fn a_message_is_said_once_and_comes_back_whole() {
    each_engine(async |db| {
        let message = Message {
            message_id: Uuid::from_u128(3),
            event_id: Uuid::from_u128(1),
            event_type: "order.paid".to_owned(),
            fact: "payment:p-1".to_owned(),
            status_fact: Some("status:paid".to_owned()),
            person_id: Some("u-1".to_owned()),
            locale: "en".to_owned(),
            body: Sealed::from_bytes(vec![0, 255]),
            occurred_at: 20,
        };
        let mut tx = db.begin().await.unwrap();
        let foreign = OrderKey::new("other", "o-1");
        say(&mut tx, &[(key(), message.clone()), (foreign.clone(), message.clone())], 21).await.unwrap();
        say(&mut tx, &[(key(), message.clone())], 22).await.unwrap();
        let mut held = held_in(&mut tx, &[key(), foreign, OrderKey::new("x", "o-1")]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(held.len(), 2);
        let told = held.remove(&key()).unwrap().told;
        assert_eq!((told.len(), told[0].fact.as_str()), (1, "payment:p-1"));
        assert_eq!(messages(&db, &key()).await.unwrap(), [message]);
        assert_eq!(count_messages(&db).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_older_report_never_overwrites_a_tracking_record() {
    each_engine(async |db| {
        let shipped = Shipment {
            tracking_number: "T1".to_owned(),
            carrier: Some("DHL".to_owned()),
            tracking_url: Some("https://example.com/T1".to_owned()),
            status: "shipped".to_owned(),
            estimated_delivery: Some(99),
            updated_at: 10,
        };
        let moving = Shipment {
            carrier: None,
            tracking_url: None,
            status: "in transit".to_owned(),
            estimated_delivery: None,
            updated_at: 20,
            ..shipped.clone()
        };
        let mut tx = db.begin().await.unwrap();
        for each in [&moving, &shipped, &moving] {
            track(&mut tx, &key(), each).await.unwrap();
        }
        tx.commit().await.unwrap();
        let expected = Shipment { status: "in transit".to_owned(), updated_at: 20, ..shipped };
        assert_eq!(shipments(&db, &key()).await.unwrap(), [expected]);
    })
    .await;
}
