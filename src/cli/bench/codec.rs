//! `orderflow bench codec`: nanoseconds to decode and encode one event, schema known.

use std::time::Instant;

use serde_json::json;

use super::events::Sample;
use super::report::{Figure, Report};
use crate::cli::exit::{Exit, Fault};
use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow bench codec --json")]
pub(super) struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Events in one measurement
    #[arg(long, default_value_t = 500_000)]
    events: u32,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let sample = Sample::new().await?;
    let (mut decode, mut encode) = (Vec::new(), Vec::new());
    for _ in 0..args.repetitions.max(1) {
        let began = Instant::now();
        for _ in 0..args.events {
            let decoded = sample.codec.decode(std::hint::black_box(&sample.payload)).await;
            std::hint::black_box(decoded).map_err(|error| Fault::internal(error.to_string()))?;
        }
        decode.push(began.elapsed().as_nanos() as f64 / f64::from(args.events));
        let began = Instant::now();
        for _ in 0..args.events {
            std::hint::black_box(sample.encode().await?);
        }
        encode.push(began.elapsed().as_nanos() as f64 / f64::from(args.events));
    }
    let settings = json!({ "events": args.events, "bytes": sample.payload.len() });
    let results = vec![
        Figure::nanoseconds("orderflow", "decode", &decode),
        Figure::nanoseconds("orderflow", "encode", &encode),
    ];
    let report = Report::new(settings, results);
    if args.json {
        output::json(&report)?
    } else {
        output::line(&report.table())?
    }
    Ok(Exit::Fine)
}
