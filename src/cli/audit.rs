//! `orderflow audit`: who did what to the running system, and why.

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::admin;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow audit --stage webhook --limit 20")]
pub(super) struct Args {
    /// Only what concerned this stage
    #[arg(long)]
    stage: Option<String>,
    /// How many entries, the newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Only entries before the one with this id
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let db = parts::database(&context.start()?.config)?;
    let audited = admin::audit(&db, args.stage.as_deref(), args.before.as_deref(), args.limit).await?;
    for entry in audited {
        if args.json {
            output::json(&entry)?;
        } else {
            output::line(&format!(
                "{}  {:<16} {:<12} by {}: {} {}",
                entry.at, entry.action, entry.stage, entry.actor, entry.reason, entry.detail
            ))?;
        }
    }
    Ok(Exit::Fine)
}
