//! `orderflow replay`: moves a stage back, through its owners.

use std::time::Duration;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::operator::By;
use super::{output, parts, when};
use crate::admin::replay::{Replay, ReplayError, Target};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow replay --stage webhook --to 2h --dry-run\n  orderflow replay --stage history --to 1200 --partition 3\n\n\
                  What the stage did since then it does again, under the same names. The dry run tells how many records and \
                  which effects."
)]
pub(super) struct Args {
    /// The stage
    #[arg(long)]
    stage: String,
    /// Where to: an offset, a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME|OFFSET", value_parser = target)]
    to: Target,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Say what would be read again and what would repeat, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the owners' answers
    #[arg(long, default_value = "30s", value_parser = humantime_serde::re::humantime::parse_duration)]
    wait: Duration,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    by: By,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let operations = parts::operations(&config)?;
    let of = operations.of(&args.stage).await?;
    let replay = Replay { of, partition: args.partition, patience: args.wait };
    let ways = if args.dry_run {
        replay.dry(args.to, &parts::codec(&config)?).await?
    } else {
        replay.run(args.to, &args.by.operator()).await?
    };
    if ways.is_empty() && !args.json {
        output::line("nothing to do: no partition stands beyond that")?;
    }
    let mut exit = Exit::Fine;
    for way in ways {
        if !args.dry_run && !way.done {
            exit = Exit::Failures;
        }
        if args.json {
            output::json(&way)?;
            continue;
        }
        let repeats: Vec<_> = way.repeats.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let told = way.answer.unwrap_or_else(|| format!("would repeat: {}", repeats.join(", ")));
        output::line(&format!(
            "partition {}: from {} to {}, {} records; {told}",
            way.partition, way.position, way.to, way.records
        ))?;
    }
    Ok(exit)
}

fn target(text: &str) -> Result<Target, String> {
    match text.parse::<i64>() {
        Ok(offset) if offset >= 0 => Ok(Target::Offset(offset)),
        Ok(_) => Err("an offset is not negative".to_owned()),
        Err(_) => when::parse(text).map(Target::Time),
    }
}

impl From<ReplayError> for Fault {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Read(error) => super::tail::unreadable(error),
            ReplayError::Store(error) => error.into(),
            ReplayError::Registry(_) => Self::unavailable(error.to_string()),
            ReplayError::Deleted { .. } => Self::failures(error.to_string()),
        }
    }
}
