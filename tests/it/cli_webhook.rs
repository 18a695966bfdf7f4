//! Endpoints from the command line: the same rules as the API's, a secret that is told once, and mistakes by name.

use serde_json::Value;

use crate::harness::cli::Cli;

fn cli() -> Cli {
    let mut cli = Cli::on_services();
    let url = format!("sqlite://{}", cli.folder().join("orderflow.db").display());
    cli.set("ORDERFLOW_STORE__URL", &url);
    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    cli
}

async fn json(cli: &Cli, arguments: &[&str]) -> Value {
    let text = cli.fine(&[arguments, &["--tenant", "shop", "--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn an_endpoint_is_registered_changed_paused_and_deleted_from_the_command_line() {
    let cli = cli();
    cli.fine(&["db", "migrate"]).await;
    cli.fine(&["topology", "apply"]).await;
    let url = "https://partner.example/hooks";
    let added = [
        &["webhook", "add", url, "--event", "order.*", "--header", "Authorization: Bearer t0ken"][..],
        &["--filter", "$.data.total", "--retry-delay", "2s", "--attempts", "3", "--owner", "p-1"],
    ];
    let made = json(&cli, &added.concat()).await;
    let id = made["id"].as_str().expect("an id");
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{made}");
    assert_eq!(made["schedule"]["delays"], serde_json::json!([2_000, 4_000]));
    let shown = json(&cli, &["webhook", "show", id]).await;
    assert_eq!((&shown["secret"], &shown["owner"]), (&Value::Null, &"p-1".into()));
    assert!(!shown.to_string().contains("t0ken"), "{shown}");

    let update = ["webhook", "update", id, "--clear", "filter", "--rate", "5", "--event", "payment.failed"];
    let changed = json(&cli, &update).await;
    assert_eq!((&changed["filter"], &changed["rate"]), (&Value::Null, &5.into()));
    assert_eq!(changed["headerNames"], serde_json::json!(["authorization"]));
    assert_eq!(json(&cli, &["webhook", "pause", id]).await["state"], "paused");
    assert_eq!(json(&cli, &["webhook", "list", "--state", "paused"]).await["id"], id);
    assert_eq!(json(&cli, &["webhook", "resume", id]).await["state"], "enabled");
    let rotated = json(&cli, &["webhook", "rotate-secret", id, "--overlap", "1h"]).await;
    assert_ne!(rotated["secret"], made["secret"]);
    assert_eq!(rotated["secrets"].as_array().map(Vec::len), Some(2));
    assert_eq!(cli.fine(&["webhook", "deliveries", id, "--tenant", "shop", "--since", "2h"]).await, "");

    let other = cli.run(&["webhook", "show", id, "--tenant", "shop", "--owner", "p-2"]).await;
    assert!(other.code == 1 && other.stderr.contains("is not known"), "{other:?}");
    let refused = cli
        .run(&[
            "webhook",
            "add",
            "http://partner.example",
            "--tenant",
            "shop",
            "--event",
            "orders.*",
            "--rate",
            "0",
        ])
        .await;
    assert_eq!(refused.code, 2, "{refused:?}");
    for field in ["url: ", "events[0]: ", "rate: "] {
        assert!(refused.stderr.contains(field), "{field}: {refused:?}");
    }
    // Nobody listens there: what came of it is told, and the exit code says that it failed.
    let tested = cli.run(&["webhook", "test", "--url", "https://127.0.0.1:1/", "--tenant", "shop"]).await;
    assert!(tested.code == 1 && tested.stdout.contains("failed no answer"), "{tested:?}");
    json(&cli, &["webhook", "delete", id]).await;
    assert_eq!(cli.fine(&["webhook", "list", "--tenant", "shop"]).await, "");
}
