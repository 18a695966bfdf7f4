//! `orderflow stage`: pauses stages and lets them go on, wherever they run.

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::operator::By;
use super::{output, parts};
use crate::admin::stages::{StageError, Stages};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orderflow stage pause webhook --reason 'partner maintenance until 18:00'\n  orderflow stage list"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start nothing new in a stage: what runs may end, its members stay in their group, nothing is lost
    #[command(
        after_help = "Example:\n  orderflow stage pause webhook --reason 'partner maintenance until 18:00'\n\n\
                            Every member heeds it within about a second, and after a restart, until `stage resume`."
    )]
    Pause(Change),
    /// Let a paused stage go on, also one that paused itself
    #[command(after_help = "Example:\n  orderflow stage resume webhook --reason 'maintenance is over'")]
    Resume(Change),
    /// Print every stage and whether it is paused, by whom and why
    #[command(after_help = "Example:\n  orderflow stage list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The stage, as named in the topology
    stage: String,
    #[command(flatten)]
    by: By,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let topology = config.topology.load()?;
    let names = topology.stages().map(|stage| stage.name.clone());
    let stages = Stages::new(parts::database(&config)?, Clock::system(), names);
    let (change, paused) = match args.action {
        Action::Pause(change) => (change, true),
        Action::Resume(change) => (change, false),
        Action::List { json } => {
            for state in stages.list().await? {
                if json {
                    output::json(&state)?;
                    continue;
                }
                let word = if state.paused { "paused" } else { "running" };
                let told = match (&state.changed_by, &state.changed_at) {
                    (Some(by), Some(at)) => {
                        format!("  since {at} by {by}: {}", state.reason.unwrap_or_default())
                    }
                    (Some(_) | None, _) => String::new(),
                };
                output::line(&format!("{:<14} {word:<8}{told}", state.stage))?;
            }
            return Ok(Exit::Fine);
        }
    };
    let Change { stage, by } = change;
    let changed = stages.set_paused(&stage, paused, &by.operator()).await?;
    let word = if paused { "paused" } else { "running" };
    match changed {
        true => output::line(&format!("{stage} is {word}; its members heed it within a second"))?,
        false => output::line(&format!("{stage} was {word} already; nothing is changed"))?,
    }
    Ok(Exit::Fine)
}

impl From<StageError> for Fault {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Unknown { .. } => Self::usage(error.to_string()),
            StageError::Store(error) => error.into(),
        }
    }
}
