//! `orderflow config`: which settings apply, and whether they can be used.

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::service::Service;
use super::{output, parts};
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
    /// Check settings and topology as `run` and `serve` do, without asking any service (exit code 64)
    #[command(after_help = "Example:\n  orderflow config check --config production.toml")]
    Check {
        /// Only what `orderflow run` without --serve needs: no key that checks tokens, no API
        #[arg(long)]
        stages_only: bool,
    },
    /// Print the commented defaults, to start an orderflow.toml from
    #[command(after_help = "Example:\n  orderflow config defaults > orderflow.toml")]
    Defaults,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, Fault> {
    match args.action {
        Action::Show { json } => show(context, json)?,
        Action::Check { stages_only } => check(context, stages_only)?,
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

/// Makes everything that can be made without a service, as `run --serve` would.
fn check(context: &Context, stages_only: bool) -> Result<(), Fault> {
    let config = context.load()?.config;
    config.log.filter().map_err(|error| Fault::configuration(error.to_string()))?;
    let topology = config.topology.load()?;
    parts::check_members(&config)?;
    let service = Service::new(config, CancellationToken::new())?;
    if !stages_only {
        service.check_api()?;
    }
    output::line(&format!(
        "settings and topology `{}` are sound: {} topics, {} stages",
        topology.name,
        topology.topics().count(),
        topology.stages().count()
    ))
}
