//! Backfills and resends over HTTP, as far as they need no Kafka: whose they are, and what is wrong with a request.

use super::*;
use crate::store::backfills::{self, Backfill, Part};
use crate::store::cursors::{BackfillPart, Wish};

const PATH: &str = "/api/webhooks";

async fn register(api: &Api, token: &str) -> String {
    let made = api.post_as(token, PATH, None, r#"{"url":"https://example.com/hook"}"#).await.json();
    made["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_backfill_is_its_owners_and_a_mistake_is_named() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (partner, other) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let buyer = api.token("b-1", &[Role::Buyer], "shop");
        let id = register(&api, &partner).await;
        let path = format!("{PATH}/{id}/backfill");
        for (body, field) in [
            (r#"{"from":5}"#, "from"),
            (r#"{"from":{"zero":1}}"#, "from.zero"),
            (r#"{"from":"yesterday"}"#, "from"),
            (r#"{"from":"2026-01-31T12:00:00Z","until":"2026-01-31T12:00:00Z"}"#, "until"),
            (r#"{"from":"2026-01-31T12:00:00Z","rate":0}"#, "rate"),
        ] {
            let answer = api.post_as(&partner, &path, None, body).await;
            assert_eq!(answer.status, 422, "{body}");
            assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
        }
        let good = r#"{"from":"2026-01-31T12:00:00Z"}"#;
        assert_eq!(
            api.post_as(&other, &path, None, good).await.problem(),
            (404, "webhook_not_found".to_owned())
        );
        assert_eq!(api.post_as(&buyer, &path, None, good).await.problem().0, 403);
        // This API has no way to Kafka.
        assert_eq!(api.post_as(&partner, &path, None, good).await.problem().0, 503);
        let unknown = api.get_as(&partner, &format!("{path}/bf_1")).await;
        assert_eq!(unknown.problem(), (404, "backfill_not_found".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn the_progress_of_a_backfill_is_told_and_its_cancel_asks_the_owners() {
    each_engine(async |db| {
        let api = Api::new(db);
        let (partner, other) =
            (api.token("p-1", &[Role::Partner], "shop"), api.token("p-2", &[Role::Partner], "shop"));
        let id = register(&api, &partner).await;
        let backfill = Backfill {
            tenant: "shop".to_owned(),
            id: "bf_1".to_owned(),
            endpoint_id: id.clone(),
            asked_by: "p-1".to_owned(),
            asked_at: 0,
            state: "running".to_owned(),
            rate_milli: Some(1_500),
            newest_only: false,
        };
        let progress = BackfillPart {
            backfill: "bf_1".to_owned(),
            from: 3,
            at: 5,
            to: Some(9),
            delivered: 2,
            set_aside: 1,
            state: "running".to_owned(),
        };
        let [stage, cluster_id, topic_id] = ["webhook", "c", "orders.events"].map(str::to_owned);
        let part = Part { stage, cluster_id, topic_id, partition: 4, progress };
        let wish = Wish {
            target: id.clone(),
            kind: "backfill".to_owned(),
            from: Some(3),
            to: None,
            backfill: Some("bf_1".to_owned()),
            every_micros: None,
            newest_only: false,
        };
        assert!(backfills::begin(&api.parts.db, &backfill, &[(part, wish)]).await.unwrap());

        let path = format!("{PATH}/{id}/backfill/bf_1");
        let told = api.get_as(&partner, &path).await.json();
        assert_eq!(
            (&told["state"], &told["delivered"], &told["rate"]),
            (&"running".into(), &2.into(), &1.5.into())
        );
        let part = &told["parts"][0];
        assert_eq!((&part["partition"], &part["at"], &part["to"]), (&4.into(), &5.into(), &9.into()));
        assert_eq!(api.get_as(&other, &path).await.problem().0, 404);
        let delete = async |token: &str| {
            api.ask(request("DELETE", &path).header("authorization", token).body(Body::empty()).unwrap())
                .await
        };
        assert_eq!(delete(&other).await.problem().0, 404);
        assert_eq!(delete(&partner).await.json()["state"], "cancelled");
        assert_eq!(delete(&partner).await.json()["state"], "cancelled", "once is enough");
    })
    .await;
}

#[tokio::test]
async fn what_can_not_be_sent_again_says_why() {
    each_engine(async |db| {
        let api = Api::new(db);
        let partner = api.token("p-1", &[Role::Partner], "shop");
        let id = register(&api, &partner).await;
        let one = format!("{PATH}/{id}/deliveries/d-1/resend");
        let unknown = api.post_as(&partner, &one, None, "").await;
        assert_eq!(unknown.problem(), (404, "delivery_not_found".to_owned()));
        let range = format!("{PATH}/{id}/resend");
        let body = |from: &str, limit: u32| {
            format!(r#"{{"from":"{from}","to":"2026-01-31T12:00:00Z","limit":{limit}}}"#)
        };
        for (from, limit, field) in
            [("then", 5, "from"), ("2026-01-31T12:00:00Z", 5, "to"), ("2026-01-01T12:00:00Z", 501, "limit")]
        {
            let answer = api.post_as(&partner, &range, None, &body(from, limit)).await;
            assert_eq!(answer.json()["errors"][0]["field"], field, "{from} {limit}");
        }
        assert_eq!(api.post_as(&partner, &format!("{PATH}/{id}/pause"), None, "").await.status, 200);
        let paused = api.post_as(&partner, &one, None, "").await;
        assert_eq!(paused.problem(), (409, "conflict".to_owned()));
    })
    .await;
}
