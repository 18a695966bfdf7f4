//! Sends deliveries of an endpoint again.

use super::{One, Whose};
use crate::admin::webhooks::{Registrar, ResendWanted, Resent};
use crate::cli::exit::{Exit, Fault};
use crate::cli::{output, when};

/// Which deliveries.
#[derive(Debug, clap::Args)]
pub(super) struct Resend {
    #[command(flatten)]
    one: One,
    /// The delivery, as `webhook deliveries --json` tells its deliveryId
    #[arg(required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    delivery: Option<String>,
    /// Those whose newest attempt was then or later: a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = when::parse, requires = "to")]
    from: Option<i64>,
    /// And before then
    #[arg(long, value_name = "TIME", value_parser = when::parse, requires = "from")]
    to: Option<i64>,
    /// Only those whose newest attempt ended so
    #[arg(long, value_parser = ["delivered", "failed", "refused", "gone"], requires = "from")]
    outcome: Option<String>,
    /// Only of this order
    #[arg(long, value_name = "ID", requires = "from")]
    order: Option<String>,
    /// How many at most, up to 500
    #[arg(long, requires = "from")]
    limit: Option<u32>,
}

impl Resend {
    /// Sends them and says how many.
    pub(super) async fn run(self, registrar: &Registrar) -> Result<Exit, Fault> {
        let One { id, whose: Whose { tenant, owner }, json } = self.one;
        let wanted = match (self.delivery, self.from, self.to) {
            (Some(delivery), ..) => ResendWanted::One(delivery),
            (None, Some(from_ms), Some(to_ms)) => ResendWanted::Range {
                from_ms,
                to_ms,
                outcome: self.outcome,
                order_id: self.order,
                limit: self.limit,
            },
            (None, ..) => return Err(Fault::usage("name a delivery, or --from and --to".to_owned())),
        };
        let resent = registrar.resend((&tenant, owner.as_deref()), &id, &wanted).await?;
        if json {
            output::json(&resent)?;
        } else {
            let Resent { id, deliveries, gone, more } = &resent;
            output::line(&format!("{id}: {deliveries} deliveries are on their way"))?;
            for delivery in gone {
                output::complain(&format!("the event of {delivery} is nowhere any more"));
            }
            if *more {
                output::complain("there are more: send the rest from the last one's time on");
            }
        }
        Ok(Exit::Fine)
    }
}
