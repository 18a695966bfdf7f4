//! One repetition of the product: topics, a registry and a database of its own, the webhook stage that delivers and the
//! attempts stage that records, until every attempt lies in the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::receiver::{event_id, micros};
use super::{Measured, Repetition};
use crate::admin::topology::{Broker, plan};
use crate::admin::webhooks::{Registrar, Registration, Rules};
use crate::cli::bench::measure::{cpu, peak_rss};
use crate::cli::bench::rebuild::until;
use crate::cli::exit::Fault;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::Vault;
use crate::event::{self, Codec, Event, Factory, RegistryOptions};
use crate::runtime::{self, Environment, Headers, OutRecord, Producer, Progress};
use crate::stages::webhook::{self, WebhookOptions};
use crate::stages::{self, Parts, StageOptions};
use crate::store::scratch::Scratch;
use crate::telemetry::Metrics;
use crate::topology::{self, Topology};

/// Partitions of every topic.
const PARTITIONS: i32 = 6;
/// Orders that the events are about, at most.
const ORDERS: u64 = 5_000;
/// No repetition takes longer.
const LONGEST: Duration = Duration::from_secs(300);
/// Registrations and records that are under way at once.
const AT_ONCE: usize = 1_000;
/// Clock ticks per second in `/proc`.
const TICKS: f64 = 100.0;

/// The two stages that are measured.
const STAGES: [&str; 2] = ["webhook", "attempts"];

/// Runs one repetition, within a bound.
pub(super) async fn repeat(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    let scratch = Scratch::create(&config.store).await?;
    let parts = parts(config, asked, &scratch).await?;
    let outcome = tokio::time::timeout(LONGEST, deliver(&parts, asked)).await;
    let topics: Vec<String> = parts.topology.topics().map(|topic| topic.name.to_string()).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    crate::cli::bench::topic::remove(&config.kafka, &names).await?;
    drop(parts);
    scratch.remove().await?;
    outcome.unwrap_or_else(|_| Err(Fault::failures(format!("{} takes too long", asked.case.name))))
}

/// The product's parts, in a corner of their own.
async fn parts(config: &Config, asked: &Repetition, scratch: &Scratch) -> Result<Parts, Fault> {
    let corner = format!(
        "topic_prefix: \"{}.\"\ndefaults:\n  partitions: {PARTITIONS}\n  replication: 1\n",
        asked.name
    );
    let layers = [("the built-in topology", topology::BUILT_IN), ("the bench's corner", corner.as_str())];
    let topology = Topology::from_yaml(&layers)?;
    Broker::new(&config.kafka)?.apply(&plan(&topology, &Default::default(), false)).await?;
    let registry = RegistryOptions { auto_register: true, ..config.registry.clone() };
    let webhook = WebhookOptions {
        allow_http: true,
        allow_private_networks: true,
        concurrency_per_endpoint: 64,
        ..WebhookOptions::default()
    };
    let (clock, stop) = (Clock::system(), CancellationToken::new());
    let cluster_id = runtime::cluster_id(&config.kafka, Some(Duration::from_secs(30)), &clock, &stop).await;
    let cluster_id = cluster_id.map_err(|error| Fault::unavailable(error.to_string()))?;
    Ok(Parts {
        env: Environment {
            kafka: config.kafka.clone(),
            producer: Producer::new(&config.kafka)
                .map_err(|error| Fault::configuration(error.to_string()))?,
            metrics: Metrics::new(),
            clock,
        },
        cluster_id: cluster_id.ok_or_else(|| Fault::internal("nobody asked for an end"))?,
        db: scratch.db.clone(),
        vault: Vault::ephemeral(),
        codec: Codec::new(&registry)?,
        topology: Arc::new(topology),
        options: Arc::new(StageOptions {
            webhook,
            runtime: config.runtime.clone(),
            ..StageOptions::default()
        }),
        traffic: stages::webhook::Traffic::default(),
    })
}

/// Registers, publishes and delivers.
async fn deliver(parts: &Parts, asked: &Repetition) -> Result<Measured, Fault> {
    let case = &asked.case;
    register(parts, asked).await?;
    if case.rate.is_none() {
        publish(parts, asked).await?;
    }
    let (process, database) = (cpu(), database_cpu());
    let stop = CancellationToken::new();
    let started = stages::start(parts, &STAGES.map(str::to_owned), &stop);
    let mut started = started.map_err(|error| Fault::configuration(error.to_string()))?;
    if case.rate.is_some() {
        for stage in &mut started {
            until(stage, Progress::is_caught_up).await?;
        }
        publish(parts, asked).await?;
    }
    for stage in &mut started {
        until(stage, |progress| progress.balance.done >= case.deliveries()).await?;
    }
    let measured = Measured {
        recorded_at: micros(),
        cpu_seconds: (cpu() - process).as_secs_f64() + database_cpu() - database,
        peak_rss_bytes: peak_rss(),
    };
    stop.cancel();
    for stage in started {
        // A receiver that hangs leaves work undone; the topics go anyway.
        let ended = stage.join.await.map_err(|ended| Fault::internal(ended.to_string()))?;
        ended.map_err(|error| Fault::failures(error.to_string()))?;
    }
    Ok(measured)
}

/// One tenant for each group of endpoints that get the same events.
fn tenant(asked: &Repetition, number: u64) -> String {
    format!("bench-{}", number % (asked.case.endpoints / asked.case.fan_out))
}

async fn register(parts: &Parts, asked: &Repetition) -> Result<(), Fault> {
    let options = &parts.options.webhook;
    let rules = Rules {
        allow_http: options.allow_http,
        timeout: options.timeout,
        endpoints_per_tenant: options.endpoints_per_tenant,
        // Nothing runs yet that would have to know.
        refresh: Duration::ZERO,
        deliverable: webhook::deliverable(&parts.topology),
        policy: webhook::policy(&parts.topology),
    };
    let (db, vault) = (parts.db.clone(), parts.vault.clone());
    let registrar = Registrar::new(db, vault, parts.env.clock.clone(), rules);
    stream::iter(0..asked.case.endpoints)
        .map(|number| {
            let registrar = &registrar;
            async move {
                let registration = Registration {
                    url: format!(
                        "http://127.0.0.1:{}/{}/{number}",
                        asked.port,
                        asked.case.mood(number).as_str()
                    ),
                    ..Registration::default()
                };
                registrar.register(&tenant(asked, number), None, &registration).await.map(drop)
            }
        })
        .buffer_unordered(4)
        .try_collect::<()>()
        .await
        .map_err(|error| Fault::failures(error.to_string()))
}

/// Publishes the case's events, at its rate if it has one.
async fn publish(parts: &Parts, asked: &Repetition) -> Result<(), Fault> {
    let topic = parts.topic("orders.events");
    // Registers the schema: no event is to wait for that.
    let first = parts.codec.encode(&topic, &event("nobody", 0)).await;
    first.map_err(|error| Fault::failures(error.to_string()))?;
    let began = tokio::time::Instant::now();
    let paced = stream::iter(0..asked.case.events).then(|number| async move {
        if let Some(rate) = asked.case.rate {
            tokio::time::sleep_until(began + Duration::from_secs_f64(number as f64 / rate as f64)).await;
        }
        number
    });
    paced
        .map(|number| {
            let (event, topic) = (event(&tenant(asked, number), number), topic.to_string());
            async move {
                let payload = parts.codec.encode(&topic, &event).await;
                let payload = payload.map_err(|error| Fault::failures(error.to_string()))?;
                let mut record = OutRecord::keyed(topic, event.meta().order_id.as_bytes().to_vec(), payload);
                record.headers = Headers::from(event::headers(&event, None));
                let sent = parts.env.producer.send(record).await;
                sent.map(drop).map_err(|error| Fault::failures(error.to_string()))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// An event whose body has about 500 bytes.
fn event(tenant: &str, number: u64) -> Event {
    let now_ms = Clock::system().now_ms();
    let order = format!("order-{:05}", number % ORDERS);
    let factory = Factory::new(tenant, "bench").with_id(event_id(number));
    let mut shipped = factory.order_shipped(order, now_ms, "DHL", format!("JD{number:010}"));
    shipped.tracking_url = Some(format!("https://tracking.example.com/{:0>240}", number));
    shipped.into()
}

/// Processor time of the PostgreSQL servers of this machine, in seconds; nothing where there are none.
fn database_cpu() -> f64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0.0 };
    let ticks = processes.flatten().filter_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        if !head.ends_with("(postgres") {
            return None;
        }
        // Behind the name: state is field 3, user time 14 and system time 15; then those of children that ended.
        let fields: Vec<u64> = tail.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        Some(fields.get(11..15)?.iter().sum::<u64>())
    });
    ticks.sum::<u64>() as f64 / TICKS
}
