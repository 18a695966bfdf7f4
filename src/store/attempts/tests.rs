//! The log of attempts, over both engines.

use super::*;
use crate::store::testing::each_engine;

fn attempt(tenant: &str, number: i64) -> Attempt {
    Attempt {
        tenant: tenant.to_owned(),
        attempt_id: format!("a-{number}"),
        endpoint_id: "wh_1".to_owned(),
        delivery_id: "d-1".to_owned(),
        webhook_id: "evt_1".to_owned(),
        event_id: "1".to_owned(),
        event_type: "order.paid".to_owned(),
        order_id: "o-1".to_owned(),
        attempt: number,
        outcome: "failed".to_owned(),
        status: (number > 1).then_some(503),
        latency_ms: 12,
        error: Some("503".to_owned()),
        response: (number > 1).then(|| Sealed::from_bytes(vec![0, 255])),
        attempted_at: 1_000 + number / 2,
        next_attempt_at: None,
        source_topic: (number > 1).then(|| "orders".to_owned()),
        source_partition: (number > 1).then_some(3),
        source_offset: (number > 1).then_some(40 + number),
        resend: number > 2,
    }
}

#[tokio::test]
async fn attempts_are_kept_once_and_read_newest_first_page_by_page() {
    each_engine(async |db| {
        let attempts: Vec<_> = (1..=5).map(|number| attempt("shop", number)).collect();
        for batch in [&attempts[..], &attempts[2..], &[attempt("other", 1)], &[]] {
            let mut tx = db.begin().await.unwrap();
            add(&mut tx, batch).await.unwrap();
            tx.commit().await.unwrap();
        }
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let page = of_endpoint(
                &db,
                "shop",
                "wh_1",
                &Wanted { before: before.as_ref(), limit: 2, ..Wanted::default() },
            )
            .await
            .unwrap();
            let Some(last) = page.last() else { break };
            before = Some(Before { attempted_at: last.attempted_at, attempt_id: last.attempt_id.clone() });
            seen.extend(page);
        }
        seen.reverse();
        assert_eq!(seen, attempts);
    })
    .await;
}

#[tokio::test]
async fn attempts_that_should_be_new_are_refused_together_when_one_is_not() {
    each_engine(async |db| {
        for (rows, refused) in [(1..=2, false), (2..=3, true), (3..=3, false)] {
            let rows: Vec<_> = rows.map(|number| attempt("shop", number)).collect();
            let mut tx = db.begin().await.unwrap();
            match add_new(&mut tx, &rows).await {
                Ok(()) => tx.commit().await.unwrap(),
                Err(StoreError::Constraint(_)) if refused => {}
                unexpected => panic!("{unexpected:?}"),
            }
        }
        let all = of_delivery(&db, "shop", "wh_1", "d-1", 10).await.unwrap();
        assert_eq!(all.iter().map(|row| row.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn attempts_are_found_by_what_they_were_and_forgotten_when_they_are_old() {
    each_engine(async |db| {
        let mut rows: Vec<_> = (1..=6).map(|number| attempt("shop", number)).collect();
        rows[1].order_id = "o-2".to_owned();
        rows[2].outcome = "delivered".to_owned();
        rows[2].status = Some(200);
        rows[3].event_type = "order.shipped".to_owned();
        rows[4].endpoint_id = "wh_2".to_owned();
        rows[5].delivery_id = "d-2".to_owned();
        rows.push(attempt("other", 1));
        let mut tx = db.begin().await.unwrap();
        add(&mut tx, &rows).await.unwrap();
        tx.commit().await.unwrap();
        let every = Wanted { limit: 10, ..Wanted::default() };
        for (wanted, expected) in [
            (every, vec![6, 4, 3, 2, 1]),
            (Wanted { order_id: Some("o-2"), ..every }, vec![2]),
            (Wanted { order_id: Some("o-1"), outcome: Some("failed"), ..every }, vec![6, 4, 1]),
            (Wanted { outcome: Some("delivered"), ..every }, vec![3]),
            (Wanted { status: Some(503), ..every }, vec![6, 4, 2]),
            (Wanted { event_type: Some("order.shipped"), ..every }, vec![4]),
            (Wanted { from: Some(1_001), to: Some(1_002), ..every }, vec![3, 2]),
            (Wanted { limit: 1, ..every }, vec![6]),
        ] {
            let found = of_endpoint(&db, "shop", "wh_1", &wanted).await.unwrap();
            assert_eq!(found.iter().map(|row| row.attempt).collect::<Vec<_>>(), expected, "{wanted:?}");
        }
        let delivery = of_delivery(&db, "shop", "wh_1", "d-1", 10).await.unwrap();
        assert_eq!(delivery.iter().map(|row| row.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(of_delivery(&db, "shop", "wh_2", "d-2", 10).await.unwrap(), []);

        assert_eq!(forget(&db, 1_002, 2).await.unwrap(), 2, "in batches");
        assert_eq!(forget(&db, 1_002, 10).await.unwrap(), 2, "of every tenant");
        assert_eq!(forget(&db, 1_002, 10).await.unwrap(), 0);
        assert_eq!(of_endpoint(&db, "shop", "wh_1", &every).await.unwrap().len(), 2);
    })
    .await;
}
