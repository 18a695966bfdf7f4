//! The program as a service: two members and an API, started before their services are there, killed, drained.

use std::time::Duration;

use orderflow::embedded::traffic::Expectation;
use tokio::process::Child;

use crate::harness::cli::{Cli, KEY};
use crate::harness::database::Schema;
use crate::harness::eventually;

const MINUTE: Duration = Duration::from_secs(60);

/// A user with topics, a PostgreSQL schema of their own and everything set that a service needs.
async fn ready() -> (Cli, Schema) {
    let schema = Schema::new().await;
    let mut cli = Cli::on_services();
    cli.set("ORDERFLOW_STORE__URL", schema.url());
    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", KEY);
    cli.set("ORDERFLOW_HTTP__JWT_SECRET", "0123456789abcdef0123456789abcdef");
    cli.set("ORDERFLOW_KAFKA__SESSION_TIMEOUT", "6s");
    cli.set("ORDERFLOW_HTTP__BIND", &format!("127.0.0.1:{}", free_port()));
    cli.fine(&["topology", "apply"]).await;
    cli.fine(&["schemas", "register"]).await;
    (cli, schema)
}

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn signal(child: &Child, name: &str) {
    let id = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args([format!("-{name}"), id]).status().expect("kill");
    assert!(sent.success());
}

/// Asks it to stop, and gives its exit code and what it told.
async fn stop(child: Child) -> (Option<i32>, String) {
    signal(&child, "TERM");
    let output =
        tokio::time::timeout(MINUTE, child.wait_with_output()).await.expect("it ends").expect("it ran");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn every_event_is_kept_once_and_in_order_though_a_member_is_killed() {
    let (cli, schema) = ready().await;
    let mut doomed = cli.start(&["run", "--stages", "history"]);
    let survivor = cli.start(&["run", "--stages", "history"]);
    let generating = cli.start(&[
        "generate",
        "--orders",
        "300",
        "--seed",
        "5",
        "--tenants",
        "2",
        "--rate",
        "800",
        "--expect",
        "expected.json",
    ]);
    eventually("some events are kept", MINUTE, || async {
        schema.count("SELECT count(*) FROM order_events").await > 200
    })
    .await;
    doomed.kill().await.expect("killed");
    let again = cli.start(&["run", "--stages", "history"]);
    let generated = generating.wait_with_output().await.expect("it ran");
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));

    let text = std::fs::read_to_string(cli.folder().join("expected.json")).expect("the expectation");
    let expectation: Expectation = serde_json::from_str(&text).expect("JSON");
    let all = i64::try_from(expectation.events).expect("a count");
    eventually("every event is kept", MINUTE, || async {
        schema.count("SELECT count(*) FROM order_events").await >= all
    })
    .await;
    assert_eq!(schema.count("SELECT count(*) FROM order_events").await, all);
    tells_its_lag(&cli, all).await;
    for (tenant, orders) in &expectation.tenants {
        for (order, expected) in orders {
            let kept = schema.event_ids(tenant, order).await;
            let ids: Vec<_> = expected.history.iter().map(|told| told.id.clone()).collect();
            assert_eq!(kept, ids, "{tenant}/{order}");
        }
    }
    for child in [survivor, again] {
        let (code, told) = stop(child).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("everything is drained"), "{told}");
    }
    schema.drop().await;
}

/// The history is level; nobody runs the webhooks, to which all of it is still to come.
async fn tells_its_lag(cli: &Cli, all: i64) {
    let told = cli.run(&["lag", "--every", "200ms", "--json"]).await;
    assert_eq!(told.code, 1, "somebody should look: {told:?}");
    let groups: Vec<serde_json::Value> =
        told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |stage: &str| groups.iter().find(|group| group["stage"] == stage).expect("it is declared");
    assert_eq!((&of("history")["messages"], &of("history")["verdict"]), (&0.into(), &"ok".into()));
    assert_eq!((&of("webhook")["messages"], &of("webhook")["verdict"]), (&all.into(), &"stopped".into()));
    assert!(of("webhook")["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
}

#[tokio::test]
async fn the_api_answers_and_says_what_is_missing_until_services_are_there() {
    let (mut cli, schema) = ready().await;
    let base = format!("http://127.0.0.1:{}", free_port());
    cli.set("ORDERFLOW_HTTP__BIND", base.trim_start_matches("http://"));
    cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");
    let serving = cli.start(&["serve"]);
    let status = |path: &str| {
        let url = format!("{base}{path}");
        async move { reqwest::get(url).await.ok().map(|answer| answer.status().as_u16()) }
    };
    eventually("the API is alive", MINUTE, || async { status("/health/live").await == Some(200) }).await;
    eventually("kafka is missed", MINUTE, || async { status("/health/ready").await == Some(503) }).await;
    let (code, told) = stop(serving).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("kafka") && told.contains("waiting for it"), "{told}");

    cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", &crate::harness::service("ORDERFLOW_TEST_KAFKA"));
    let serving = cli.start(&["serve"]);
    eventually("everything is there", MINUTE, || async { status("/health/ready").await == Some(200) }).await;
    let token =
        cli.fine(&["token", "issue", "--sub", "shop", "--role", "service", "--tenant", "shop-1"]).await;
    let answer = reqwest::Client::new()
        .get(format!("{base}/api/v1/orders/o-1/events"))
        .bearer_auth(token.trim())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 404, "known caller, unknown order");
    let (code, told) = stop(serving).await;
    assert_eq!(code, Some(0), "{told}");
    schema.drop().await;
}

#[tokio::test]
async fn a_member_without_the_api_tells_its_metrics_and_health() {
    let (mut cli, schema) = ready().await;
    let address = format!("127.0.0.1:{}", free_port());
    cli.set("ORDERFLOW_HTTP__OBSERVE_BIND", &address);
    let member = cli.start(&["run", "--stages", "history"]);
    let get = |path: &str| {
        let url = format!("http://{address}{path}");
        async move {
            let answer = reqwest::get(url).await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.text().await.ok()?))
        }
    };
    eventually("it is ready", MINUTE, || async { get("/health/ready").await.is_some_and(|(s, _)| s == 200) })
        .await;
    eventually("its stage is among the metrics", MINUTE, || async {
        let told = get("/metrics").await;
        told.is_some_and(|(_, text)| text.contains("orderflow_records_in_total{stage=\"history\"}"))
    })
    .await;
    let taken = cli.run(&["run", "--stages", "history"]).await;
    assert!(taken.code == 64 && taken.stderr.contains("http.observe_bind"), "{taken:?}");
    let (code, told) = stop(member).await;
    assert_eq!(code, Some(0), "{told}");
    schema.drop().await;
}

#[tokio::test]
async fn what_is_missing_at_start_ends_with_a_sentence_and_its_exit_code() {
    let (mut cli, schema) = ready().await;
    let unknown = cli.run(&["run", "--stages", "histroy"]).await;
    assert!(unknown.code == 2 && unknown.stderr.contains("history"), "{unknown:?}");

    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", "");
    let unsealed = cli.run(&["run"]).await;
    assert!(
        unsealed.code == 64 && unsealed.stderr.contains("store.encryption_key is not set"),
        "{unsealed:?}"
    );
    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", KEY);

    cli.set("ORDERFLOW_REGISTRY__URL", "http://127.0.0.1:1");
    let away = cli.run(&["run", "--fail-fast"]).await;
    assert!(away.code == 69 && away.stderr.contains("the schema registry is not available"), "{away:?}");
    cli.set("ORDERFLOW_REGISTRY__URL", &crate::harness::service("ORDERFLOW_TEST_REGISTRY"));

    let elsewhere = format!("{}nowhere.", cli.prefix);
    cli.set("ORDERFLOW_TOPOLOGY__TOPIC_PREFIX", &elsewhere);
    cli.set("ORDERFLOW_RUNTIME__TOPIC_TIMEOUT", "1s");
    let missing = cli.run(&["run", "--stages", "history"]).await;
    assert!(missing.code == 1 && missing.stderr.contains("orderflow topology apply"), "{missing:?}");
    schema.drop().await;
}

/// A broker may know of topics later than somebody was told that they are made.
#[tokio::test]
async fn a_stage_that_starts_before_the_broker_knows_of_its_topics_waits_for_them() {
    let (mut cli, schema) = ready().await;
    let prefix = format!("{}late.", cli.prefix);
    cli.set("ORDERFLOW_TOPOLOGY__TOPIC_PREFIX", &prefix);
    cli.set("ORDERFLOW_RUNTIME__TOPIC_TIMEOUT", "5m");
    let member = cli.start_logged(&["run", "--stages", "history"], "member");
    let waits = "the broker does not tell of a topic";
    eventually("it waits", MINUTE, || async { cli.log("member").contains(waits) }).await;
    cli.fine(&["topology", "apply"]).await;
    cli.fine(&["generate", "--orders", "1", "--seed", "3"]).await;
    eventually("it works", MINUTE, || async { schema.count("SELECT count(*) FROM order_events").await > 0 })
        .await;
    let (code, _) = stop(member).await;
    let told = cli.log("member");
    assert_eq!((code, told.matches(waits).count()), (Some(0), 1), "{told}");
    schema.drop().await;
}

/// Both signals are there when the process looks: it is stopped while they are sent.
#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let (cli, schema) = ready().await;
    let member = cli.start(&["run", "--stages", "history"]);
    cli.fine(&["generate", "--orders", "20", "--seed", "3"]).await;
    eventually("it works", MINUTE, || async { schema.count("SELECT count(*) FROM order_events").await > 0 })
        .await;
    for name in ["STOP", "TERM", "INT", "CONT"] {
        signal(&member, name);
    }
    let ended =
        tokio::time::timeout(MINUTE, member.wait_with_output()).await.expect("it ends").expect("it ran");
    assert_eq!(ended.status.code(), Some(143), "{}", String::from_utf8_lossy(&ended.stderr));
    schema.drop().await;
}
