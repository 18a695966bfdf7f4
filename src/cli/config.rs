//! `orderflow config`: which settings apply, and whether they can be used.

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::output;
use crate::config;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS=broker:9092 orderflow config show")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every setting that applies and where it comes from; secrets are hidden
    #[command(after_help = "Example:\n  orderflow config show --json")]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read settings and topology, and say what is wrong with them (exit code 64)
    #[command(after_help = "Example:\n  orderflow config check --config production.toml")]
    Check,
    /// Print the commented defaults, to start an orderflow.toml from
    #[command(after_help = "Example:\n  orderflow config defaults > orderflow.toml")]
    Defaults,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Fault> {
    match args.action {
        Action::Show { json } => show(context, json)?,
        Action::Check => check(context)?,
        Action::Defaults => output::line(config::DEFAULTS.trim_end())?,
    }
    Ok(Exit::Fine)
}

fn show(context: &Context, json: bool) -> Result<(), Fault> {
    let settings = config::settings(&context.load()?)?;
    if json {
        return output::json(&settings);
    }
    let key_width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
    let value_width =
        settings.iter().map(|setting| setting.value.chars().count()).max().unwrap_or_default().min(60);
    for config::Setting { key, value, source } in settings {
        output::line(&format!("{key:key_width$} = {value:value_width$}  # {source}"))?;
    }
    Ok(())
}

fn check(context: &Context) -> Result<(), Fault> {
    let loaded = context.load()?;
    let topology = loaded.config.topology.load()?;
    output::line(&format!(
        "settings and topology `{}` are sound: {} topics, {} stages",
        topology.name,
        topology.topics().count(),
        topology.stages().count()
    ))
}
