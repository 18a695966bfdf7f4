//! `orderflow db`: the database's schema.

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::{output, parts};
use crate::store::migrations;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow db status && orderflow db migrate")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring the schema up to date; safe to run from several places at once
    #[command(
        after_help = "Example:\n  ORDERFLOW_STORE__URL=postgres://me@db/orderflow orderflow db migrate"
    )]
    Migrate,
    /// Print which migrations the database has; exit with 1 when some are missing
    #[command(after_help = "Example:\n  orderflow db status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, Fault> {
    let db = parts::database(&context.start()?.config)?;
    let json = match args.action {
        Action::Migrate => {
            db.migrate().await?;
            false
        }
        Action::Status { json } => json,
    };
    let migrations = migrations::status(&db).await?;
    if json {
        output::json(&migrations)?;
    } else {
        for migrations::Migration { version, subject, applied } in &migrations {
            let state = if *applied { "applied" } else { "missing" };
            output::line(&format!("{version:04} {state}  {subject}"))?;
        }
    }
    if migrations.iter().all(|migration| migration.applied) {
        return Ok(Exit::Fine);
    }
    Err(Fault::failures("the database lacks migrations; run `orderflow db migrate`"))
}
