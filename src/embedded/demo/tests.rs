//! The whole in one process; and that its audit notices what it is there to notice.

use std::net::Ipv4Addr;

use super::*;
use crate::embedded::partners::book::Arrival;

fn options(seed: u64) -> DemoOptions {
    DemoOptions {
        orders: 6,
        rate: None,
        seed,
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        partner_down_for: Duration::from_millis(300),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_balances_until_something_is_lost_doubled_or_out_of_order() {
    let quit = CancellationToken::new();
    let demo = Demo::start(options(3), quit.clone()).await.unwrap();
    let mut published = demo.publish(&quit).await.unwrap();
    let remaining = demo.settle(Duration::from_secs(60), &quit).await.unwrap();
    assert!(remaining.is_none(), "{remaining:?}");
    let audit = demo.audit(&published).await.unwrap();
    assert!(audit.ledger.balances(), "{audit:?}");
    assert_eq!((audit.ledger.orders, audit.ledger.lost), (6, 0));

    // An event that was published and reached nobody.
    let stranger = Traffic::new(traffic_options(&options(4))).next().unwrap();
    published.add(&stranger);
    let audit = demo.audit(&published).await.unwrap();
    assert!(
        audit.ledger.lost >= 3,
        "not kept, no conversation, no message, no notification, no mail: {audit:?}"
    );
    assert!(audit.findings.iter().any(|words| words.contains(&stranger.meta().order_id)), "{audit:?}");
    let lost = audit.ledger.lost;

    // Messages that are gone.
    let mut tx = demo.plant.db.begin().await.unwrap();
    let gone = "DELETE FROM conversation_messages WHERE order_id = (SELECT MIN(order_id) FROM conversations)";
    tx.execute(gone, &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(demo.audit(&published).await.unwrap().ledger.lost > lost);

    // A message that was told twice: of one event, two rows.
    let mut tx = demo.plant.db.begin().await.unwrap();
    let twice = "INSERT INTO conversation_messages
         SELECT tenant_id, order_id, 'again', event_id, event_type, fact, status_fact, person_id, locale, body,
             occurred_at, created_at FROM conversation_messages LIMIT 1";
    assert_eq!(tx.execute(twice, &[]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(demo.audit(&published).await.unwrap().ledger.duplicates, 1);

    // A webhook that comes twice, and one that comes too late.
    let row = demo
        .plant
        .db
        .row("SELECT order_id, event_id FROM order_events ORDER BY record_offset DESC LIMIT 1", &[])
        .await
        .unwrap()
        .unwrap();
    let (order, id) = (row.text("order_id").unwrap(), format!("evt_{}", row.text("event_id").unwrap()));
    let again = Arrival { order: &order, id: &id, sequence: i64::MAX, attempt: 1 };
    demo.partners()[0].book().arrived(again);
    let late = Arrival { id: "evt_late", sequence: -1, ..again };
    demo.partners()[0].book().arrived(late);
    let audit = demo.audit(&published).await.unwrap();
    assert_eq!((audit.ledger.duplicates, audit.ledger.order_violations), (2, 1), "{audit:?}");
    assert!(!audit.ledger.balances());

    assert_eq!(demo.stop().await, Vec::<String>::new());
}

/// So slow that as many events as may be on their way take longer than anybody waits here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_counts_as_published_when_it_is_acknowledged() {
    let quit = CancellationToken::new();
    let demo = Demo::start(DemoOptions { rate: Some(2.0), ..options(3) }, quit.clone()).await.unwrap();
    let seen = async {
        while demo.progress().await.events == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = demo.publish(&quit) => panic!("nothing was counted before the end: {:?}", ended.is_ok()),
        seen = tokio::time::timeout(Duration::from_secs(20), seen) => seen.unwrap(),
    }
    quit.cancel();
    assert_eq!(demo.stop().await, Vec::<String>::new());
}
