//! `orderflow generate`: realistic order life cycles, published at a chosen rate.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::admin::publish::{InOrder, PublishError, Published};
use crate::embedded::traffic::{Expectation, FIRST_ORDER_MS, Traffic, TrafficOptions, tenants};
use crate::event::Event;

/// How many events may be on their way at once.
const IN_FLIGHT: usize = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  orderflow generate --orders 10000 --seed 7 --expect expected.json\n  \
                        orderflow generate --orders 5 --print | orderflow publish\n\n\
                        The same seed gives the same events, down to the byte: published again, each is recognised as a repeat.")]
pub(super) struct Args {
    /// How many orders, over all tenants
    #[arg(long, default_value_t = 100)]
    orders: u64,
    /// How many events a second at most; 0 is as fast as Kafka takes them
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// What the orders follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many tenants; each has the same order and user ids
    #[arg(long, default_value_t = 1)]
    tenants: usize,
    /// Write what must follow from the events to this file, as JSON
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// When the first order was placed (RFC 3339) [default: 2026-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME")]
    start: Option<jiff::Timestamp>,
    /// Print the events as lines of JSON instead of publishing them
    #[arg(long)]
    print: bool,
    /// Print the result as JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    if !args.rate.is_finite() || args.rate < 0.0 {
        return Err(Fault::usage("--rate must be 0 or a number of events a second"));
    }
    let traffic = Traffic::new(TrafficOptions {
        orders: args.orders,
        seed: args.seed,
        tenants: tenants(args.tenants),
        start_ms: args.start.map_or(FIRST_ORDER_MS, jiff::Timestamp::as_millisecond),
    });
    let mut expectation = args.expect.as_ref().map(|_| Expectation::default());
    let sent = if args.print {
        print(traffic, expectation.as_mut())?
    } else {
        publish(&args, traffic, expectation.as_mut(), context).await?
    };
    if let (Some(path), Some(expectation)) = (&args.expect, &expectation) {
        write(path, expectation)?;
    }
    if args.json {
        output::json(&json!({ "orders": args.orders, "events": sent, "seed": args.seed }))?;
    } else if !args.print {
        output::line(&format!("{sent} events of {} orders are published", args.orders))?;
    }
    Ok(Exit::Fine)
}

fn print(traffic: Traffic, mut expectation: Option<&mut Expectation>) -> Result<u64, Fault> {
    let mut printed = 0;
    for event in traffic {
        output::json(&event.to_json())?;
        note(&mut expectation, &event);
        printed += 1;
    }
    Ok(printed)
}

async fn publish(
    args: &Args,
    traffic: Traffic,
    mut expectation: Option<&mut Expectation>,
    context: &Context,
) -> Result<u64, Fault> {
    let config = context.start()?.config;
    let publisher = parts::publisher(&config, config.topology.load()?).await?;
    let mut publishing = InOrder::new(publisher, IN_FLIGHT);
    let progress = progress();
    let begun = Instant::now();
    let mut sent = 0_u64;
    for event in traffic {
        if args.rate > 0.0 {
            tokio::time::sleep_until(begun + Duration::from_secs_f64(sent as f64 / args.rate)).await;
        }
        note(&mut expectation, &event);
        sent += 1;
        if let Some((_, result)) = publishing.push((), &event).await {
            acknowledged(result)?;
            progress.inc(1);
        }
    }
    while let Some((_, result)) = publishing.next().await {
        acknowledged(result)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(sent)
}

/// A generated event that isn't taken ends the run: the rest of its order would have a hole.
fn acknowledged(result: Result<Published, PublishError>) -> Result<(), Fault> {
    result.map(|_| ()).map_err(|error| match error.is_transient() {
        true => Fault::unavailable(error.to_string()),
        false => Fault::failures(error.to_string()),
    })
}

fn note(expectation: &mut Option<&mut Expectation>, event: &Event) {
    if let Some(expectation) = expectation {
        expectation.add(event);
    }
}

fn write(path: &PathBuf, expectation: &Expectation) -> Result<(), Fault> {
    let text =
        serde_json::to_vec(expectation).map_err(|error| Fault::internal(format!("no JSON: {error}")))?;
    std::fs::write(path, text).map_err(|error| {
        Fault::failures(format!("the expectation can't be written to {}: {error}", path.display()))
    })
}

/// On a terminal only; elsewhere nothing is drawn.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {human_pos} events published, {per_sec}, {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
