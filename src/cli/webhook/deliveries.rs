//! What was tried for an endpoint.

use super::{One, Whose};
use crate::admin::webhooks::{Registrar, WebhookError};
use crate::cli::exit::{Exit, Fault};
use crate::cli::{output, when};
use crate::event::EventType;
use crate::store::attempts::{self, Wanted};
use crate::store::{Database, webhooks};

/// Which attempts.
#[derive(Debug, clap::Args)]
pub(super) struct Deliveries {
    #[command(flatten)]
    one: One,
    /// Only of this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Only those that ended so
    #[arg(long, value_parser = ["delivered", "failed", "refused", "gone"])]
    outcome: Option<String>,
    /// Only those that were answered with this HTTP status
    #[arg(long)]
    status: Option<i64>,
    /// Only of events of this type, in any spelling
    #[arg(long, value_name = "TYPE")]
    event: Option<EventType>,
    /// Only since then: a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<i64>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<i64>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl Deliveries {
    /// Prints them, newest first.
    pub(super) async fn print(self, db: &Database, registrar: &Registrar) -> Result<Exit, Fault> {
        let One { id, whose: Whose { tenant, owner }, json } = self.one;
        if webhooks::find(db, &tenant, &id, owner.as_deref()).await?.is_none() {
            return Err(WebhookError::NotFound(id).into());
        }
        let wanted = Wanted {
            order_id: self.order.as_deref(),
            outcome: self.outcome.as_deref(),
            status: self.status,
            event_type: self.event.map(EventType::as_str),
            from: self.since,
            to: self.until,
            before: None,
            limit: self.limit.into(),
        };
        for attempt in attempts::of_endpoint(db, &tenant, &id, &wanted).await? {
            let shown = registrar.show_attempt(attempt).map_err(WebhookError::from)?;
            if json {
                output::json(&shown)?;
                continue;
            }
            let status = shown.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            output::line(&format!(
                "{}  {:<9} {status:<3} {:>6} ms  attempt {:<2} {:<20} {}  {}",
                shown.attempted_at,
                shown.outcome,
                shown.latency_ms,
                shown.attempt,
                shown.event,
                shown.order_id,
                shown.error.unwrap_or_default()
            ))?;
        }
        Ok(Exit::Fine)
    }
}
