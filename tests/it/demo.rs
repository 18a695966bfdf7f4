//! What a newcomer sees first: `orderflow demo`, with nothing installed.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::cli::Cli;

/// Runs `demo --once` and gives its ledger, which must balance.
async fn ledger_of(orders: u64, seed: u64) -> Value {
    let (orders, seed) = (orders.to_string(), seed.to_string());
    let ran = Cli::bare().run(&["demo", "--once", "--orders", &orders, "--seed", &seed, "--json"]).await;
    assert_eq!(ran.code, 0, "seed {seed}: {ran:?}");
    let ledger: Value = serde_json::from_str(&ran.stdout).expect("stdout is the ledger alone");
    for key in ["duplicates", "lost", "orderViolations", "late", "deadLetters"] {
        assert_eq!(ledger[key], 0, "seed {seed}, {key}: {ledger}");
    }
    ledger
}

fn number(ledger: &Value, pointer: &str) -> u64 {
    ledger.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {ledger}"))
}

#[tokio::test]
async fn the_demo_runs_to_its_end_and_its_ledger_balances_whatever_the_seed() {
    for seed in [7, 4_711] {
        let ledger = ledger_of(60, seed).await;
        assert_eq!(number(&ledger, "/orders"), 60);
        assert_eq!(number(&ledger, "/eventsByType/order.created"), 60);
        let deliveries = number(&ledger, "/webhooks/deliveries");
        assert_eq!(deliveries, number(&ledger, "/webhooks/verifiedByReceiver"));
        assert_eq!(
            deliveries,
            number(&ledger, "/webhooks/firstTry") + number(&ledger, "/webhooks/afterRetry")
        );
        assert_eq!(number(&ledger, "/eventsByType/order.confirmation_sent"), 60, "{ledger}");
        for effect in [
            "/webhooks/afterRetry",
            "/disputes/opened",
            "/notifications/sent",
            "/messages",
            "/disputes/resolved",
        ] {
            assert!(number(&ledger, effect) > 0, "seed {seed}: {effect} in {ledger}");
        }
    }
}

#[tokio::test]
async fn a_wrong_rate_is_a_usage_error() {
    let ran = Cli::bare().run(&["demo", "--rate", "0"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("above zero"), "{ran:?}");
}

#[tokio::test]
async fn embedded_services_are_open_to_other_processes() {
    let mut cli = Cli::bare();
    let program = cli.start_logged(&["run", "--embedded"], "run.log");
    let deadline = Instant::now() + Duration::from_secs(60);
    let line = loop {
        if let Some(line) = cli.log("run.log").lines().find(|line| line.starts_with("embedded: kafka ")) {
            break line.to_owned();
        }
        assert!(Instant::now() < deadline, "{}", cli.log("run.log"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", words[2]);
    cli.set("ORDERFLOW_REGISTRY__URL", words[4]);
    cli.set("ORDERFLOW_REGISTRY__AUTO_REGISTER", "true");
    let ran = cli.run(&["generate", "--orders", "3", "--seed", "1"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    drop(program);
}
