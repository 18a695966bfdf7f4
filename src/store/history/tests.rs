//! The history over both engines.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::store::positions::{self, Place};
use crate::store::testing::each_engine;

fn event(tenant: &str, version: i64, kind: &str) -> NewEvent {
    NewEvent {
        tenant: tenant.to_owned(),
        order_id: "o-1".to_owned(),
        version,
        event_id: format!("e-{version}"),
        kind: kind.to_owned(),
        schema_id: 7,
        occurred_at: version * 100,
        correlation_id: Some("c".to_owned()),
        causation_id: None,
        source: None,
        cluster_id: "c".to_owned(),
        coordinates: ("orders.events".to_owned(), 3, version),
        payload_hash: vec![1, 2],
        masked: json!({"n": version, "email": "***"}).to_string(),
        personal: "{}".to_owned(),
    }
}

fn order(tenant: &str, version: i64) -> OrderRow {
    OrderRow {
        tenant: tenant.to_owned(),
        order_id: "o-1".to_owned(),
        version,
        status: "paid".to_owned(),
        order_number: None,
        buyer_id: Some(format!("buyer-of-{tenant}")),
        seller_id: None,
        state: Sealed::from_bytes(vec![9]),
    }
}

async fn three_events(db: &Database, tenant: &str) {
    let mut tx = db.begin().await.unwrap();
    let events = [
        event(tenant, 1, "order.created"),
        event(tenant, 2, "order.paid"),
        event(tenant, 3, "order.shipped"),
    ];
    add(&mut tx, &events, 1_000).await.unwrap();
    save_orders(&mut tx, &[order(tenant, 2)], 1_000).await.unwrap();
    save_orders(&mut tx, &[order(tenant, 3)], 1_001).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn events_come_newest_first_filtered_and_by_page() {
    each_engine(async |db| {
        three_events(&db, "shop").await;
        let versions = async |filter: Filter, limit| {
            let found = events(&db, "shop", "o-1", &filter, limit).await.unwrap();
            (
                found.iter().map(|event| event.version).collect::<Vec<_>>(),
                count(&db, "shop", "o-1", &filter).await.unwrap(),
            )
        };
        assert_eq!(versions(Filter::default(), 2).await, (vec![3, 2], 3));
        assert_eq!(versions(Filter { before_version: Some(2), ..Filter::default() }, 2).await, (vec![1], 3));
        let kinds = vec!["order.paid".to_owned(), "order.shipped".to_owned()];
        assert_eq!(versions(Filter { kinds, ..Filter::default() }, 9).await, (vec![3, 2], 2));
        let window = Filter { from_ms: Some(200), to_ms: Some(300), ..Filter::default() };
        assert_eq!(versions(window, 9).await, (vec![2], 1));
    })
    .await;
}

#[tokio::test]
async fn an_event_or_version_is_kept_once() {
    each_engine(async |db| {
        three_events(&db, "shop").await;
        for repeated in
            [event("shop", 3, "order.paid"), NewEvent { version: 4, ..event("shop", 3, "order.paid") }]
        {
            let mut tx = db.begin().await.unwrap();
            let refused = add(&mut tx, &[repeated], 1).await.unwrap_err();
            assert!(refused.is_records_fault(), "{refused}");
        }
        let mut tx = db.begin().await.unwrap();
        let known = known(&mut tx, &[("shop", "e-2"), ("shop", "e-9"), ("other", "e-2")]).await.unwrap();
        assert_eq!(known, [("shop".to_owned(), "e-2".to_owned(), vec![1, 2])]);
    })
    .await;
}

#[tokio::test]
async fn tenants_with_equal_order_ids_see_nothing_of_each_other() {
    each_engine(async |db| {
        three_events(&db, "shop").await;
        three_events(&db, "market").await;
        let mut tx = db.begin().await.unwrap();
        let locked = lock_orders(&mut tx, &[("market", "o-1"), ("nobody", "o-1")]).await.unwrap();
        assert_eq!(locked.len(), 1);
        assert_eq!(locked[0].buyer_id.as_deref(), Some("buyer-of-market"));
        drop(tx);
        assert_eq!(order_of(&db, "shop").await.version, 3);
        assert_eq!(order_of(&db, "shop").await.buyer_id.as_deref(), Some("buyer-of-shop"));
        assert_eq!(count(&db, "nobody", "o-1", &Filter::default()).await.unwrap(), 0);
    })
    .await;
}

async fn order_of(db: &Database, tenant: &str) -> OrderRow {
    super::order(db, tenant, "o-1").await.unwrap().expect("the order is known")
}

#[tokio::test]
async fn what_lay_at_an_offset_is_asked_of_its_own_cluster_alone() {
    each_engine(async |db| {
        three_events(&db, "shop").await;
        let mut tx = db.begin().await.unwrap();
        let elsewhere = NewEvent { cluster_id: "d".to_owned(), ..event("other", 2, "order.paid") };
        add(&mut tx, &[elsewhere], 1_000).await.unwrap();
        tx.commit().await.unwrap();
        let log = |cluster_id| past::Log { cluster_id, topic: "orders.events", partition: 3 };
        let found = async |cluster_id| {
            let events = past::between(&db, log(cluster_id), (0, 10), 10).await.unwrap();
            events.into_iter().map(|event| (event.tenant, event.offset)).collect::<Vec<_>>()
        };
        let shop = |offset| ("shop".to_owned(), offset);
        assert_eq!(found("c").await, [shop(1), shop(2), shop(3)]);
        assert_eq!(found("d").await, [("other".to_owned(), 2)]);
        assert_eq!(past::first(&db, log("d")).await.unwrap(), Some(2));
        assert_eq!(past::first(&db, log("e")).await.unwrap(), None);
        assert_eq!(past::first_since(&db, log("c"), 9, 250).await.unwrap(), Some(3));
        assert_eq!(past::first_since(&db, log("d"), 9, 250).await.unwrap(), None);
    })
    .await;
}

/// As a program does that knows nothing of clusters yet.
async fn kept_by_an_older_program(db: &Database, offset: i64) {
    let mut tx = db.begin().await.unwrap();
    let kept = NewEvent { order_id: format!("o-{offset}"), ..event("shop", offset, "order.paid") };
    add(&mut tx, &[kept], 2_000).await.unwrap();
    let sql = "UPDATE order_events SET cluster_id = NULL WHERE record_offset = $1";
    tx.execute(sql, &[offset.into()]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_event_without_a_cluster_is_that_of_the_only_one_or_in_doubt() {
    each_engine(async |db| {
        let log = |cluster_id| past::Log { cluster_id, topic: "orders.events", partition: 3 };
        let handled = async |cluster_id| {
            let mut tx = db.begin().await.unwrap();
            let place = Place { stage: "history", cluster_id, topic_id: "orders.events", partition: 3 };
            assert!(positions::advance(&mut tx, &place, None, 9, None).await.unwrap());
            tx.commit().await.unwrap();
        };
        let found = async |cluster_id| {
            let events = past::between(&db, log(cluster_id), (0, 10), 10).await.unwrap();
            events.into_iter().map(|event| event.offset).collect::<Vec<_>>()
        };
        let doubtful = async |cluster_id| past::doubtful(&db, log(cluster_id), (0, 10)).await.unwrap();
        three_events(&db, "shop").await;
        handled("c").await;
        kept_by_an_older_program(&db, 5).await;
        assert_eq!((found("d").await, past::first(&db, log("d")).await.unwrap()), (vec![], None));
        assert_eq!(past::first_since(&db, log("c"), 10, 450).await.unwrap(), Some(5), "the only cluster");
        assert_eq!((found("c").await, doubtful("c").await), (vec![1, 2, 3, 5], None));

        handled("d").await;
        kept_by_an_older_program(&db, 7).await;
        assert_eq!((found("c").await, doubtful("c").await), (vec![1, 2, 3, 5], Some(7)));
        assert_eq!(
            (found("d").await, doubtful("d").await),
            (vec![], None),
            "all before its first is unknown"
        );
        // What can't be adopted waits for nobody who writes.
        let writing = db.begin().await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), found("c")).await;
        assert_eq!(read.expect("it only reads"), vec![1, 2, 3, 5]);
        drop(writing);
        // What was kept before the log's own first event is of long ago.
        let mut tx = db.begin().await.unwrap();
        tx.execute("UPDATE order_events SET recorded_at = 1 WHERE record_offset = 7", &[]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(doubtful("c").await, None);
    })
    .await;
}
