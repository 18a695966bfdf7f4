//! Webhooks in order, by the receiver's own check: through refusals, and through SIGKILLs of the program at random.
//! `ORDERFLOW_TEST_KILLS` says how many there are (4), `ORDERFLOW_TEST_SEED` when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::admin::webhooks::{Registrar, Registration, Rules};
use orderflow::clock::Clock;
use orderflow::crypto::{Secret, Vault};
use orderflow::event::{Event, Factory};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::{self, WebhookOptions};
use orderflow::store::{Database, StoreOptions};
use orderflow::topology::Topology;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::harness::cli::{Cli, KEY};
use crate::harness::database::Schema;
use crate::harness::eventually;
use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};

const SOON: Duration = Duration::from_secs(120);
const NOW: i64 = 1_760_000_000_000;

/// Webhook ids that were accepted of each order, in the order of their first acceptance.
fn accepted(requests: &[Request]) -> BTreeMap<String, Vec<String>> {
    let mut orders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == 200) {
        let id = request.header("webhook-id").to_owned();
        let told = orders.entry(request.order_id()).or_default();
        if !told.contains(&id) {
            told.push(id);
        }
    }
    orders
}

fn assert_repeats_are_the_same(requests: &[Request]) {
    let ids: BTreeSet<&str> = requests.iter().map(|request| request.header("webhook-id")).collect();
    let told: BTreeSet<(&str, &str, &[u8])> = requests
        .iter()
        .map(|one| (one.header("webhook-id"), one.header("x-webhook-sequence"), one.body.as_slice()))
        .collect();
    assert_eq!(told.len(), ids.len(), "a repeat carries the same id, sequence and bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_events_every_tenth_of_which_is_refused_at_first_all_arrive_in_order() {
    const EVENTS: usize = 1_000;
    const ORDERS: usize = 50;
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let mut program = TestProgram::new("refused", StageOptions { webhook, ..StageOptions::default() }).await;
    let all: Vec<Event> = (0..EVENTS)
        .map(|number| {
            let order = format!("o-{}", number % ORDERS);
            Factory::new("shop", "it").order_shipped(&order, NOW, "DHL", "JD01").into()
        })
        .collect();
    let id = |event: &Event| format!("evt_{}", event.meta().event_id);
    let refused: BTreeSet<String> = all.iter().step_by(10).map(id).collect();
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let receiver = Receiver::start(move |request| {
        let id = request.header("webhook-id").to_owned();
        let again = !seen.lock().expect("no panic").insert(id.clone());
        // Away and displeased by turns.
        let status = if id.as_bytes().last().is_some_and(|last| last % 2 == 0) { 503 } else { 422 };
        Answer::status(if again || !refused.contains(&id) { 200 } else { status })
    })
    .await;
    let registration =
        Registration { url: receiver.url(), retry_delay: Some(100), ..Registration::default() };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed");
    program.start(&["webhook"]);
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &all {
        sent.entry(event.meta().order_id.clone()).or_default().push(id(event));
    }
    program.publish_all(&all).await;
    eventually("all arrive", SOON, async || receiver.count() >= EVENTS + EVENTS / 10).await;
    let requests = receiver.requests();
    assert_eq!(accepted(&requests), sent);
    assert_eq!(requests.len(), EVENTS + EVENTS / 10, "each once, and the refused ones again");
    assert_repeats_are_the_same(&requests);
    program.end().await;
}

#[tokio::test]
async fn through_kills_at_random_everything_arrives_in_order_and_repeats_are_the_same() {
    const ORDERS: usize = 60;
    let number = |variable: &str, usual: u64| {
        std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (kills, seed) = (number("ORDERFLOW_TEST_KILLS", 4), number("ORDERFLOW_TEST_SEED", 1));
    let (kills, mut random) = (usize::try_from(kills).expect("a few"), SmallRng::seed_from_u64(seed));
    let rounds = (kills * 2).max(10);
    let schema = Schema::new().await;
    let quick =
        [("ORDERFLOW_KAFKA__SESSION_TIMEOUT", "6s"), ("ORDERFLOW_KAFKA__GROUP_INSTANCE_ID", "doomed")];
    let cli = Cli::for_webhooks(&schema, &quick).await;

    // Slow enough to be killed in the middle, and refuses now and then.
    let receiver = Receiver::start(|request| {
        std::thread::sleep(Duration::from_millis(5));
        let first = request.header("x-webhook-attempt") == "1";
        let hard = request.body.len() % 7 == 0 && request.order_id().ends_with('3');
        Answer::status(if first && hard { 500 } else { 200 })
    })
    .await;
    register(schema.url(), receiver.url()).await;

    let lines: Vec<String> = (0..rounds)
        .flat_map(|round| (0..ORDERS).map(move |order| (round, order)))
        .map(|(round, order)| {
            let id = uuid::Uuid::from_u128(0x0192_f0c1_2345_7000_8000_0000_0000_0000 + (round * 1_000 + order) as u128);
            format!(r#"{{"id":"{id}","type":"order.completed","orderId":"o-{order}","tenantId":"shop","data":{{}}}}"#)
        })
        .collect();
    let published = cli.run_with(&["publish", "-"], &lines.join("\n")).await;
    assert_eq!(published.code, 0, "{published:?}");

    let all = ORDERS * rounds;
    let arrived = || accepted(&receiver.requests()).values().map(Vec::len).sum::<usize>();
    for kill in 0..kills {
        // Somewhere in its part of what is left, and some moment later.
        let left = all - arrived();
        let (least, most) = (arrived() + 1, arrived() + (left / (kills - kill)).max(2));
        let (upto, later) = (random.random_range(least..most).min(all), random.random_range(0..50));
        let mut doomed = cli.start_logged(&["run", "--stages", "webhook"], "doomed.log");
        eventually("some arrive", SOON, async || arrived() >= upto).await;
        tokio::time::sleep(Duration::from_millis(later)).await;
        doomed.kill().await.expect("killed");
    }
    let last = cli.start_logged(&["run", "--stages", "webhook"], "last.log");
    eventually(&format!("everything arrives, seed {seed}"), SOON, async || arrived() == all).await;
    let requests = receiver.requests();
    for (order, told) in accepted(&requests) {
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(told, sorted, "{order}: the ids were given in the order of the events");
    }
    assert_repeats_are_the_same(&requests);
    drop(last);
    schema.drop().await;
}

/// Registers an endpoint as the API would.
async fn register(store: &str, url: String) {
    let options = StoreOptions { url: Secret::new(store.to_owned()), ..StoreOptions::default() };
    let db = Database::open(&options).expect("a URL");
    let vault = Vault::from_base64(&Secret::new(KEY.to_owned())).expect("a key");
    let topology =
        Topology::from_yaml(&[("built in", include_str!("../../topology/orders.yaml"))]).expect("valid");
    let defaults = WebhookOptions::default();
    let rules = Rules {
        allow_http: true,
        timeout: defaults.timeout,
        endpoints_per_tenant: defaults.endpoints_per_tenant,
        refresh: defaults.refresh,
        deliverable: webhook::deliverable(&topology),
        policy: webhook::policy(&topology),
    };
    let registration = Registration { url, retry_delay: Some(200), ..Registration::default() };
    let registrar = Registrar::new(db.clone(), vault, Clock::system(), rules);
    registrar.register("shop", None, &registration).await.expect("it is allowed");
    db.close().await;
}
