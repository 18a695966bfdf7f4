//! Endpoints in the store, over both engines.

use std::time::Duration;

use super::*;
use crate::crypto::{Sealed, Secret, Vault};
use crate::event::{EventPattern, EventType};
use crate::store::Engine;
use crate::store::testing::each_engine;

const EVERY: Wanted<'_> = Wanted { owner: None, state: None, after: None, limit: 10 };

fn endpoint(tenant: &str, id: &str, owner: Option<&str>) -> Endpoint {
    Endpoint {
        tenant: tenant.to_owned(),
        id: id.to_owned(),
        url: "https://example.com/hook".to_owned(),
        events: Subscription::Only(vec![
            EventPattern::Type(EventType::OrderShipped),
            EventPattern::Family("payment".to_owned()),
        ]),
        events_before: Subscription::Only(Vec::new()),
        filter: Some("$.data".to_owned()),
        choices: PastChoices::default(),
        headers: None,
        rate: Some(10),
        concurrency: None,
        retry_attempts: Some(3),
        retry_delay_ms: None,
        timeout_ms: 10_000,
        secrets: Sealed::from_bytes(vec![1, 2]),
        contact: None,
        description: None,
        state: EndpointState::Enabled,
        generation: 1,
        failing_since: None,
        owner: owner.map(str::to_owned),
        created_at: 5,
        updated_at: 5,
    }
}

async fn added(db: &Database, endpoint: &Endpoint, at_most: i64) -> bool {
    let mut tx = db.begin().await.unwrap();
    let added = add(&mut tx, endpoint, at_most).await.unwrap();
    tx.commit().await.unwrap();
    added
}

#[tokio::test]
async fn endpoints_come_back_whole_to_their_tenant_and_owner_alone() {
    each_engine(async |db| {
        let mut ours = endpoint("shop", "wh_1", Some("partner-1"));
        assert!(added(&db, &ours, 10).await);
        assert!(
            added(&db, &Endpoint { events: Subscription::All, ..endpoint("shop", "wh_2", None) }, 10).await
        );
        assert!(added(&db, &endpoint("other", "wh_1", None), 10).await);
        assert!(!added(&db, &endpoint("shop", "wh_3", None), 2).await, "the tenant has two");

        assert_eq!(find(&db, "shop", "wh_1", None).await.unwrap().as_ref(), Some(&ours));
        assert_eq!(find(&db, "shop", "wh_1", Some("partner-2")).await.unwrap(), None);
        let listed = list(&db, "shop", &EVERY).await.unwrap();
        assert_eq!(listed.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["wh_1", "wh_2"]);
        assert_eq!(listed[1].events, Subscription::All);
        assert_eq!(list(&db, "shop", &Wanted { after: Some("wh_1"), ..EVERY }).await.unwrap().len(), 1);
        assert_eq!(list(&db, "shop", &Wanted { owner: Some("partner-1"), ..EVERY }).await.unwrap().len(), 1);

        let mut tx = db.begin().await.unwrap();
        let keys = ["wh_1", "wh_2"].map(|id| ("shop".to_owned(), id.to_owned()));
        let mut fare = health::lock(&mut tx, &keys).await.unwrap();
        (fare[0].failing_since, fare[1].failing_since) = (Some(77), Some(78));
        fare[0].told = health::Told::Failing;
        health::put(&mut tx, &fare).await.unwrap();
        tx.commit().await.unwrap();
        let failing: Vec<_> =
            list(&db, "shop", &EVERY).await.unwrap().into_iter().map(|one| one.failing_since).collect();
        assert_eq!(failing, [Some(77), None], "the other fails too, but not long enough to be told");
        ours.failing_since = Some(77);

        let before = revision(&db).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let (key, reason) = (("shop", "wh_1"), "410 Gone");
        assert!(!disable(&mut tx, key, 2, reason, 8).await.unwrap(), "it was another URL that said so");
        assert!(!disable(&mut tx, ("shop", "wh_9"), 1, reason, 8).await.unwrap(), "there is none");
        assert!(!remove(&mut tx, "shop", "wh_9", None).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(
            revision(&db).await.unwrap(),
            before,
            "nothing of this is a change that somebody must read"
        );
        let mut tx = db.begin().await.unwrap();
        let paused = Endpoint { state: EndpointState::Paused, ..ours.clone() };
        change(&mut tx, &paused).await.unwrap();
        assert!(
            !disable(&mut tx, key, 1, reason, 8).await.unwrap(),
            "it is paused, and what concerns it is kept"
        );
        change(&mut tx, &ours).await.unwrap();
        assert!(disable(&mut tx, key, 1, reason, 9).await.unwrap());
        assert!(disable(&mut tx, key, 1, "again", 10).await.unwrap(), "it is disabled already");
        assert!(!remove(&mut tx, "shop", "wh_2", Some("partner-1")).await.unwrap());
        assert!(remove(&mut tx, "shop", "wh_2", None).await.unwrap());
        tx.commit().await.unwrap();
        assert!(revision(&db).await.unwrap() > before);
        ours.state = EndpointState::Disabled("410 Gone".to_owned());
        ours.updated_at = 9;
        assert_eq!(list(&db, "shop", &EVERY).await.unwrap(), [ours]);
        let in_state =
            async |state| list(&db, "shop", &Wanted { state: Some(state), ..EVERY }).await.unwrap().len();
        assert_eq!((in_state("disabled").await, in_state("enabled").await), (1, 0));
        assert_eq!(count(&db).await.unwrap(), Count { registered: 2, enabled: 1 });
        assert_eq!(all(&db).await.unwrap().len(), 2, "the other tenant's is untouched");
    })
    .await;
}

#[test]
fn secrets_open_for_their_tenant_alone() {
    let vault = Vault::ephemeral();
    let secret = SigningSecret {
        secret: Secret::new("whsec_x".to_owned()),
        created_at: 1,
        expires_at: None,
        request: None,
    };
    let mut endpoint = endpoint("shop", "wh_1", None);
    endpoint.secrets = seal_secrets(&vault, "shop", std::slice::from_ref(&secret)).unwrap();
    assert_eq!(open_secrets(&vault, &endpoint).unwrap(), [secret]);
    endpoint.tenant = "other".to_owned();
    assert!(open_secrets(&vault, &endpoint).is_err());
    assert!(!format!("{endpoint:?}").contains("whsec_x"));
}

#[tokio::test]
async fn a_changed_endpoint_replaces_the_one_that_was_found() {
    each_engine(async |db| {
        let vault = Vault::ephemeral();
        let mut ours = endpoint("shop", "wh_1", Some("partner-1"));
        assert!(added(&db, &ours, 10).await);
        assert!(added(&db, &endpoint("other", "wh_1", None), 10).await);
        let before = revision(&db).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert_eq!(find_to_change(&mut tx, "shop", "wh_1", Some("partner-2")).await.unwrap(), None);
        ours = find_to_change(&mut tx, "shop", "wh_1", Some("partner-1")).await.unwrap().unwrap();
        ours.events_before = std::mem::replace(&mut ours.events, Subscription::All);
        ours.state = EndpointState::Paused;
        ours.contact = Some(seal_contact(&vault, &ours, "ops@partner.example").unwrap());
        let headers = Headers::from([("authorization".to_owned(), Secret::new("Bearer t".to_owned()))]);
        ours.headers = seal_headers(&vault, "shop", &headers).unwrap();
        let end = std::collections::BTreeMap::from([(("orders".to_owned(), 3), 7)]);
        ours.choices.remember(ours.events_before.clone(), ours.filter.clone(), &end);
        (ours.filter, ours.rate, ours.concurrency) = (None, None, Some(4));
        (ours.description, ours.updated_at) = (Some("ours".to_owned()), 9);
        change(&mut tx, &ours).await.unwrap();
        tx.commit().await.unwrap();
        assert!(revision(&db).await.unwrap() > before);

        let found = find(&db, "shop", "wh_1", None).await.unwrap().unwrap();
        assert_eq!(found, ours);
        assert_eq!(open_contact(&vault, &found).unwrap().as_deref(), Some("ops@partner.example"));
        assert_eq!(open_headers(&vault, &found).unwrap(), headers);
        let stolen = Endpoint { owner: Some("partner-2".to_owned()), ..found };
        assert!(open_contact(&vault, &stolen).is_err());
        let untouched = find(&db, "other", "wh_1", None).await.unwrap().unwrap();
        assert_eq!(untouched.state, EndpointState::Enabled);
    })
    .await;
}

/// On PostgreSQL, who locks the other way round ends in a deadlock.
#[tokio::test]
async fn an_endpoint_is_removed_while_its_health_is_written_down() {
    each_engine(async |db| {
        assert!(added(&db, &endpoint("shop", "wh_1", None), 10).await);
        let key = [("shop".to_owned(), "wh_1".to_owned())];
        let mut before = db.begin().await.unwrap();
        health::lock(&mut before, &key).await.unwrap();
        before.commit().await.unwrap();
        let mut writing = db.begin().await.unwrap();
        health::lock(&mut writing, &key).await.unwrap();
        let removing = async {
            let mut tx = db.begin().await.unwrap();
            let removed = remove(&mut tx, "shop", "wh_1", None).await.unwrap();
            tx.commit().await.unwrap();
            removed
        };
        let watched = async {
            if db.engine() == Engine::Postgres {
                let sql = "SELECT COUNT(*) AS n FROM pg_stat_activity a, pg_locks l WHERE l.pid = a.pid AND NOT l.granted
                           AND $1 = ANY(SELECT unnest(pg_blocking_pids(a.pid)))";
                let own = writing.row("SELECT pg_backend_pid()::BIGINT AS pid", &[]).await.unwrap().unwrap();
                let own = own.int("pid").unwrap();
                while db.row(sql, &[own.into()]).await.unwrap().unwrap().int("n").unwrap() == 0 {
                    tokio::task::yield_now().await;
                }
            }
            // As the stage that keeps health does next.
            assert!(find_to_change(&mut writing, "shop", "wh_1", None).await.unwrap().is_some());
            writing.commit().await.unwrap();
        };
        let both = async { tokio::join!(removing, watched) };
        let (removed, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("no deadlock");
        assert!(removed);
    })
    .await;
}
