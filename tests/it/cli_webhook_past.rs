//! The past of an endpoint from the command line, with the program running beside it: backfills, and deliveries sent again.

use std::time::Duration;

use serde_json::Value;

use crate::harness::cli::Cli;
use crate::harness::database::Schema;
use crate::harness::eventually;
use crate::harness::receiver::{Answer, Receiver};

const SOON: Duration = Duration::from_secs(120);
const EVENTS: usize = 6;

async fn json(cli: &Cli, arguments: &[&str]) -> Vec<Value> {
    let text = cli.fine(&[arguments, &["--tenant", "shop", "--json"]].concat()).await;
    let read = serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>();
    read.unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn the_past_is_delivered_and_sent_again_from_the_command_line() {
    let schema = Schema::new().await;
    let cli = Cli::for_webhooks(&schema, &[]).await;
    let early = Receiver::start(|_| Answer::status(200)).await;
    json(&cli, &["webhook", "add", &early.url()]).await;
    let lines: Vec<String> = (0..EVENTS)
        .map(|order| {
            format!(r#"{{"type":"order.completed","orderId":"o-{order}","tenantId":"shop","data":{{}}}}"#)
        })
        .collect();
    assert_eq!(cli.run_with(&["publish", "-"], &lines.join("\n")).await.code, 0);

    let program = cli.start_logged(&["run", "--stages", "webhook,attempts"], "run.log");
    eventually("the program has come by them", SOON, async || early.count() == EVENTS).await;
    let receiver = Receiver::start(|_| Answer::status(200)).await;
    let url = receiver.url();
    let id = json(&cli, &["webhook", "add", &url]).await[0]["id"].as_str().expect("an id").to_owned();
    let begun = json(&cli, &["webhook", "backfill", &id, "--from", "1h", "--rate", "500"]).await.remove(0);
    assert_eq!((&begun["webhookId"], &begun["rate"]), (&id.as_str().into(), &500.0.into()));
    let backfill = begun["id"].as_str().expect("an id");
    let status = ["webhook", "backfill", &id, "--status", backfill];
    eventually("it is done", SOON, async || json(&cli, &status).await[0]["state"] == "done").await;
    assert_eq!(json(&cli, &status).await[0]["delivered"], EVENTS);
    assert_eq!(receiver.count(), EVENTS);
    let told = cli.fine(&["webhook", "backfill", &id, "--status", backfill, "--tenant", "shop"]).await;
    assert!(told.contains(&format!("{backfill} is done: {EVENTS} delivered, 0 set aside")), "{told}");
    let cancelled = json(&cli, &["webhook", "backfill", &id, "--cancel", backfill]).await;
    assert_eq!(cancelled[0]["state"], "done", "what has ended stays as it is");
    let other = cli.run(&["webhook", "backfill", &id, "--status", "bf_0", "--tenant", "shop"]).await;
    assert!(other.code == 1 && other.stderr.contains("is not known"), "{other:?}");

    let log = ["webhook", "deliveries", &id];
    eventually("all is logged", SOON, async || json(&cli, &log).await.len() == EVENTS).await;
    let delivery = json(&cli, &log).await[0]["deliveryId"].as_str().expect("an id").to_owned();
    assert_eq!(json(&cli, &["webhook", "resend", &id, &delivery]).await[0]["deliveries"], 1);
    let range = ["webhook", "resend", &id, "--from", "1h", "--to", "0s", "--outcome", "delivered"];
    assert_eq!(json(&cli, &range).await[0]["deliveries"], EVENTS);
    let resent = || receiver.requests().iter().filter(|one| one.header("x-webhook-resend") == "true").count();
    eventually("they are sent again", SOON, async || resent() == EVENTS + 1).await;
    let wrong = cli.run(&["webhook", "resend", &id, "--from", "1h", "--tenant", "shop"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    drop(program);
    schema.drop().await;
}
