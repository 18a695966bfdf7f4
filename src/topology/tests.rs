//! What a topology file may say, and how it is refused.

use std::time::Duration;

use super::*;
use crate::event::EventType;

const SMALL: &str = r#"
name: small
topics:
  orders.events:
    about: all of them
    key: order id
    partitions: 3
    retention: 1d
    events: [{ types: ["*"], publishers: [service] }]
stages:
  history: { about: keeps, kind: store, source: orders.events, takes: ["*"], objective: { within: 5s, lag: 1m } }
"#;

fn refused(layers: &[&str]) -> String {
    let layers: Vec<_> = layers.iter().map(|text| ("the file test.yaml", *text)).collect();
    Topology::from_yaml(&layers).expect_err("the topology must be refused").to_string()
}

#[test]
fn the_built_in_topology_and_the_demo_overlay_are_sound() {
    let topology = Topology::built_in().expect("built-in topology");
    let webhook = topology.stage("webhook").expect("webhook stage");
    assert_eq!(webhook.retry_topic.as_deref(), Some("orders.events.webhook.retry"));
    assert_eq!(&*webhook.dead_letters, "orders.events.webhook.dlq");
    assert_eq!(&*webhook.group, "orderflow.webhook");
    assert_eq!(webhook.retry.as_ref().map(|policy| policy.attempts), Some(8));
    assert_eq!(topology.stage("history").and_then(|stage| stage.retry_topic.clone()), None);
    assert_eq!(topology.topic_of(EventType::OrderCreated).id, "orders.events");
    assert_eq!(topology.topic_of(EventType::JobFailed).id, "jobs.events");
    assert!(topology.may_publish("service", EventType::OrderPaid));
    assert!(!topology.may_publish("buyer", EventType::OrderPaid));

    let demo = Topology::demo().expect("demo topology");
    assert!(demo.name.starts_with("demo"));
    let delays = &demo.stage("webhook").and_then(|stage| stage.retry.clone()).expect("policy").delays;
    assert_eq!(delays, &[Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)]);
}

#[test]
fn retry_and_dead_letter_topics_follow_the_source_and_never_expire() {
    let topology = Topology::built_in().expect("built-in topology");
    let source = topology.topic("orders.events").expect("source");
    for ending in ["retry", "dlq"] {
        let derived = topology.topic(&format!("orders.events.webhook.{ending}")).expect("derived topic");
        assert_eq!(derived.partitions, source.partitions);
        assert_eq!(derived.settings()["retention.ms"], "-1");
        assert_eq!(derived.settings()["cleanup.policy"], "delete");
        assert_eq!(derived.max_message_bytes, source.max_message_bytes + HEADER_ROOM_BYTES);
    }
}

#[test]
fn a_prefix_stands_before_every_topic_and_group_on_the_broker() {
    let topology =
        Topology::from_yaml(&[("file", SMALL), ("overlay", "topic_prefix: t1.")]).expect("topology");
    let stage = topology.stage("history").expect("stage");
    assert_eq!(&*stage.source, "t1.orders.events");
    assert_eq!(&*stage.group, "t1.orderflow.history");
    assert_eq!(&*stage.dead_letters, "t1.orders.events.history.dlq");
    assert_eq!(
        topology.topic_on_broker("t1.orders.events").map(|topic| topic.id.as_str()),
        Some("orders.events")
    );
    assert!(topology.topic_on_broker("orders.events").is_none());
}

#[test]
fn an_overlay_wins_key_by_key() {
    let overlay = "topics: { orders.events: { partitions: 7 } }";
    let topology = Topology::from_yaml(&[("file", SMALL), ("overlay", overlay)]).expect("topology");
    let topic = topology.topic("orders.events").expect("topic");
    assert_eq!((topic.partitions, topic.about.as_str()), (7, "all of them"));
}

#[test]
fn a_mistyped_key_is_answered_with_the_nearest_known_one_and_its_place() {
    let message = refused(&[SMALL, "topics: { orders.events: { partitons: 7 } }"]);
    assert!(message.contains("`topics.orders.events.partitons` in the file test.yaml"), "{message}");
    assert!(message.contains("nearest known key is `partitions`"), "{message}");
}

#[test]
fn contradictions_are_told_all_at_once() {
    let overlay = r#"
topics:
  more.events: { about: x, key: k, retention: forever, events: [{ types: ["order.*"], publishers: [servise] }] }
stages:
  webhook: { about: x, kind: effect, source: order.events, takes: ["*"], objective: { within: 1s, lag: 1s } }
  other:
    { about: x, kind: store, source: orders.events, group: orderflow.history, takes: [order.creatd], objective: { within: 1s, lag: 1s } }
"#;
    let message = refused(&[SMALL, overlay]);
    for part in [
        "unknown role `servise`; the nearest is `service`",
        "`order.created` is listed twice",
        "`webhook` reads the unknown topic `order.events`; the nearest is `orders.events`",
        "share the group `orderflow.history`",
        "order.creatd",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn stages_say_what_their_kind_needs() {
    let overlay = r#"
stages:
  webhook: { about: x, kind: effect, source: orders.events, takes: ["*"], objective: { within: 1s, lag: 1s } }
"#;
    let topology = Topology::from_yaml(&[("small", SMALL), ("overlay", overlay)]).expect("it is sound");
    let policy = topology.stage("webhook").and_then(|stage| stage.retry.clone()).expect("the default");
    assert_eq!(
        (policy.attempts, policy.delays),
        (4, vec![Duration::from_secs(1)]),
        "three retries, a second apart"
    );
    let overlay = "topics: { a.retry: { about: x, key: k, retention: 1d, records: [X] } }";
    assert!(refused(&[SMALL, overlay]).contains("can't be declared"));
    let overlay = "topic_prefix: 'no spaces '";
    assert!(refused(&[SMALL, overlay]).contains("is no name for a topic or group"));
}

#[test]
fn a_stage_may_be_for_some_tenants_alone_when_its_source_carries_events() {
    let overlay = "stages: { history: { tenants: [shop, market] } }";
    let topology = Topology::from_yaml(&[("small", SMALL), ("overlay", overlay)]).expect("it is sound");
    let tenants = &topology.stage("history").expect("declared").tenants;
    assert_eq!(tenants.iter().map(String::as_str).collect::<Vec<_>>(), ["market", "shop"]);
    let built_in = Topology::built_in().expect("it is sound");
    assert!(built_in.stages().all(|stage| stage.tenants.is_empty()));
    let overlay = "stages: { attempts: { tenants: [shop] } }";
    let layers = [("the built-in topology", crate::topology::BUILT_IN), ("overlay", overlay)];
    let refused = Topology::from_yaml(&layers).expect_err("it carries receipts").to_string();
    assert!(refused.contains("`attempts` can't choose tenants"), "{refused}");
}

#[test]
fn the_last_delay_repeats_until_the_attempts_are_used_up() {
    let demo = Topology::demo().expect("demo topology");
    let policy = demo.stage("webhook").and_then(|stage| stage.retry.clone()).expect("policy");
    assert_eq!(policy.delay_after(1), Some(Duration::from_millis(200)));
    assert_eq!(policy.delay_after(7), Some(Duration::from_secs(5)));
    assert_eq!(policy.delay_after(8), None);
}

#[test]
fn what_becomes_of_a_lane_that_was_given_up_is_said_by_its_stage() {
    let overlay = "stages: { webhook: { retry: { after_last: hold, age_limit: 24h } } }";
    let layers = [("the built-in topology", BUILT_IN), ("the overlay", overlay)];
    let topology = Topology::from_yaml(&layers).expect("it is sound");
    let policy = |stage| topology.stage(stage).and_then(|stage| stage.retry.clone()).expect("a policy");
    assert_eq!(policy("webhook").after_last, AfterLast::Hold);
    assert_eq!(policy("webhook").age_limit, Some(Duration::from_secs(24 * 3_600)));
    assert_eq!((policy("delivery").after_last, policy("delivery").age_limit), (AfterLast::Release, None));
}

#[test]
fn a_stage_says_how_urgent_its_types_are_and_the_longest_pattern_wins() {
    let overlay = r#"stages: { webhook: { priority: 90, priorities: { "order.*": 50, order.paid: 20 } } }"#;
    let topology = Topology::from_yaml(&[("built-in", BUILT_IN), ("overlay", overlay)]).expect("it is sound");
    let webhook = topology.stage("webhook").expect("declared");
    let of = |event_type| webhook.priority_of(event_type);
    assert_eq!(of(EventType::DisputeInitiated), 10);
    assert_eq!((of(EventType::OrderCreated), of(EventType::OrderPaid)), (50, 20));
    assert_eq!(of(EventType::UserUpdated), 90);
    assert!(webhook.has_priorities());
    let delivery = topology.stage("delivery").expect("declared");
    assert_eq!(
        delivery.priority_of(EventType::DisputeInitiated),
        10,
        "its records tell of events of all types"
    );
}

#[test]
fn what_a_stage_says_of_its_work_must_make_sense() {
    let overlay = r#"
stages:
  history: { priority: 10, timeout: 0s }
  dispute: { priorities: { "dispute.*": 1 } }
  webhook: { takes: ["order.*"], priorities: { payment.failed: 1 }, where: [{ field: data.totl.amountMinor, at_least: 1 }] }
  attempts: { where: [{ field: source, is: web }] }
"#;
    let layers = [("built-in", BUILT_IN), ("overlay", overlay)];
    let message = Topology::from_yaml(&layers).expect_err("refused").to_string();
    for part in [
        "`history` needs a `timeout` above 0",
        "`history` is a store stage: it takes its records in their order",
        "`dispute` is a store stage: it takes its records in their order",
        "`webhook` has a priority for `payment.failed`, which it doesn't take",
        "chooses by `data.totl.amountMinor`, which none of its events has; the nearest is `data.total.amountMinor`",
        "`attempts` can't choose by fields: `webhooks.attempts` carries no events",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    let layers = [("small", SMALL), ("overlay", "stages: { history: { where: [{ field: source }] } }")];
    let message = Topology::from_yaml(&layers).expect_err("refused").to_string();
    assert!(message.contains("says one thing"), "{message}");
}

#[test]
fn a_further_group_of_a_stage_has_topics_and_settings_of_its_own() {
    let overlay = r#"
stages:
  webhook: { takes: ["order.*", "dispute.*"] }
  webhook-stock:
    about: stock, beside everything else
    runs: webhook
    background: true
    kind: effect
    source: orders.events
    takes: ["inventory.*"]
    objective: { within: 1m, lag: 10m }
"#;
    let topology = Topology::from_yaml(&[("built-in", BUILT_IN), ("overlay", overlay)]).expect("it is sound");
    let further = topology.stage("webhook-stock").expect("declared");
    assert_eq!((further.runs.as_str(), further.background), ("webhook", true));
    assert_eq!(&*further.group, "orderflow.webhook-stock");
    assert_eq!(further.retry_topic.as_deref(), Some("orders.events.webhook-stock.retry"));
    assert_eq!(topology.stage("webhook").map(|stage| stage.runs.as_str()), Some("webhook"));
}
