//! `orderflow lane`: lanes that wait in the retry topic.

use std::time::Duration;

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::operator::By;
use super::{output, parts};
use crate::admin::lanes::{Ask, LaneError};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow lane list webhook\n  orderflow lane release webhook 'webhook|shop-1|o-17|e-3'"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the lanes whose first task waits in the retry topic
    #[command(after_help = "Example:\n  orderflow lane list webhook --json")]
    List {
        /// The stage
        stage: String,
        /// Print lines of JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a waiting lane try again now; a held one goes on without its first task, which is a dead letter
    #[command(after_help = "Example:\n  orderflow lane release webhook 'webhook|shop-1|o-17|e-3'")]
    Release(Change),
    /// End the first task of a waiting lane without its effect
    #[command(
        after_help = "Example:\n  orderflow lane skip webhook 'webhook|shop-1|o-17|e-3' --reason 'told them by phone'"
    )]
    Skip(Change),
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The stage
    stage: String,
    /// The lane, as `lane list` prints it
    lane: String,
    /// How long to wait for the owner's answer
    #[arg(long, default_value = "15s", value_parser = humantime_serde::re::humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    by: By,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let operations = parts::operations(&config)?;
    let (change, what) = match args.action {
        Action::Release(change) => (change, Ask::Release),
        Action::Skip(change) => (change, Ask::Skip),
        Action::List { stage, json } => {
            for lane in operations.lanes(Some(&stage)).await? {
                if json {
                    output::json(&lane)?;
                    continue;
                }
                let due = if lane.held { "held".to_owned() } else { lane.due.unwrap_or_default() };
                output::line(&format!(
                    "{:<40} {:>4} waiting  next {due}  after {} attempts  {}",
                    lane.lane,
                    lane.tasks,
                    lane.attempts,
                    lane.error.unwrap_or_default()
                ))?;
            }
            return Ok(Exit::Fine);
        }
    };
    let by = change.by.operator();
    let mut exit = Exit::Fine;
    let ask = (what, change.wait);
    for answered in operations.ask_lane(&change.stage, &change.lane, ask, &by).await? {
        output::line(&format!("{} (partition {}): {}", change.lane, answered.partition, answered.answer))?;
        if !answered.done {
            exit = Exit::Failures;
        }
    }
    Ok(exit)
}

impl From<LaneError> for Fault {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Read(error) => super::tail::unreadable(error),
            LaneError::Store(error) => error.into(),
            LaneError::NoLanes(_) | LaneError::NotWaiting(_) => Self::usage(error.to_string()),
        }
    }
}
