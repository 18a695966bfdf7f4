//! Stages over HTTP: an operator pauses and resumes them, and the audit knows who.

use super::*;
use crate::admin::stages::Stages;

/// Two stages.
pub(super) fn stages(db: &Database, clock: &Clock) -> Stages {
    Stages::new(db.clone(), clock.clone(), ["history", "webhook"].map(str::to_owned))
}

#[tokio::test]
async fn an_operator_pauses_and_resumes_a_stage_and_the_audit_tells_who_and_why() {
    each_engine(async |db| {
        let api = Api::new(db);
        let token = api.token("ann", &[Role::Operator], "shop");
        let pause = "/api/v1/stages/webhook/pause";
        let paused = api.post_as(&token, pause, None, r#"{"reason":"maintenance"}"#).await;
        assert_eq!(paused.status, StatusCode::OK, "{}", paused.text);
        assert_eq!(
            (&paused.json()["paused"], &paused.json()["changedBy"], &paused.json()["reason"]),
            (&true.into(), &"ann of shop".into(), &"maintenance".into())
        );
        let listed = api.get_as(&token, "/api/v1/stages").await.json();
        assert_eq!(
            (&listed["data"][0]["paused"], &listed["data"][1]["paused"]),
            (&false.into(), &true.into())
        );
        let resumed = api.post_as(&token, "/api/v1/stages/webhook/resume", None, "{}").await;
        assert_eq!(resumed.json()["paused"], false);

        let audit = api.get_as(&token, "/api/v1/audit?limit=1").await.json();
        assert_eq!(audit["data"][0]["action"], "stage.resume");
        let cursor = audit["nextCursor"].as_str().unwrap();
        let older = api.get_as(&token, &format!("/api/v1/audit?cursor={cursor}&stage=webhook")).await.json();
        assert_eq!(older["data"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&older["data"][0]["action"], &older["data"][0]["actor"]),
            (&"stage.pause".into(), &"ann of shop".into())
        );
        assert_eq!(older["nextCursor"], Value::Null);
        let unknown = api.post_as(&token, "/api/v1/stages/histroy/pause", None, "{}").await;
        assert_eq!(unknown.problem(), (404, "stage_not_found".to_owned()));
        assert!(unknown.text.contains("history, webhook"), "{}", unknown.text);
    })
    .await;
}
