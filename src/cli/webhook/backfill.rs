//! Delivers the past to an endpoint again, and tells how far that is.

use super::{One, Whose};
use crate::admin::webhooks::{BackfillShown, BackfillWanted, Point, Registrar};
use crate::cli::exit::{Exit, Fault};
use crate::cli::operator::By;
use crate::cli::{output, when};

/// What is to be delivered again, or which backfill is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Backfill {
    #[command(flatten)]
    one: One,
    /// From then on: a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = when::parse, required_unless_present_any = ["status", "cancel"])]
    from: Option<i64>,
    /// Up to then; without it, to where the endpoint is
    #[arg(long, value_name = "TIME", value_parser = when::parse, requires = "from")]
    until: Option<i64>,
    /// Events a second at most
    #[arg(long, value_name = "PER_SECOND", requires = "from")]
    rate: Option<f64>,
    /// Only the newest event of every order
    #[arg(long, requires = "from")]
    coalesce: bool,
    /// Tell how far this backfill is
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "cancel"])]
    status: Option<String>,
    /// Cancel this backfill
    #[arg(long, value_name = "ID", conflicts_with = "from")]
    cancel: Option<String>,
    #[command(flatten)]
    by: By,
}

impl Backfill {
    /// Does what is asked for and prints the backfill.
    pub(super) async fn run(self, registrar: &Registrar) -> Result<Exit, Fault> {
        let One { id, whose: Whose { tenant, owner }, json } = self.one;
        let whose = (tenant.as_str(), owner.as_deref());
        let shown = match (self.from, self.status, self.cancel) {
            (Some(from), ..) => {
                let wanted = BackfillWanted {
                    from: Point::Time(from),
                    until: self.until.map(Point::Time),
                    rate: self.rate,
                    coalesce: self.coalesce,
                };
                registrar.backfill(whose, &id, &wanted, &self.by.operator().name).await?
            }
            (None, Some(status), _) => registrar.backfill_shown(whose, &id, &status).await?,
            (None, None, Some(cancel)) => registrar.cancel_backfill(whose, &id, &cancel).await?,
            (None, None, None) => return Err(Fault::usage("name --from, --status or --cancel".to_owned())),
        };
        match json {
            true => output::json(&shown)?,
            false => print(&shown)?,
        }
        Ok(Exit::Fine)
    }
}

fn print(shown: &BackfillShown) -> Result<(), Fault> {
    let BackfillShown { id, state, delivered, set_aside, .. } = shown;
    output::line(&format!("{id} is {state}: {delivered} delivered, {set_aside} set aside"))?;
    for part in &shown.parts {
        let to = part.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
        output::line(&format!(
            "{:<14} partition {:>3}  {} → {} of {to}  {}",
            part.stage, part.partition, part.from, part.at, part.state
        ))?;
    }
    Ok(())
}
