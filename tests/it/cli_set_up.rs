//! What somebody does before the first event: settings, topics, database, tokens; and what mistakes are answered with.

use crate::harness::cli::Cli;

#[tokio::test]
async fn mistyped_settings_are_answered_with_the_nearest_key_and_exit_code_64() {
    let mut cli = Cli::bare();
    cli.file("orderflow.toml", "[kafka]\nbootstrap_server = 'x'\n");
    let ran = cli.run(&["config", "check"]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("unknown key `kafka.bootstrap_server` in the file orderflow.toml"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("nearest known key is `bootstrap_servers`"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "one sentence: {ran:?}");

    cli.file("orderflow.toml", "");
    cli.set("ORDERFLOW_TOPOLOGY__FILE", "no-such.yaml");
    let ran = cli.run(&["config", "check"]).await;
    assert!(ran.code == 64 && ran.stderr.contains("no-such.yaml"), "{ran:?}");
}

#[tokio::test]
async fn config_show_tells_values_and_sources_but_no_secret() {
    let mut cli = Cli::bare();
    cli.set("ORDERFLOW_HTTP__JWT_SECRET", "a-secret-that-must-not-be-shown-anywhere");
    cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", "broker:9092");
    let json = cli.fine(&["config", "show", "--json"]).await;
    let settings: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    let servers = settings.iter().find(|setting| setting["key"] == "kafka.bootstrap_servers").expect("shown");
    assert_eq!(servers["value"], "broker:9092");
    assert_eq!(servers["source"], "the variable ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS");
    let text = cli.fine(&["config", "show"]).await;
    assert!(text.contains("http.jwt_secret") && text.contains("«redacted»"), "{text}");
    assert!(!json.contains("must-not-be-shown") && !text.contains("must-not-be-shown"));
    cli.set("ORDERFLOW_STORE__URL", "postgres://h/db?user=u&password=must-not-be-shown");
    assert!(!cli.fine(&["config", "show"]).await.contains("must-not-be-shown"));
}

#[tokio::test]
async fn config_check_refuses_what_run_and_serve_would() {
    let mut cli = Cli::bare();
    cli.set("ORDERFLOW_HTTP__JWT_SECRET", "a-secret-that-must-not-be-shown-anywhere");
    let ran = cli.run(&["config", "check"]).await;
    assert!(ran.code == 64 && ran.stderr.contains("store.encryption_key is not set"), "{ran:?}");
    cli.set("ORDERFLOW_STORE__ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    assert!(cli.fine(&["config", "check"]).await.contains("are sound"));
    for (file, word) in [
        ("[http]\njwt_secret = ''\n[smtp]\nfrom = 'nobody'\n", "smtp.from"),
        ("[smtp]\nuser = 'u'\n", "smtp.password"),
        ("[notification]\ntemplates = 'no-such-folder'\n", "no-such-folder"),
        ("[http]\ncors_origins = ['shop.example/path']\n", "shop.example/path"),
        ("[http]\njwks_file = 'no-such.json'\n", "no-such.json"),
        ("[log]\nlevel = 'info,=,='\n", "log.level"),
        ("[store]\nurl = 'mysql://h/db'\n", "store.url"),
        ("[kafka.properties]\n'no.such.property' = '1'\n", "no.such.property"),
        ("[runtime]\nbatch_records = 0\n", "runtime.batch_records"),
        ("[outbox]\nbatch = 0\n", "outbox.batch"),
        ("[webhook]\ntimeout = '0s'\n", "webhook.timeout"),
    ] {
        cli.file("orderflow.toml", file);
        let ran = cli.run(&["config", "check"]).await;
        assert!(ran.code == 64 && ran.stderr.contains(word), "{file}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "one sentence: {ran:?}");
    }
    cli.file("orderflow.toml", "[kafka.properties]\n'no.such.property' = '1'\n");
    let ran = cli.run(&["topology", "plan"]).await;
    assert!(ran.code == 64 && ran.stderr.contains("no.such.property"), "{ran:?}");

    cli.file("orderflow.toml", "");
    cli.set("ORDERFLOW_HTTP__JWT_SECRET", "");
    assert_eq!(cli.run(&["config", "check"]).await.code, 64, "the API needs a key");
    cli.fine(&["config", "check", "--stages-only"]).await;
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    let cli = Cli::bare();
    for command in ["topology", "db", "publish", "generate", "tail", "token", "config"] {
        let help = cli.fine(&[command, "--help"]).await;
        assert!(help.contains("Example"), "{command}: {help}");
    }
    assert_eq!(cli.run(&["no-such-command"]).await.code, 2);
}

#[tokio::test]
async fn a_token_carries_what_was_asked_for_and_needs_a_secret() {
    let mut cli = Cli::bare();
    let issue = ["token", "issue", "--sub", "checkout", "--role", "service", "--tenant", "shop-1"];
    let ran = cli.run(&issue).await;
    assert!(ran.code == 64 && ran.stderr.contains("http.jwt_secret is not set"), "{ran:?}");

    cli.set("ORDERFLOW_HTTP__JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let token = cli.fine(&issue).await;
    let key = jsonwebtoken::DecodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.set_audience(&["orderflow"]);
    rules.set_issuer(&["orderflow"]);
    let claims =
        jsonwebtoken::decode::<serde_json::Value>(token.trim(), &key, &rules).expect("it verifies").claims;
    assert_eq!((&claims["sub"], &claims["tenant"]), (&"checkout".into(), &"shop-1".into()));
    assert_eq!(claims["roles"], serde_json::json!(["service"]));

    let role = cli.run(&["token", "issue", "--sub", "x", "--role", "king", "--tenant", "t"]).await;
    assert_eq!(role.code, 2, "{role:?}");
    for (sub, tenant) in [("", "t"), ("x", ""), ("x", " ")] {
        let ran = cli.run(&["token", "issue", "--sub", sub, "--role", "buyer", "--tenant", tenant]).await;
        assert!(ran.code == 2 && ran.stdout.is_empty(), "the API would refuse it: {ran:?}");
    }
}

#[tokio::test]
async fn topology_apply_makes_what_is_missing_once_and_check_sees_drift() {
    let cli = Cli::on_services();
    let ran = cli.run(&["topology", "check"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        cli.fine(&["topology", "plan"]).await.contains(&format!("create     {}orders.events", cli.prefix))
    );
    assert!(cli.fine(&["topology", "apply"]).await.contains("orders.events.webhook.retry"));
    assert!(cli.fine(&["topology", "apply"]).await.contains("nothing to do"));
    let ran = cli.run(&["topology", "check"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("the registry lacks schemas"), "{ran:?}");
    assert!(ran.stdout.contains("orders.events-orderflow.events.OrderCreated"), "{ran:?}");
    cli.fine(&["schemas", "register"]).await;
    assert!(cli.fine(&["topology", "check"]).await.contains("agree"));

    // A setting that differs is drift, and is changed; a source that would have to grow is refused.
    let changed =
        "topics: { orders.events: { retention: 3d } }\ndefaults: { partitions: 3, replication: 1 }\n";
    cli.file("test.yaml", changed);
    let ran = cli.run(&["topology", "check"]).await;
    assert!(ran.code == 1 && ran.stdout.contains("retention.ms 2592000000 → 259200000"), "{ran:?}");
    cli.fine(&["topology", "apply"]).await;
    cli.fine(&["topology", "check"]).await;

    cli.file("test.yaml", &changed.replace("partitions: 3", "partitions: 6"));
    let ran = cli.run(&["topology", "apply"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("isn't grown in place"), "{ran:?}");
}

#[tokio::test]
async fn topics_of_a_gone_stage_are_deleted_only_with_leave() {
    let cli = Cli::on_services();
    let extra = "stages: { mailer: { about: x, kind: store, source: orders.events, takes: ['*'], \
                 objective: { within: 1s, lag: 1s } } }\n";
    let base = "defaults: { partitions: 3, replication: 1 }\n";
    cli.file("test.yaml", &format!("{base}{extra}"));
    cli.fine(&["topology", "apply"]).await;
    cli.file("test.yaml", base);
    let gone = format!("{}orders.events.mailer.dlq", cli.prefix);
    assert!(cli.fine(&["topology", "apply"]).await.contains(&format!("left over  {gone}")));
    assert!(cli.fine(&["topology", "plan"]).await.contains(&gone), "it is still there");
    assert!(cli.fine(&["topology", "apply", "--allow-delete"]).await.contains(&format!("delete     {gone}")));
    assert!(cli.fine(&["topology", "plan"]).await.contains("broker and topology agree"));
}

#[tokio::test]
async fn services_that_are_away_are_named_with_exit_code_69() {
    let mut cli = Cli::bare();
    cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");
    let ran = cli.run(&["topology", "plan"]).await;
    assert!(ran.code == 69 && ran.stderr.contains("kafka at 127.0.0.1:1 does not answer"), "{ran:?}");
    cli.set("ORDERFLOW_STORE__URL", "postgres://127.0.0.1:1/none");
    cli.set("ORDERFLOW_STORE__ACQUIRE_TIMEOUT", "500ms");
    let ran = cli.run(&["db", "status"]).await;
    assert!(
        ran.code == 69 && ran.stderr.contains("store.acquire_timeout; start it or set store.url"),
        "{ran:?}"
    );
    cli.set("ORDERFLOW_STORE__URL", "mysql://127.0.0.1/none");
    let ran = cli.run(&["db", "status"]).await;
    assert_eq!(ran.stderr, "orderflow: store.url: must begin with postgres:// or sqlite://\n");
    cli.set("ORDERFLOW_REGISTRY__URL", "http://127.0.0.1:1");
    let ran = cli.run(&["schemas", "check"]).await;
    assert!(ran.code == 69 && ran.stderr.contains("start it or set registry.url"), "{ran:?}");
}

#[tokio::test]
async fn the_database_is_brought_up_to_date_and_says_so() {
    let mut cli = Cli::bare();
    let url = format!("sqlite://{}", cli.folder().join("orderflow.db").display());
    cli.set("ORDERFLOW_STORE__URL", &url);
    assert_eq!(cli.run(&["db", "status"]).await.code, 1);
    assert!(cli.fine(&["db", "migrate"]).await.contains("0001 applied"));
    assert!(!cli.fine(&["db", "status"]).await.contains("missing"));
}
