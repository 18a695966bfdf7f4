//! The same as an operator sees it: commands, the store, restarts, the audit.

use std::time::Duration;

use orderflow::runtime::OutRecord;
use serde_json::Value;

use crate::harness::cli::{Cli, KEY};
use crate::harness::database::Schema;
use crate::harness::eventually;
use crate::harness::kafka::TestKafka;

const MINUTE: Duration = Duration::from_secs(60);

async fn lines(cli: &Cli, arguments: &[&str]) -> Vec<Value> {
    let text = cli.fine(arguments).await;
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn history(cli: &Cli) -> Value {
    let states = lines(cli, &["stage", "list", "--json"]).await;
    states.into_iter().find(|state| state["stage"] == "history").expect("it is listed")
}

/// A store stage, too, pauses itself; every member and every restart knows, and a command lets it go on.
#[tokio::test]
async fn poison_pauses_a_stage_across_restarts_until_a_command_resumes_it() {
    let schema = Schema::new().await;
    let mut cli = Cli::on_services();
    cli.set("ORDERFLOW_STORE__URL", schema.url());
    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", KEY);
    cli.set("ORDERFLOW_KAFKA__SESSION_TIMEOUT", "6s");
    cli.set("ORDERFLOW_RUNTIME__BREAKER__AT_LEAST", "10");
    cli.fine(&["topology", "apply"]).await;
    cli.fine(&["db", "migrate"]).await;
    let member = cli.start_logged(&["run", "--stages", "history"], "first.log");
    let kafka = TestKafka::new("ops-poison");
    let topic = format!("{}orders.events", cli.prefix);
    for number in 0..30 {
        let bytes = format!("not an event {number}");
        let poison = OutRecord::keyed(topic.as_str(), format!("o-{number}"), bytes);
        kafka.producer.send(poison).await.expect("acknowledged");
    }
    eventually("it pauses itself", MINUTE, async || history(&cli).await["paused"] == true).await;
    let state = history(&cli).await;
    assert_eq!(state["changedBy"], "the dead-letter breaker");
    assert!(state["reason"].as_str().expect("a reason").contains("were dead-lettered"), "{state}");

    // A new process knows it; good events wait.
    drop(member);
    let _again = cli.start_logged(&["run", "--stages", "history"], "second.log");
    cli.fine(&["generate", "--orders", "20", "--seed", "3", "--rate", "1000", "--expect", "expected.json"])
        .await;
    eventually("the new member is told", MINUTE, async || {
        cli.log("second.log").contains("partitions assigned")
    })
    .await;
    assert_eq!(schema.count("SELECT count(*) FROM order_events").await, 0);

    let ran =
        cli.run(&["stage", "resume", "history", "--by", "ann", "--reason", "the producer is mended"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("history is running"), "{ran:?}");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(cli.folder().join("expected.json")).expect("a file"))
            .expect("JSON");
    let all = expected["events"].as_i64().expect("a count");
    eventually("nothing is lost", MINUTE, async || {
        schema.count("SELECT count(*) FROM order_events").await == all
    })
    .await;
    let dead = "SELECT count(*) FROM outbox WHERE type = 'dead_letter'";
    assert_eq!(schema.count(dead).await, 30, "every poisonous record is a dead letter");

    let audited = lines(&cli, &["audit", "--stage", "history", "--json"]).await;
    let told: Vec<_> =
        audited.iter().map(|entry| (entry["action"].as_str(), entry["actor"].as_str())).collect();
    assert_eq!(
        told,
        [(Some("stage.resume"), Some("ann")), (Some("stage.pause"), Some("the dead-letter breaker"))]
    );
    let unknown = cli.run(&["stage", "pause", "histroy"]).await;
    assert!(unknown.code == 2 && unknown.stderr.contains("history"), "{unknown:?}");
    schema.drop().await;
}
