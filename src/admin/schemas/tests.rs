//! Listing, checking and registering against a real registry, which ORDERFLOW_TEST_REGISTRY names.

use super::*;
use crate::event::{EventType, RegistryOptions};

/// A registry and the built-in topology under a prefix of its own.
fn place() -> (Registry, Topology) {
    let url = std::env::var("ORDERFLOW_TEST_REGISTRY")
        .expect("ORDERFLOW_TEST_REGISTRY names a Confluent-compatible registry; see ops/dev");
    let registry =
        Registry::new(&RegistryOptions { url, ..RegistryOptions::default() }).expect("a valid address");
    let prefix = format!("topic_prefix: \"s{}.\"", uuid::Uuid::new_v4().simple());
    let layers = [("built in", crate::topology::BUILT_IN), ("prefix", prefix.as_str())];
    (registry, Topology::from_yaml(&layers).expect("a valid topology"))
}

#[test]
fn every_record_has_a_subject() {
    let subjects = subjects(&Topology::built_in().expect("valid"));
    let has = |name: &str| subjects.iter().any(|subject| subject.name == name);
    assert!(has("orders.events-orderflow.events.OrderCreated"));
    assert!(has("jobs.events-orderflow.events.JobFailed"));
    assert!(has("notifications.outbound-orderflow.internal.OutboundNotification"));
    assert_eq!(subjects.len(), EventType::ALL.len() + internal().len());
}

#[tokio::test]
async fn registering_is_done_once_and_seen_by_list_and_check() {
    let (registry, topology) = place();
    let before = list(&registry, &topology).await.expect("the registry answers");
    assert!(before.iter().all(|listed| listed.state == State::Absent && listed.id.is_none()));

    let first = register(&registry, &topology).await.expect("the registry answers");
    assert!(first.iter().all(|one| matches!(one.done, Done::Registered { .. })), "{first:?}");
    let second = register(&registry, &topology).await.expect("the registry answers");
    for (first, second) in first.iter().zip(&second) {
        let Done::Registered { id } = first.done else { unreachable!("all were registered") };
        assert_eq!(second.done, Done::Unchanged { id }, "{}", second.subject);
    }
    let after = list(&registry, &topology).await.expect("the registry answers");
    assert!(after.iter().all(|listed| listed.state == State::Current && listed.versions == [1]), "{after:?}");
    let checked = check(&registry, &topology).await.expect("the registry answers");
    assert!(checked.iter().all(|checked| checked.compared == 1 && checked.problems.is_empty()));
}

#[tokio::test]
async fn a_schema_that_cannot_read_an_older_version_is_refused_and_the_others_go_on() {
    let (registry, topology) = place();
    let all = subjects(&topology);
    let taken =
        all.iter().find(|subject| subject.schema.full_name().ends_with("OrderShipped")).expect("it is there");
    let alien = EventType::OrderCompleted.schema();
    registry.register(&taken.name, alien).await.expect("anything may be first");

    let checked = check(&registry, &topology).await.expect("the registry answers");
    let problems: Vec<_> = checked.iter().filter(|checked| !checked.problems.is_empty()).collect();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].subject, taken.name);

    let registered = register(&registry, &topology).await.expect("the registry answers");
    for one in registered {
        let refused = matches!(one.done, Done::Refused { .. });
        assert_eq!(refused, one.subject == taken.name, "{one:?}");
    }
    let listed = list(&registry, &topology).await.expect("the registry answers");
    let state = listed.iter().find(|listed| listed.subject == taken.name).map(|listed| listed.state);
    assert_eq!(state, Some(State::Outdated));
}
