//! Dead letters, lanes and groups over HTTP: what is asked reaches the port, and its answers and refusals come back.

use super::*;
use crate::admin::dead_letters::{Listed, Redriven};
use crate::admin::lag::{GroupLag, PartitionLag, Verdict};
use crate::admin::lanes::{LaneError, WaitingLane};
use crate::admin::{Answered, OperationError, Operator, Pending, PendingWanted};

/// Three dead letters and three lanes; remembers what it was asked to change.
#[derive(Default)]
pub(super) struct FakeOperations {
    asked: Mutex<Vec<String>>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, OperationError>>;

fn letter(offset: i64) -> Listed {
    Listed {
        stage: "webhook".to_owned(),
        place: format!("0@{offset}"),
        at: "2026-01-31T12:00:00Z".to_owned(),
        cause: "exhausted".to_owned(),
        error: "answered 500".to_owned(),
        order: Some("o-9".to_owned()),
        lane: Some("webhook|shop|o-9|e-1".to_owned()),
        target: Some("e-1".to_owned()),
        source: "orders.events/0@7".to_owned(),
        attempts: 8,
        redrives: 0,
        redriven: false,
    }
}

fn lane(name: &str) -> WaitingLane {
    WaitingLane {
        stage: "webhook".to_owned(),
        lane: name.to_owned(),
        partition: 0,
        target: "e-1".to_owned(),
        tasks: 2,
        source_offset: 7,
        attempts: 3,
        held: false,
        due: None,
        waits_since: None,
        error: None,
    }
}

impl Operate for FakeOperations {
    fn dead_letters(&self, wanted: LettersWanted) -> Answer<'_, Vec<Listed>> {
        let after = wanted.after.map_or(-1, |(_, (_, offset))| offset);
        let causes = wanted.filter.cause.is_none_or(|cause| cause == "exhausted");
        let letters = (0..3).filter(|offset| causes && *offset > after).take(wanted.limit).map(letter);
        std::future::ready(Ok(letters.collect())).boxed()
    }

    fn redrive(&self, wanted: RedriveWanted, by: Operator) -> Answer<'_, Redriven> {
        let told = format!(
            "{} redrives {} {:?} of {} (dry: {})",
            by.name, wanted.wanted.limit, wanted.wanted.filter.places, wanted.stage, wanted.dry
        );
        self.asked.lock().unwrap().push(told);
        let redriven = Redriven { stage: wanted.stage, dry_run: wanted.dry, sent: 2, ..Redriven::default() };
        std::future::ready(Ok(redriven)).boxed()
    }

    fn lanes(&self, _stage: Option<String>) -> Answer<'_, Vec<WaitingLane>> {
        std::future::ready(Ok(["a/1", "b", "c"].map(lane).to_vec())).boxed()
    }

    fn release(&self, _stage: String, lane: String, by: Operator) -> Answer<'_, Vec<Answered>> {
        if lane != "a/1" {
            return std::future::ready(Err(LaneError::NotWaiting(lane).into())).boxed();
        }
        self.asked.lock().unwrap().push(format!("{} releases {lane}: {}", by.name, by.reason));
        let answered = Answered { partition: 0, done: true, unanswered: false, answer: "due now".to_owned() };
        std::future::ready(Ok(vec![answered])).boxed()
    }

    fn process_pending(&self, wanted: PendingWanted, by: Operator) -> Answer<'_, Pending> {
        self.asked.lock().unwrap().push(format!("{} takes up {wanted:?}", by.name));
        let pending = Pending { pending: 7, taken_up: 5, still_pending: 2 };
        std::future::ready(Ok(pending)).boxed()
    }

    fn groups(&self) -> Answer<'_, Vec<GroupLag>> {
        let partition = PartitionLag { partition: 0, position: Some(3), end: 5, messages: 2, seconds: 1.5 };
        let group = GroupLag {
            stage: "webhook".to_owned(),
            group: "orderflow.webhook".to_owned(),
            topic: "orders.events".to_owned(),
            members: Some(1),
            messages: 2,
            seconds: 1.5,
            drain_seconds: None,
            verdict: Verdict::Ok,
            partitions: vec![partition],
        };
        std::future::ready(Ok(vec![group])).boxed()
    }
}

#[tokio::test]
async fn dead_letters_come_in_pages_and_go_back_on_request() {
    each_engine(async |db| {
        let api = Api::new(db);
        let token = api.token("ann", &[Role::Operator], "shop");
        let first = api.get_as(&token, "/api/v1/dead-letters?stage=webhook&limit=2").await.json();
        assert_eq!(
            (&first["data"][1]["place"], &first["data"][1]["cause"]),
            (&"0@1".into(), &"exhausted".into())
        );
        let cursor = first["nextCursor"].as_str().unwrap();
        let second =
            api.get_as(&token, &format!("/api/v1/dead-letters?limit=2&cursor={cursor}")).await.json();
        assert_eq!((&second["data"][0]["place"], &second["nextCursor"]), (&"0@2".into(), &Value::Null));
        for (query, field) in [("cause=decoed", "cause"), ("since=yesterday", "since"), ("limit=0", "limit")]
        {
            let refused = api.get_as(&token, &format!("/api/v1/dead-letters?{query}")).await;
            assert_eq!(refused.problem(), (422, "invalid_fields".to_owned()), "{query}");
            assert_eq!(refused.json()["errors"][0]["field"], field);
        }
        let redrive = "/api/v1/dead-letters/redrive";
        let body = r#"{"stage":"webhook","places":["0@1"],"dryRun":true,"reason":"the partner is back"}"#;
        let told = api.post_as(&token, redrive, None, body).await;
        assert_eq!((told.status, &told.json()["dryRun"]), (StatusCode::OK, &true.into()), "{}", told.text);
        assert_eq!(
            *api.operations.asked.lock().unwrap(),
            ["ann of shop redrives 1000 [(0, 1)] of webhook (dry: true)"]
        );
        for body in [
            r#"{"stage":"webhook","limit":1001}"#,
            r#"{"stage":"webhook","rate":0}"#,
            r#"{"stage":"webhook","places":["7"]}"#,
        ] {
            assert_eq!(
                api.post_as(&token, redrive, None, body).await.problem(),
                (422, "invalid_fields".to_owned()),
                "{body}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_waiting_lane_is_released_by_its_name_and_groups_tell_their_lag() {
    each_engine(async |db| {
        let api = Api::new(db);
        let token = api.token("ann", &[Role::Operator], "shop");
        let first = api.get_as(&token, "/api/v1/lanes?limit=2").await.json();
        assert_eq!((&first["data"][0]["lane"], &first["data"][1]["lane"]), (&"a/1".into(), &"b".into()));
        let cursor = first["nextCursor"].as_str().unwrap();
        let second = api.get_as(&token, &format!("/api/v1/lanes?cursor={cursor}")).await.json();
        assert_eq!((&second["data"][0]["lane"], &second["nextCursor"]), (&"c".into(), &Value::Null));
        let body = r#"{"stage":"webhook","reason":"mended"}"#;
        let told = api.post_as(&token, "/api/v1/lanes/a%2F1/release", None, body).await;
        assert_eq!((told.status, &told.json()[0]["done"]), (StatusCode::OK, &true.into()), "{}", told.text);
        assert_eq!(*api.operations.asked.lock().unwrap(), ["ann of shop releases a/1: mended"]);
        let gone = api.post_as(&token, "/api/v1/lanes/zzz/release", None, body).await;
        assert_eq!(gone.problem(), (404, "lane_not_found".to_owned()));
        let groups = api.get_as(&token, "/api/v1/groups").await.json();
        assert_eq!(
            (&groups["data"][0]["verdict"], &groups["data"][0]["messages"]),
            (&"ok".into(), &2.into())
        );
        assert_eq!(groups["data"][0]["partitions"][0]["seconds"], 1.5);
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_taken_up_by_admins_with_a_hundred_at_most_unless_they_say_more() {
    each_engine(async |db| {
        let api = Api::new(db);
        let admin = api.token("ann", &[Role::Admin], "shop");
        let path = "/api/order-events/process-pending";
        let answer = api.post_as(&admin, path, None, "{}").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        assert_eq!(answer.json(), serde_json::json!({"pending": 7, "takenUp": 5, "stillPending": 2}));
        let body = r#"{"stage":"webhook","limit":1000,"includeDead":true}"#;
        assert_eq!(api.post_as(&admin, path, None, body).await.status, StatusCode::ACCEPTED);
        let wanted = |stage: Option<&str>, limit, include_dead| PendingWanted {
            stage: stage.map(str::to_owned),
            limit,
            include_dead,
            most_redrives: 3,
        };
        let asked = api.operations.asked.lock().unwrap().clone();
        let told = [wanted(None, 100, false), wanted(Some("webhook"), 1_000, true)];
        assert_eq!(asked, told.map(|wanted| format!("ann of shop takes up {wanted:?}")));
        for (body, field) in
            [(r#"{"limit":0}"#, "limit"), (r#"{"limit":1001}"#, "limit"), (r#"{"max":1}"#, "max")]
        {
            assert_eq!(
                api.post_as(&admin, path, None, body).await.json()["errors"][0]["field"],
                field,
                "{body}"
            );
        }
    })
    .await;
}
