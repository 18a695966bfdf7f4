//! `orderflow bench webhook`: from a topic full of events to receivers' answers with every attempt recorded, beside a
//! bare HTTP client that posts as much to the same receiver.
//!
//! The receiver is a process of its own and says at the end whether everything came, once and in order, and how long it
//! took from the event's publication. A rate counts from the first arrival until the last attempt lies in the store;
//! processor time is that of the program and of PostgreSQL on this machine, without Kafka and the receiver.

mod bare;
mod case;
mod product;
mod receiver;

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use self::case::{Case, System, cases};
use self::receiver::Seen;
use super::child;
use super::report::{Figure, Report, Run};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Fault};
use crate::cli::output;
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow bench webhook\n  orderflow bench webhook --only fanout --repetitions 5 \
                        --json\n\nNothing else should run on the machine meanwhile. Topics and database are the bench's \
                        own, beside those of the configuration, and are taken away."
)]
pub(super) struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// More deliveries
    #[arg(long)]
    full: bool,
    /// Only the cases whose names begin so; may be given several times
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// One repetition, as the parent wants it
    #[arg(long, hide = true, value_name = "JSON")]
    repetition: Option<String>,
    /// The receiver
    #[arg(long, hide = true)]
    receiver: bool,
}

/// What a parent asks of its child.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Repetition {
    system: System,
    case: Case,
    /// Where the receiver listens.
    port: u16,
    /// What its topics begin with.
    name: String,
}

/// What a child measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Measured {
    /// When everything was recorded, by the clock that all processes share; 0 where nothing is recorded.
    recorded_at: u64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    if args.receiver {
        receiver::serve().await?;
        return Ok(Exit::Fine);
    }
    let config = context.start()?.config;
    if let Some(asked) = &args.repetition {
        let asked: Repetition =
            serde_json::from_str(asked).map_err(|error| Fault::usage(format!("--repetition: {error}")))?;
        let measured = match asked.system {
            System::Orderflow => product::repeat(&config, &asked).await?,
            System::BareClient => bare::repeat(&asked).await?,
        };
        output::json(&measured)?;
        return Ok(Exit::Fine);
    }
    let all = cases(args.full);
    let chosen = |case: &&Case| {
        args.only.is_empty() || args.only.iter().any(|name| case.name.starts_with(name.as_str()))
    };
    let chosen: Vec<Case> = all.iter().filter(chosen).cloned().collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
        return Err(Fault::usage(format!("there is no such case; there are {}", names.join(", "))));
    }
    let mut receiver = Receiver::start().await?;
    let mut figures: Vec<Figure> = Vec::new();
    for case in chosen {
        let reached = figures.iter().find(|figure| figure.is_of("orderflow", "fanout-1"));
        let case = match (case.name.as_str(), reached.and_then(Figure::deliveries_per_second)) {
            ("half-of-capacity", Some(rate)) => case.at_rate((rate / 2.0) as u64),
            ("half-of-capacity", None) => {
                output::complain("half-of-capacity needs fanout-1 in the same run and is left out");
                continue;
            }
            (_, _) => case,
        };
        figures.extend(measure(&args, &case, &mut receiver).await?);
    }
    let settings = json!({
        "bootstrapServers": config.kafka.bootstrap_servers, "repetitions": args.repetitions, "full": args.full,
    });
    let report = Report::new(settings, figures);
    if args.json {
        output::json(&report)?
    } else {
        output::line(&report.table())?
    }
    Ok(Exit::Fine)
}

/// The systems of one case in turn, over and over.
async fn measure(args: &Args, case: &Case, receiver: &mut Receiver) -> Result<Vec<Figure>, Fault> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); case.systems.len()];
    for _ in 0..args.repetitions.max(1) {
        for (&system, runs) in case.systems.iter().zip(&mut runs) {
            let name = format!("orderflow-bench-{}-{}", std::process::id(), Clock::system().now_ms());
            let asked = Repetition { system, case: case.clone(), port: receiver.port, name };
            receiver.report().await?;
            let what = format!("{} of {}", case.name, system.as_str());
            let measured: Measured = child::repeat(&asked, &what).await?;
            let seen = receiver.report().await?;
            check(case, system, &seen)?;
            runs.push(outcome(case, &measured, &seen));
        }
    }
    let figures = case.systems.iter().zip(&runs);
    let figures: Vec<Figure> =
        figures.map(|(system, runs)| Figure::deliveries(system.as_str(), &case.name, runs)).collect();
    figures.iter().for_each(|figure| output::complain(&figure.row()));
    Ok(figures)
}

/// Whether the receiver saw what was promised.
fn check(case: &Case, system: System, seen: &Seen) -> Result<(), Fault> {
    let right = seen.accepted == case.deliveries()
        && (system == System::BareClient || seen.repeats + seen.order_breaks == 0);
    match right {
        true => Ok(()),
        false => Err(Fault::failures(format!(
            "{} of {}: {} deliveries were to come once and in order, but {seen:?}",
            case.name,
            system.as_str(),
            case.deliveries()
        ))),
    }
}

fn outcome(case: &Case, measured: &Measured, seen: &Seen) -> Run {
    let ended = measured.recorded_at.max(seen.last_at);
    let seconds = ended.saturating_sub(seen.first_at) as f64 / 1e6;
    let deliveries = case.deliveries() as f64;
    // What was published before the clock started waited for it.
    let paced = case.rate.is_some();
    Run {
        per_second: deliveries / seconds.max(1e-6),
        cpu_seconds_per_million: measured.cpu_seconds / deliveries * 1e6,
        peak_rss_bytes: measured.peak_rss_bytes,
        latency_ms: paced.then_some((seen.p50_ms, seen.p99_ms)),
    }
}

/// The receiver's process.
struct Receiver {
    port: u16,
    asks: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Receiver {
    async fn start() -> Result<Self, Fault> {
        let unable =
            |error: std::io::Error| Fault::internal(format!("the receiver can't be started: {error}"));
        let mut process = Command::new(std::env::current_exe().map_err(unable)?)
            .args(["bench", "webhook", "--receiver"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(unable)?;
        let (Some(asks), Some(says)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Fault::internal("the receiver has no pipes"));
        };
        let mut says = BufReader::new(says).lines();
        let first = says.next_line().await.map_err(unable)?;
        let port = first.and_then(|line| line.parse().ok());
        let port = port.ok_or_else(|| Fault::internal("the receiver names no port"))?;
        Ok(Self { port, asks, says, _process: process })
    }

    /// What it has seen since it was asked last.
    async fn report(&mut self) -> Result<Seen, Fault> {
        let gone = |error: std::io::Error| Fault::internal(format!("the receiver is gone: {error}"));
        self.asks.write_all(b"report\n").await.map_err(gone)?;
        self.asks.flush().await.map_err(gone)?;
        let line = self.says.next_line().await.map_err(gone)?.unwrap_or_default();
        serde_json::from_str(&line)
            .map_err(|error| Fault::internal(format!("the receiver said {line}: {error}")))
    }
}
