//! `orderflow bench engine`: takes turns between the systems of each case, each repetition in a process of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cases::{Case, Keys, System, Values, cases};
use super::events::Sample;
use super::measure::{Measured, Meter};
use super::peers::{self, Peer};
use super::report::{Figure, Report};
use super::stage::{BenchStage, Proof};
use super::{pair, raw, rebuild, topic};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Fault};
use crate::cli::output;
use crate::clock::Clock;
use crate::config::Config;
use crate::runtime::{
    Environment, KafkaOptions, Producer, Role, RuntimeOptions, StageControl, StageSpec, StartAt,
    start_effect_stage,
};
use crate::task;
use crate::telemetry::Metrics;

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Between readings of the metrics, where they are read.
const SCRAPED_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow bench engine\n  orderflow bench engine --only no-op --repetitions 5 \
                        --json\n  orderflow bench engine --peers bench/peers\n\nNothing else should run on the machine meanwhile. The topics are taken away at \
                        the end, unless they are kept for the next run."
)]
pub(super) struct Args {
    /// How often each is measured, after one repetition that checks order and loss
    #[arg(long, default_value_t = 3)]
    pub(super) repetitions: usize,
    /// All cases, with more records
    #[arg(long)]
    full: bool,
    /// Only the cases whose names begin so; may be given several times
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Keep the topics
    #[arg(long)]
    keep: bool,
    /// Other products that take turns at the cases they can do: a folder with a script `<name>/run` for each
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// One repetition, as the parent wants it
    #[arg(long, hide = true, value_name = "JSON")]
    repetition: Option<String>,
}

/// What a parent asks of its child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Repetition {
    pub(super) system: System,
    pub(super) case: Case,
    /// What is read.
    pub(super) topic: String,
    /// Whether order and loss are checked; a case that is rebuilt is parked.
    pub(super) proof: bool,
    /// The consumer group of the engine.
    pub(super) group: String,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    if let Some(asked) = &args.repetition {
        let asked: Repetition =
            serde_json::from_str(asked).map_err(|error| Fault::usage(format!("--repetition: {error}")))?;
        output::json(&repeat(&config, &asked).await?)?;
        return Ok(Exit::Fine);
    }
    let chosen: Vec<Case> = cases(args.full)
        .into_iter()
        .filter(|case| args.only.is_empty() || args.only.iter().any(|name| case.name.starts_with(name)))
        .collect();
    if chosen.is_empty() {
        let names: Vec<String> = cases(args.full).into_iter().map(|case| case.name).collect();
        return Err(Fault::usage(format!("there is no such case; there are {}", names.join(", "))));
    }
    let peers = args.peers.as_deref().map(peers::find).transpose()?.unwrap_or_default();
    let mut topics: BTreeMap<String, (Keys, Values, u64)> = BTreeMap::new();
    let most = |keys, values| {
        let of = chosen.iter().filter(|case| (case.keys, case.values, case.backlog) == (keys, values, None));
        of.map(|case| case.records).max().unwrap_or(0)
    };
    let mut figures = Vec::new();
    for case in &chosen {
        let records = case.backlog.unwrap_or_else(|| most(case.keys, case.values));
        let name = topic::name(case.keys, case.values, records);
        if topics.insert(name.clone(), (case.keys, case.values, records)).is_none() {
            output::complain(&format!("filling {name}"));
            topic::fill(&config.kafka, &name, case.keys, case.values, records).await?;
        }
        figures.extend(measure(&config, &args, case, &name, &peers).await?);
    }
    let settings = json!({
        "bootstrapServers": config.kafka.bootstrap_servers, "partitions": topic::PARTITIONS, "valueBytes": 206,
        "compression": "lz4", "repetitions": args.repetitions, "full": args.full,
    });
    let report = Report::new(settings, figures);
    if args.json {
        output::json(&report)?
    } else {
        output::line(&report.table())?
    }
    if !args.keep {
        let names: Vec<&str> = topics.keys().map(String::as_str).collect();
        topic::remove(&config.kafka, &names).await?;
    }
    Ok(Exit::Fine)
}

/// The systems of one case in turn, over and over; a peer that fails has no figure.
async fn measure(
    config: &Config,
    args: &Args,
    case: &Case,
    topic: &str,
    peers: &[Peer],
) -> Result<Vec<Figure>, Fault> {
    let clock = Clock::system();
    let asked = |system, proof| Repetition {
        system,
        case: case.clone(),
        topic: topic.to_owned(),
        proof,
        group: format!("orderflow-bench-{}-{}", std::process::id(), clock.now_ms()),
    };
    let figures = if case.parked {
        rebuild::measure(config, args, &asked(System::Orderflow, false)).await?
    } else {
        if case.systems.contains(&System::Orderflow) {
            child(&asked(System::Orderflow, true)).await?;
        }
        let peers = if Peer::can(case) { peers } else { &[] };
        let mut runs: Vec<(&str, Vec<Measured>)> =
            case.systems.iter().map(|system| (system.as_str(), Vec::new())).collect();
        runs.extend(peers.iter().map(|peer| (peer.name.as_str(), Vec::new())));
        for _ in 0..args.repetitions.max(1) {
            let (own, others) = runs.split_at_mut(case.systems.len());
            for (&system, (_, runs)) in case.systems.iter().zip(own) {
                let asked = asked(system, false);
                let measured = match system {
                    System::TwoProcesses => pair::measure(config, &asked).await?,
                    System::Orderflow
                    | System::Scraped
                    | System::RawStream
                    | System::RawBatch
                    | System::BareTokio => child(&asked).await?,
                };
                runs.push(measured);
            }
            for (peer, (_, runs)) in peers.iter().zip(others) {
                match peer.measure(&config.kafka, case, topic).await {
                    Ok(measured) => runs.push(measured),
                    Err(fault) => output::complain(&format!("left out: {}", fault.sentence)),
                }
            }
        }
        let runs = runs.iter().filter(|(_, runs)| !runs.is_empty());
        runs.map(|(system, runs)| Figure::records(system, &case.name, runs)).collect()
    };
    figures.iter().for_each(|figure| output::complain(&figure.row()));
    Ok(figures)
}

/// Runs one repetition in a process of its own.
pub(super) async fn child(asked: &Repetition) -> Result<Measured, Fault> {
    super::child::repeat(asked, &format!("{} of {}", asked.case.name, asked.system.as_str())).await
}

async fn repeat(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    match asked.system {
        System::Orderflow if asked.case.parked => rebuild::repeat(config, asked).await,
        System::Orderflow | System::Scraped => engine(config, asked).await,
        System::TwoProcesses => pair::repeat(config, asked).await,
        System::RawStream => raw::stream(&config.kafka, &asked.topic, &asked.case).await,
        System::RawBatch => raw::batch(&config.kafka, &asked.topic, &asked.case).await,
        System::BareTokio => raw::tokio_loop(&asked.case).await,
    }
}

/// One repetition of the product's engine: a fresh group, from the first record to the last of the case.
async fn engine(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    let case = &asked.case;
    let sample = match case.values {
        Values::Text => None,
        Values::Avro => Some(Sample::new().await?),
    };
    let meter = Arc::new(Meter::new(case.records));
    let proof = asked.proof.then(Arc::<Proof>::default);
    let mut stage = BenchStage::new(case.wait, Arc::clone(&meter));
    stage.codec = sample.as_ref().map(|sample| sample.codec.clone());
    stage.proof = proof.clone();
    topic::prepare(&config.kafka, &asked.group).await?;
    let [retry, dead_letters] = topic::own(&asked.group);
    let stop = CancellationToken::new();
    let environment = environment(config)?;
    let scraped = (asked.system == System::Scraped).then(|| Arc::clone(&environment.metrics));
    let handle = start_effect_stage(spec(asked), Arc::new(stage), environment, stop.clone());
    let mut join = handle.join;
    tokio::select! {
        () = meter.finished() => {}
        () = scrape(scraped) => {}
        ended = &mut join => return Err(Fault::failures(format!("the stage ended early: {ended:?}"))),
    }
    let measured = meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))?;
    stop.cancel();
    let ended = join.await.map_err(|error| Fault::internal(error.to_string()))?;
    let ended = ended.map_err(|error| Fault::failures(error.to_string()))?;
    let balance = handle.progress.borrow().balance;
    if !ended.drained || !balance.holds() || balance.dead + balance.parked > 0 {
        return Err(Fault::failures(format!("the engine's books are wrong: {ended:?}, {balance:?}")));
    }
    let committed = committed(&config.kafka, &asked.group, &asked.topic).await?;
    let sum = u64::try_from(committed.values().sum::<i64>()).unwrap_or(0);
    if sum > meter.seen() {
        return Err(Fault::failures(format!("{sum} records are committed, {} were handled", meter.seen())));
    }
    if let Some(fault) = proof.map(|proof| proof.faults(&committed)).unwrap_or_default().first() {
        return Err(Fault::failures(format!("{} of the engine: {fault}", case.name)));
    }
    forget(&config.kafka, &asked.group).await?;
    topic::remove(&config.kafka, &[&retry, &dead_letters]).await?;
    Ok(measured)
}

/// Reads the metrics over and over; waits for ever where there are none to be read.
async fn scrape(metrics: Option<Arc<Metrics>>) {
    let Some(metrics) = metrics else { return std::future::pending().await };
    loop {
        tokio::time::sleep(SCRAPED_EVERY).await;
        std::hint::black_box(metrics.text());
    }
}

/// The stage as `orderflow run` would start it, in the group that was asked for.
pub(super) fn spec(asked: &Repetition) -> StageSpec {
    let (concurrency, defaults) = (asked.case.concurrency, RuntimeOptions::default());
    let [retry, dead_letters] = topic::own(&asked.group);
    StageSpec {
        stage: "bench".to_owned(),
        group: asked.group.clone(),
        source: asked.topic.clone(),
        retry: Some(retry),
        dead_letters,
        control: StageControl::default(),
        cursors: None,
        start: StartAt::Earliest,
        options: RuntimeOptions {
            concurrency,
            max_buffered_records: defaults.max_buffered_records.max(concurrency * 4),
            ..defaults
        },
    }
}

/// What the stage runs in.
pub(super) fn environment(config: &Config) -> Result<Environment, Fault> {
    Ok(Environment {
        kafka: config.kafka.clone(),
        producer: Producer::new(&config.kafka).map_err(|error| Fault::configuration(error.to_string()))?,
        metrics: Metrics::new(),
        clock: Clock::system(),
    })
}

/// The group's committed positions.
async fn committed(kafka: &KafkaOptions, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, Fault> {
    let consumer: BaseConsumer = kafka
        .client_config(Role::Member { group, stage: "bench", gather: Duration::ZERO })
        .create()
        .map_err(|error| Fault::configuration(error.to_string()))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, topic::PARTITIONS - 1);
    let asked = task::spawn_blocking(move || consumer.committed_offsets(list, WITHIN)).await;
    let found = asked.map_err(|ended| Fault::internal(ended.to_string()))?;
    let found = found.map_err(|error| Fault::unavailable(error.to_string()))?;
    let elements = found.elements();
    let positions = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
    });
    let positions: BTreeMap<i32, i64> = positions.collect();
    if positions.len() != usize::try_from(topic::PARTITIONS).unwrap_or(0) {
        return Err(Fault::failures(format!("only {positions:?} is committed")));
    }
    Ok(positions)
}

/// Takes the group away.
pub(super) async fn forget(kafka: &KafkaOptions, group: &str) -> Result<(), Fault> {
    let admin: AdminClient<DefaultClientContext> =
        kafka.client_config(Role::Admin).create().map_err(|error| Fault::configuration(error.to_string()))?;
    // Groups that stay expire by themselves.
    let _ = admin.delete_groups(&[group], &AdminOptions::new()).await;
    Ok(())
}
