//! Events from and to the terminal: published line by line, generated, followed.

use std::time::Duration;

use orderflow::embedded::traffic::Expectation;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::harness::cli::Cli;

const SOON: Duration = Duration::from_secs(30);

async fn on_ready_topics() -> Cli {
    let cli = Cli::on_services();
    cli.fine(&["topology", "apply"]).await;
    cli
}

/// What `tail` prints of everything that is there.
async fn tail(cli: &Cli, more: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["tail", "--from-beginning", "--no-follow", "--json"];
    arguments.extend(more);
    let text = cli.fine(&arguments).await;
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn bad_lines_are_named_by_number_and_the_rest_is_published() {
    let cli = on_ready_topics().await;
    let good = |order: &str| format!(r#"{{"type":"ORDER_COMPLETED","orderId":"{order}","data":{{}}}}"#);
    let large = format!(
        r#"{{"type":"order.returned","orderId":"o-5","data":{{"lines":[],"reason":"{}"}}}}"#,
        "x".repeat(5 * 1024 * 1024)
    );
    let lines = [
        good("o-1"),
        "{\"type\": \"order.compl".to_owned(),
        good("o-2"),
        good("o-3").replace("ORDER_COMPLETED", "order.compleated"),
        good("o-4").replace("\"data\":{}", "\"data\":{\"colour\":1}"),
        large,
        String::new(),
        good("o-6"),
    ];
    let ran = cli.run_with(&["publish", "--tenant", "shop-1"], &lines.join("\n")).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for part in [
        "line 2 is not published: not JSON",
        "line 4 is not published: type: unknown event type `order.compleated`; did you mean `order.completed`?",
        "line 5 is not published: data.colour",
        "line 6 is not published: the event has 52",
        "3 events are published, 4 lines are not",
    ] {
        assert!(ran.stderr.contains(part), "{part} is missing in: {}", ran.stderr);
    }
    let mut orders: Vec<_> = tail(&cli, &[]).await.iter().map(|event| event["orderId"].to_string()).collect();
    orders.sort();
    assert_eq!(orders, ["\"o-1\"", "\"o-2\"", "\"o-6\""]);
}

#[tokio::test]
async fn publish_says_where_each_event_lies() {
    let cli = on_ready_topics().await;
    let input = "{\"id\":\"0192f0c1-2345-7000-8000-000000000001\",\"type\":\"order.completed\",\"orderId\":\"o-1\",\"tenantId\":\"t\",\"data\":{}}\n";
    let ran = cli.run_with(&["publish", "--json", "-"], input).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let printed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(printed["eventId"], "0192f0c1-2345-7000-8000-000000000001");
    assert_eq!(printed["topic"], format!("{}orders.events", cli.prefix));
    assert_eq!((&printed["line"], &printed["offset"]), (&1.into(), &0.into()));
}

#[tokio::test]
async fn what_became_of_a_line_is_told_while_the_next_one_is_waited_for() {
    let cli = on_ready_topics().await;
    let mut child = cli.start(&["publish", "--json"]);
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut told = BufReader::new(output).lines();
    for order in ["o-1", "o-2"] {
        let line = json!({"type": "order.completed", "orderId": order, "tenantId": "t", "data": {}});
        input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads on");
        let answer = tokio::time::timeout(SOON, told.next_line()).await.expect("it doesn't wait for more");
        let answer: Value = serde_json::from_str(&answer.expect("text").expect("a line")).expect("JSON");
        assert!(answer["offset"].is_number(), "{answer}");
    }
    drop(input);
    assert!(child.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn tail_waits_for_a_topic_that_is_not_there_yet_and_says_what_to_do_in_the_end() {
    let mut cli = Cli::on_services();
    cli.set("ORDERFLOW_RUNTIME__TOPIC_TIMEOUT", "200ms");
    let ran = cli.run(&["tail"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in ["waiting for it up to 200ms", "orderflow topology apply", "runtime.topic_timeout"] {
        assert!(ran.stderr.contains(part), "{part} is missing in: {}", ran.stderr);
    }

    cli.set("ORDERFLOW_RUNTIME__TOPIC_TIMEOUT", "100s");
    let mut child = cli.start(&["tail", "--from-beginning", "--json"]);
    let mut told = BufReader::new(child.stderr.take().expect("piped")).lines();
    let waiting = tokio::time::timeout(SOON, told.next_line()).await.expect("it says so").expect("text");
    assert!(waiting.is_some_and(|line| line.contains("waiting for it")));
    cli.fine(&["topology", "apply"]).await;
    let event = json!({"type": "order.completed", "orderId": "o-1", "tenantId": "t", "data": {}});
    assert_eq!(cli.run_with(&["publish"], &format!("{event}\n")).await.code, 0);
    let mut events = BufReader::new(child.stdout.take().expect("piped")).lines();
    let event = tokio::time::timeout(SOON, events.next_line()).await.expect("it follows").expect("text");
    assert!(event.is_some_and(|line| line.contains("\"o-1\"")));
    child.kill().await.expect("it runs");
}

#[tokio::test]
async fn missing_topics_are_told_before_anything_is_sent() {
    let cli = Cli::on_services();
    let ran = cli.run_with(&["publish"], "{}\n").await;
    assert!(ran.code == 1 && ran.stderr.contains("create it with `orderflow topology apply`"), "{ran:?}");
}

#[tokio::test]
async fn generated_orders_arrive_in_order_as_expected_and_twice_the_same() {
    let cli = on_ready_topics().await;
    let arguments = [
        "generate",
        "--orders",
        "60",
        "--seed",
        "7",
        "--tenants",
        "2",
        "--expect",
        "expected.json",
        "--json",
    ];
    let printed: Value = serde_json::from_str(&cli.fine(&arguments).await).expect("JSON");
    let text = std::fs::read_to_string(cli.folder().join("expected.json")).expect("the expectation");
    let expectation: Expectation = serde_json::from_str(&text).expect("JSON");
    assert_eq!(printed["events"], expectation.events);
    assert_eq!(expectation.tenants.len(), 2);

    let events = tail(&cli, &[]).await;
    assert_eq!(events.len() as u64, expectation.events);
    for (tenant, orders) in &expectation.tenants {
        for (order, expected) in orders {
            let of_order = |event: &&Value| event["tenantId"] == **tenant && event["orderId"] == **order;
            let arrived: Vec<_> = events.iter().filter(of_order).map(|event| event["id"].as_str()).collect();
            let ids: Vec<_> = expected.history.iter().map(|told| Some(told.id.as_str())).collect();
            assert_eq!(arrived, ids, "{tenant}/{order}");
        }
    }
    let masked = events.iter().find(|event| event["type"] == "order.created").expect("an order was created");
    assert!(!masked.to_string().contains("@shop-1.example"), "personal data is masked: {masked}");

    let printed = cli.fine(&["generate", "--orders", "60", "--seed", "7", "--tenants", "2", "--print"]).await;
    let again: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids = |events: &[Value]| {
        let mut ids: Vec<_> = events.iter().map(|event| event["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&again), ids(&events));
}

#[tokio::test]
async fn tail_shows_what_was_asked_for() {
    let cli = on_ready_topics().await;
    cli.fine(&["generate", "--orders", "10", "--seed", "3"]).await;
    let created = tail(&cli, &["--type", "ORDER_CREATED"]).await;
    assert_eq!(created.len(), 10);
    let order = created[0]["orderId"].as_str().expect("an id").to_owned();
    let of_order = tail(&cli, &["--order", &order]).await;
    assert!(of_order.len() > 1 && of_order.iter().all(|event| event["orderId"] == *order), "{of_order:?}");
    assert_eq!(cli.run(&["tail", "--topic", "no.such"]).await.code, 2);
    let near = cli.run(&["tail", "--type", "order.creatd"]).await;
    assert!(near.code == 2 && near.stderr.contains("did you mean `order.created`?"), "{near:?}");
}
