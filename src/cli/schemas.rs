//! `orderflow schemas`: our schemas and the registry's.

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::admin::schemas::{self, Checked, Done, Listed, Registered};
use crate::event::Registry;
use crate::topology::Topology;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow schemas check && orderflow schemas register")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Action {
    /// Print every subject that the topology calls for, and what the registry holds for it
    #[command(after_help = "Example:\n  orderflow schemas list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Exit with 1 when a schema of ours can't read what a registered version wrote
    #[command(after_help = "Example:\n  orderflow schemas check")]
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Register what is missing; sets no level, deletes nothing
    #[command(after_help = "Example:\n  orderflow schemas register")]
    Register {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let topology = config.topology.load()?;
    let codec = parts::codec(&config)?;
    let registry = codec.registry();
    match args.action {
        Action::List { json } => list(registry, &topology, json).await,
        Action::Check { json } => check(registry, &topology, json).await,
        Action::Register { json } => register(registry, &topology, json).await,
    }
}

async fn list(registry: &Registry, topology: &Topology, json: bool) -> Result<Exit, Fault> {
    let listed = schemas::list(registry, topology).await?;
    if json {
        output::json(&listed)?;
        return Ok(Exit::Fine);
    }
    for Listed { subject, our_version, id, versions, state, .. } in listed {
        let state = format!("{state:?}").to_lowercase();
        let id = id.map_or("-".to_owned(), |id| id.to_string());
        output::line(&format!(
            "{state:<10} ours v{our_version} id {id:<5} registered {versions:?}  {subject}"
        ))?;
    }
    Ok(Exit::Fine)
}

async fn check(registry: &Registry, topology: &Topology, json: bool) -> Result<Exit, Fault> {
    let checked = schemas::check(registry, topology).await?;
    let bad = checked.iter().filter(|subject| !subject.problems.is_empty()).count();
    if json {
        output::json(&checked)?;
    } else {
        for Checked { subject, compared, problems } in &checked {
            let verdict = if problems.is_empty() { "fits".to_owned() } else { problems.join("; ") };
            output::line(&format!("{subject}: {verdict} (compared with {compared} versions)"))?;
        }
    }
    verdict(bad, "can't read what registered versions wrote")
}

async fn register(registry: &Registry, topology: &Topology, json: bool) -> Result<Exit, Fault> {
    let registered = schemas::register(registry, topology).await?;
    let refused = registered.iter().filter(|subject| matches!(subject.done, Done::Refused { .. })).count();
    if json {
        output::json(&registered)?;
    } else {
        for Registered { subject, done } in &registered {
            let what = match done {
                Done::Registered { id } => format!("registered  id {id}"),
                Done::Unchanged { id } => format!("unchanged   id {id}"),
                Done::Refused { problems } => format!("refused     {}", problems.join("; ")),
            };
            output::line(&format!("{what}  {subject}"))?;
        }
    }
    verdict(refused, "were refused: they can't read what registered versions wrote")
}

fn verdict(bad: usize, what: &str) -> Result<Exit, Fault> {
    match bad {
        0 => Ok(Exit::Fine),
        bad => Err(Fault::failures(format!(
            "{bad} schemas {what}; change them as schemas/README.md says, or use a topic of a new name"
        ))),
    }
}
