//! `orderflow topology`: the declared topics compared with the broker's.

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::admin::schemas::{self, Listed, State};
use crate::admin::topology::{self, Broker, Change, Plan};
use crate::event::Registry;
use crate::topology::Topology;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow topology plan && orderflow topology apply")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what `apply` would do
    #[command(after_help = "Example:\n  orderflow topology plan --json")]
    Plan {
        #[command(flatten)]
        options: Options,
    },
    /// Create missing topics and change settings that differ
    #[command(after_help = "Example:\n  orderflow topology apply")]
    Apply {
        #[command(flatten)]
        options: Options,
    },
    /// Exit with 1 when the broker or the registry differs from the topology
    #[command(after_help = "Example:\n  orderflow topology check || orderflow topology plan")]
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the topology as a picture
    #[command(after_help = "Example:\n  orderflow topology graph --format dot | dot -Tsvg > topology.svg")]
    Graph {
        /// The language of the picture
        #[arg(long, value_enum, default_value_t = Format::Mermaid)]
        format: Format,
    },
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Also delete retry and dead-letter topics whose stage is gone, and everything in them
    #[arg(long)]
    allow_delete: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let topology = config.topology.load()?;
    if let Action::Graph { format } = args.action {
        let picture = match format {
            Format::Mermaid => topology::mermaid(&topology),
            Format::Dot => topology::dot(&topology),
        };
        output::line(picture.trim_end())?;
        return Ok(Exit::Fine);
    }
    let broker = Broker::new(&config.kafka)?;
    match args.action {
        Action::Plan { options } => {
            let plan = planned(&broker, &topology, options.allow_delete).await?;
            tell(&plan, options.json, "broker and topology agree: nothing to do")?;
            Ok(Exit::Fine)
        }
        Action::Apply { options } => apply(&broker, &topology, &options).await,
        Action::Check { json } => check(&broker, parts::codec(&config)?.registry(), &topology, json).await,
        Action::Graph { .. } => Ok(Exit::Fine),
    }
}

async fn planned(broker: &Broker, topology: &Topology, allow_delete: bool) -> Result<Plan, Fault> {
    Ok(topology::plan(topology, &broker.observe(topology).await?, allow_delete))
}

/// What `check` prints as JSON.
#[derive(Serialize)]
struct Differences<'a> {
    changes: &'a [Change],
    /// Subjects of which the registry lacks our schema.
    schemas: &'a [Listed],
}

/// Compares both with what is declared; exit code 1 and a sentence when one differs.
async fn check(broker: &Broker, registry: &Registry, topology: &Topology, json: bool) -> Result<Exit, Fault> {
    let plan = planned(broker, topology, false).await?;
    let mut schemas = schemas::list(registry, topology).await?;
    // A registry that is ahead of this program is no fault: every version reads the older ones.
    schemas.retain(|subject| matches!(subject.state, State::Absent | State::Outdated));
    if json {
        output::json(&Differences { changes: &plan.changes, schemas: &schemas })?;
    } else {
        plan.changes.iter().try_for_each(|change| output::line(&change.to_string()))?;
        schemas.iter().try_for_each(|subject| output::line(&format!("register   {}", subject.subject)))?;
    }
    let differs = match (plan.agrees(), schemas.is_empty()) {
        (true, true) if json => return Ok(Exit::Fine),
        (true, true) => {
            output::line("broker, registry and topology agree")?;
            return Ok(Exit::Fine);
        }
        (false, true) => {
            "the broker differs from the topology; run `orderflow topology apply`, or change the topology"
        }
        (true, false) => "the registry lacks schemas of ours; run `orderflow schemas register`",
        (false, false) => {
            "broker and registry differ from the topology; run `orderflow topology apply` and `orderflow schemas register`"
        }
    };
    Err(Fault::failures(differs))
}

/// Applies what can be applied; exit code 1 and a sentence when something can't.
async fn apply(broker: &Broker, topology: &Topology, options: &Options) -> Result<Exit, Fault> {
    let plan = planned(broker, topology, options.allow_delete).await?;
    tell(&plan, options.json, "broker and topology agree: nothing to do")?;
    broker.apply(&plan).await?;
    let refusals: Vec<_> = plan.refusals().map(|(topic, reason)| format!("{topic}: {reason}")).collect();
    if refusals.is_empty() {
        return Ok(Exit::Fine);
    }
    Err(Fault::failures(refusals.join("; ")))
}

fn tell(plan: &Plan, json: bool, nothing: &str) -> Result<(), Fault> {
    if json {
        return output::json(plan);
    }
    if plan.changes.is_empty() {
        return output::line(nothing);
    }
    plan.changes.iter().try_for_each(|change| output::line(&change.to_string()))
}
