//! The main job on real parts: two `run`, one `serve`, generated orders of two tenants with equal ids, partners and a
//! mail server; one process is killed midway and started again. Store, mailbox and receivers equal the expectation.
//!
//! `ORDERFLOW_TEST_ORDERS=10000 cargo test --release --test it main_job` is the long form.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use orderflow::clock::Clock;
use orderflow::crypto::Secret;
use orderflow::embedded::feed::Feed;
use orderflow::embedded::mailbox::Mailbox;
use orderflow::embedded::partners::{Behaviour, Partner};
use orderflow::embedded::traffic::Expectation;
use orderflow::store::Database;
use serde_json::{Value, json};

use crate::harness::cli::{Cli, KEY};
use crate::harness::eventually;
use crate::harness::schema::TestSchema;

const ORDERS: &str = "ORDERFLOW_TEST_ORDERS";
const SOON: Duration = Duration::from_secs(60);
const TENANTS: [&str; 2] = ["shop-1", "shop-2"];
/// Events that came from outside.
const FROM_OUTSIDE: &str = "SELECT COUNT(*) AS n FROM order_events
    WHERE event_type NOT IN ('dispute.assigned', 'order.confirmation_sent', 'email.sent')";

/// The program's processes and those around it.
struct Shop {
    cli: Cli,
    schema: TestSchema,
    db: Database,
    mailbox: Mailbox,
    api: String,
    /// Per tenant.
    partners: HashMap<&'static str, Vec<Partner>>,
}

impl Shop {
    async fn open(orders: usize) -> Self {
        let feed = Feed::new();
        let mailbox = Mailbox::open(orders * 20, None, feed.clone()).await.expect("a mail server");
        let schema = TestSchema::create().await;
        let mut cli = Cli::on_services();
        let overlay = cli.file(
            "overlay.yaml",
            "defaults: { partitions: 6, replication: 1 }\n\
             stages:\n  webhook: { retry: { delays: [200ms, 1s, 5s], in_place: 500ms } }\n  \
             delivery: { retry: { delays: [200ms, 1s, 5s], in_place: 500ms } }\n",
        );
        let port = free_port().await;
        let address = mailbox.address();
        for (variable, value) in [
            ("ORDERFLOW_REGISTRY__AUTO_REGISTER", "false"),
            ("ORDERFLOW_TOPOLOGY__OVERLAYS", &overlay.display().to_string()),
            ("ORDERFLOW_STORE__URL", &schema.url()),
            ("ORDERFLOW_STORE__ENCRYPTION_KEY", KEY),
            ("ORDERFLOW_HTTP__BIND", &format!("127.0.0.1:{port}")),
            ("ORDERFLOW_HTTP__JWT_SECRET", "a-test-secret-of-enough-bytes-000"),
            ("ORDERFLOW_SMTP__HOST", &address.ip().to_string()),
            ("ORDERFLOW_SMTP__PORT", &address.port().to_string()),
            ("ORDERFLOW_WEBHOOK__ALLOW_HTTP", "true"),
            ("ORDERFLOW_WEBHOOK__ALLOW_PRIVATE_NETWORKS", "true"),
            ("ORDERFLOW_KAFKA__SESSION_TIMEOUT", "6s"),
        ] {
            cli.set(variable, value);
        }
        let partners = TENANTS.map(|tenant| {
            let open = |name: &str, behaviour| {
                Partner::open(name, behaviour, &[], orders, Clock::system(), feed.clone()).expect("a partner")
            };
            let flaky = Behaviour::FailsAtTimes { seed: 11, one_in: 40 };
            (tenant, vec![open("steady", Behaviour::Healthy), open("flaky", flaky)])
        });
        let db = schema.database(&crate::harness::service("ORDERFLOW_TEST_POSTGRES"));
        let api = format!("http://127.0.0.1:{port}");
        Self { cli, schema, db, mailbox, api, partners: partners.into() }
    }

    async fn token(&self, tenant: &str) -> String {
        let issue = ["token", "issue", "--sub", "checkout", "--role", "service", "--tenant", tenant];
        self.cli.fine(&issue).await.trim().to_owned()
    }

    /// Registers every partner over the API.
    async fn register(&self) {
        let client = reqwest::Client::new();
        for (tenant, partners) in &self.partners {
            let token = self.token(tenant).await;
            for partner in partners {
                let answer = client
                    .post(format!("{}/api/webhooks/register", self.api))
                    .bearer_auth(&token)
                    .json(&json!({"url": partner.url(), "events": ["*"], "timeout": 2000}))
                    .send()
                    .await
                    .expect("the API answers");
                let status = answer.status();
                let body: Value = answer.json().await.expect("JSON");
                assert_eq!(status, 201, "{body}");
                partner.learn_secret(Secret::new(body["secret"].as_str().expect("a secret").to_owned()));
            }
        }
    }

    async fn is_ready(&self) -> bool {
        let asked = reqwest::get(format!("{}/health/ready", self.api)).await;
        asked.is_ok_and(|answer| answer.status() == 200)
    }

    async fn number(&self, sql: &'static str) -> i64 {
        self.db.row(sql, &[]).await.expect("the store answers").expect("a row").int("n").expect("a number")
    }

    /// Ids of the events that came from outside, by tenant and order, in the order in which they took effect.
    async fn history(&self) -> BTreeMap<(String, String), Vec<String>> {
        let rows = self
            .db
            .rows(
                "SELECT tenant_id, order_id, event_id FROM order_events
                 WHERE event_type NOT IN ('dispute.assigned', 'order.confirmation_sent', 'email.sent')
                 ORDER BY tenant_id, order_id, version",
                &[],
            )
            .await
            .expect("the store answers");
        let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in rows {
            let key = (row.text("tenant_id").expect("text"), row.text("order_id").expect("text"));
            found.entry(key).or_default().push(row.text("event_id").expect("text"));
        }
        found
    }

    /// How many expected deliveries have not been accepted.
    fn missing_deliveries(&self, expected: &Expectation) -> usize {
        let mut missing = 0;
        for (tenant, orders) in &expected.tenants {
            for partner in &self.partners[tenant.as_str()] {
                let book = partner.book();
                for (order, effects) in orders {
                    let lacking = effects
                        .history
                        .iter()
                        .filter(|told| !book.has_accepted(order, &format!("evt_{}", told.id)));
                    missing += lacking.count();
                }
            }
        }
        missing
    }
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound").port()
}

fn expectation(folder: &Path) -> Expectation {
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("the expectation is written");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_flow_to_store_mailbox_and_partners_through_a_kill() {
    let orders: usize = std::env::var(ORDERS).map_or(120, |orders| orders.parse().expect("a number"));
    let shop = Shop::open(orders).await;
    let cli = &shop.cli;
    cli.fine(&["topology", "apply"]).await;
    cli.fine(&["schemas", "register"]).await;
    cli.fine(&["db", "migrate"]).await;

    let mut serve = cli.start_logged(&["serve"], "serve.log");
    let mut first = cli.start_logged(&["run", "--stages", "all"], "first.log");
    let mut second = cli.start_logged(&["run", "--stages", "all"], "second.log");
    eventually("the API is ready", SOON, || shop.is_ready()).await;
    shop.register().await;

    let count = orders.to_string();
    let mut generate = cli.start_logged(
        &["generate", "--orders", &count, "--seed", "11", "--tenants", "2", "--expect", "expected.json"],
        "generate.log",
    );
    let midway = i64::try_from(orders).expect("a small number") * 3;
    eventually("half of it is done", SOON * 10, || async {
        shop.number("SELECT COUNT(*) AS n FROM order_events").await > midway
    })
    .await;
    first.kill().await.expect("SIGKILL");
    let mut first = cli.start_logged(&["run", "--stages", "all"], "first.log");
    assert!(generate.wait().await.expect("it ends").success(), "{}", cli.log("generate.log"));

    let expected = expectation(cli.folder());
    let patience = SOON * 2 + Duration::from_millis(60) * u32::try_from(orders).expect("a small number");
    let events = i64::try_from(expected.events).expect("a small number");
    eventually("every event is kept", patience, || async { shop.number(FROM_OUTSIDE).await >= events }).await;
    eventually("every webhook is accepted", patience, || async { shop.missing_deliveries(&expected) == 0 })
        .await;
    eventually("nothing is queued any more", patience, || async {
        shop.number("SELECT COUNT(*) AS n FROM notifications WHERE outcome = 'queued'").await == 0
            && shop.number("SELECT COUNT(*) AS n FROM outbox").await == 0
    })
    .await;

    store_equals(&shop, &expected).await;
    for (tenant, partners) in &shop.partners {
        for partner in partners {
            let counts = partner.book().counts();
            assert_eq!(
                (counts.violations, counts.refused),
                (0, 0),
                "{tenant} {}: {counts:?}",
                partner.name()
            );
        }
    }
    mailbox_equals(&shop).await;

    for (name, child) in [("serve.log", &mut serve), ("first.log", &mut first), ("second.log", &mut second)] {
        let pid = child.id().expect("it runs").to_string();
        let told =
            tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
        assert!(told.success());
        let ended =
            tokio::time::timeout(SOON, child.wait()).await.expect("it drains in time").expect("it ends");
        assert_eq!(ended.code(), Some(0), "{name}: {}", cli.log(name));
    }
    shop.db.close().await;
    shop.schema.drop().await;
}

/// The history holds each tenant's events once and in order; every dispute has a moderator; nothing is doubled.
async fn store_equals(shop: &Shop, expected: &Expectation) {
    let history = shop.history().await;
    for (tenant, orders) in &expected.tenants {
        for (order, effects) in orders {
            let ids: Vec<&str> = effects.history.iter().map(|told| told.id.as_str()).collect();
            assert_eq!(
                history.get(&(tenant.clone(), order.clone())).expect("it is there"),
                &ids,
                "{tenant}/{order}"
            );
        }
    }
    let opened: usize =
        expected.tenants.values().flat_map(BTreeMap::values).map(|order| order.disputes.len()).sum();
    assert!(opened > 0, "the traffic holds disputes");
    let disputes = shop.number("SELECT COUNT(*) AS n FROM disputes WHERE moderator_id IS NOT NULL").await;
    assert_eq!(usize::try_from(disputes).expect("not negative"), opened);
    let assigned =
        shop.number("SELECT COUNT(*) AS n FROM order_events WHERE event_type = 'dispute.assigned'").await;
    assert_eq!(assigned, disputes, "each dispute was given a moderator once");
    for (what, doubled) in [
        (
            "told twice of one fact",
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM notifications WHERE outcome = 'sent' AND recipient IS NOT NULL
             GROUP BY tenant_id, order_id, fact, recipient, channel HAVING COUNT(*) > 1) AS doubled",
        ),
        (
            "messages of one event",
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM conversation_messages
             GROUP BY tenant_id, order_id, event_id HAVING COUNT(*) > 1) AS doubled",
        ),
    ] {
        assert_eq!(shop.number(doubled).await, 0, "{what}");
    }
}

/// Every mail that the store says was sent arrived, and each order's buyer has a confirmation. A process that was
/// killed may have sent some twice, under the same id.
async fn mailbox_equals(shop: &Shop) {
    let sent = shop
        .number("SELECT COUNT(*) AS n FROM notifications WHERE channel = 'email' AND outcome = 'sent'")
        .await;
    let (accepted, duplicates) = {
        let letters = shop.mailbox.letters();
        (letters.accepted, letters.duplicates)
    };
    assert_eq!(accepted - duplicates, sent.unsigned_abs(), "{duplicates} came twice");
    let created =
        shop.number("SELECT COUNT(*) AS n FROM order_events WHERE event_type = 'order.created'").await;
    let confirmed = shop
        .number(
            "SELECT COUNT(*) AS n FROM notifications
             WHERE event_type = 'order.created' AND channel = 'email' AND role = 'buyer' AND outcome = 'sent'",
        )
        .await;
    assert_eq!(confirmed, created, "every buyer has a confirmation");
}
