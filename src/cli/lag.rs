//! `orderflow lag`: how far every consumer group is behind.

use std::time::Duration;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::admin::lag::{GroupLag, Meter};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow lag\n  orderflow lag --watch --every 5s\n  orderflow lag --json\n\n\
                  Messages are records that are not handled yet, seconds the age of the oldest of them. The verdict \
                  compares two looks: ok, warning (behind its objective, but it moves), stalled (it doesn't), stopped \
                  (work waits and the group has no member, or its stage is paused), rewound. Exit code 1 when a group is \
                  stalled or stopped."
)]
pub(super) struct Args {
    /// Go on until interrupted
    #[arg(long)]
    watch: bool,
    /// How long between two looks
    #[arg(long, default_value = "2s", value_parser = humantime_serde::re::humantime::parse_duration)]
    every: Duration,
    /// Also tell every partition
    #[arg(long)]
    partitions: bool,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let operations = parts::operations(&config)?;
    let clock = operations.clock().clone();
    let mut meter = Meter::new(operations);
    // The first look has nothing to be compared with.
    meter.look().await?;
    loop {
        clock.sleep(args.every).await;
        let groups = meter.look().await?;
        show(&groups, &args)?;
        if !args.watch {
            let bad = groups.iter().any(|group| group.verdict.is_standing());
            return Ok(if bad { Exit::Failures } else { Exit::Fine });
        }
    }
}

fn show(groups: &[GroupLag], args: &Args) -> Result<(), Fault> {
    if args.json {
        return groups.iter().try_for_each(output::json);
    }
    output::line(&format!(
        "{:<16} {:<28} {:>8} {:>10} {:>9} {:>9}  verdict",
        "stage", "group", "members", "messages", "seconds", "drained"
    ))?;
    for group in groups {
        let members = group.members.map_or_else(|| "?".to_owned(), |members| members.to_string());
        let drained = match group.drain_seconds {
            Some(seconds) if group.messages > 0 => format!("in {seconds:.0} s"),
            Some(_) => "yes".to_owned(),
            None => "never".to_owned(),
        };
        output::line(&format!(
            "{:<16} {:<28} {members:>8} {:>10} {:>9.1} {drained:>9}  {}",
            group.stage, group.group, group.messages, group.seconds, group.verdict
        ))?;
        for partition in group.partitions.iter().filter(|_| args.partitions) {
            let position = partition.position.map_or_else(|| "none".to_owned(), |at| at.to_string());
            output::line(&format!(
                "  partition {:>3}: at {position} of {}, {} records, {:.1} s",
                partition.partition, partition.end, partition.messages, partition.seconds
            ))?;
        }
    }
    Ok(())
}
