//! Plans against brokers that are empty, equal, different, or hold more.

use super::*;
use crate::topology::Topology;

fn declared() -> Topology {
    Topology::built_in().expect("built-in topology")
}

/// A broker that has exactly what is declared.
fn equal(topology: &Topology) -> Observed {
    topology
        .topics()
        .map(|topic| {
            let settings = topic.settings();
            let found =
                ObservedTopic { partitions: topic.partitions, settings: settings.clone(), own: settings };
            (topic.name.to_string(), found)
        })
        .collect()
}

#[test]
fn everything_is_created_on_an_empty_broker_and_nothing_on_an_equal_one() {
    let topology = declared();
    let changes = plan(&topology, &Observed::new(), false).changes;
    assert_eq!(changes.len(), topology.topics().count());
    assert!(changes.iter().all(|change| matches!(change, Change::Create { .. })));
    assert_eq!(plan(&topology, &equal(&topology), true), Plan::default());
}

#[test]
fn a_setting_that_differs_is_changed_and_others_of_the_topic_are_kept() {
    let topology = declared();
    let mut observed = equal(&topology);
    let topic = observed.get_mut("orders.events").expect("topic");
    topic.settings.insert("retention.ms".to_owned(), "1000".to_owned());
    topic.own.insert("compression.type".to_owned(), "zstd".to_owned());
    let plan = plan(&topology, &observed, false);
    assert!(!plan.agrees());
    let [Change::Configure { topic, settings, all }] = plan.changes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(topic, "orders.events");
    assert_eq!((settings[0].from.as_deref(), settings.len()), (Some("1000"), 1));
    assert_eq!(all["compression.type"], "zstd");
    assert_eq!(all["retention.ms"], "2592000000");
}

#[test]
fn a_keyed_topic_is_neither_grown_nor_shrunk_in_place() {
    let topology = declared();
    for (partitions, word) in [(3, "isn't grown in place"), (99, "can't be taken away")] {
        let mut observed = equal(&topology);
        observed.get_mut("orders.events").expect("topic").partitions = partitions;
        let plan = plan(&topology, &observed, true);
        let refusals: Vec<_> = plan.refusals().collect();
        assert!(
            matches!(refusals.as_slice(), [("orders.events", reason)] if reason.contains(word)),
            "{plan:?}"
        );
        assert!(!plan.agrees());
    }
}

#[test]
fn only_topics_of_gone_stages_are_deleted_and_only_with_leave() {
    let topology = declared();
    let mut observed = equal(&topology);
    for name in ["orders.events.mailer.retry", "somebody.elses", "other.events.x.dlq", "orders.eventsx.y.dlq"]
    {
        observed.insert(name.to_owned(), ObservedTopic::default());
    }
    let kept = plan(&topology, &observed, false);
    assert_eq!(kept.changes, [Change::LeftOver { topic: "orders.events.mailer.retry".to_owned() }]);
    assert!(kept.agrees());
    let deleted = plan(&topology, &observed, true);
    assert_eq!(deleted.changes, [Change::Delete { topic: "orders.events.mailer.retry".to_owned() }]);
}

#[test]
fn pictures_name_every_stage_and_topic() {
    let topology = declared();
    for picture in [mermaid(&topology), dot(&topology)] {
        for stage in topology.stages() {
            assert!(picture.contains(&stage.name), "{picture}");
        }
        assert!(picture.contains("orders.events.webhook.retry"));
    }
}
