//! What was tried for endpoints: how a delivery stands, how many there were, and how long they are kept.

use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{AttemptShown, Registrar, WebhookError};
use crate::clock::Clock;
use crate::store::attempts::{self, Attempt, Tally};
use crate::store::{Database, StoreError};
use crate::store::{backfills, cursor_gaps, webhooks};

/// Over how long [`Registrar::stats`] counts.
const STATS_OVER: Duration = Duration::from_secs(24 * 60 * 60);
/// Attempts of one delivery that are shown: far more than there are.
const MOST_SHOWN: i64 = 200;

/// How webhooks do.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Endpoints there are.
    pub registered_webhooks: u64,
    /// Those of them that are delivered to.
    pub enabled_webhooks: u64,
    /// Deliveries that were taken, in these `hours`.
    pub delivered_webhooks: u64,
    /// Deliveries that were given up, in these `hours`.
    pub failed_webhooks: u64,
    /// Deliveries that failed and wait for their next attempt.
    pub queued_webhooks: u64,
    /// Delivered out of what ended, from 0 to 1; null when nothing did.
    pub delivery_rate: Option<f64>,
    /// How many hours back is counted.
    pub hours: u64,
}

/// The delivery of one event to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryShown {
    /// The same for all its attempts.
    pub id: String,
    /// The header `webhook-id`.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event: String,
    /// Its order.
    pub order_id: String,
    /// `delivered`, `waiting` for its next attempt (also while the endpoint is paused or disabled), or `failed`.
    pub state: &'static str,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptShown>,
}

impl Registrar {
    /// How the endpoints of `tenant`, or of its partner `owner`, do. Counted is the last day.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn stats(&self, tenant: &str, owner: Option<&str>) -> Result<Stats, StoreError> {
        let over = i64::try_from(STATS_OVER.as_millis()).unwrap_or(i64::MAX);
        let since_ms = self.clock.now_ms().saturating_sub(over);
        let count = webhooks::count_of(&self.db, tenant, owner).await?;
        let Tally { delivered, failed, waiting } = attempts::tally(&self.db, tenant, owner, since_ms).await?;
        let ended = delivered + failed;
        Ok(Stats {
            registered_webhooks: count.registered,
            enabled_webhooks: count.enabled,
            delivered_webhooks: delivered,
            failed_webhooks: failed,
            queued_webhooks: waiting,
            delivery_rate: (ended > 0).then(|| delivered as f64 / ended as f64),
            hours: STATS_OVER.as_secs() / 3_600,
        })
    }

    /// The delivery called `delivery_id` to an endpoint, with all its attempts.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`] when there is no such endpoint, [`WebhookError::NoDelivery`] when nothing was tried.
    pub async fn delivery(
        &self,
        tenant: &str,
        owner: Option<&str>,
        id: &str,
        delivery_id: &str,
    ) -> Result<DeliveryShown, WebhookError> {
        self.find(tenant, owner, id).await?;
        let rows = attempts::of_delivery(&self.db, tenant, id, delivery_id, MOST_SHOWN).await?;
        let Some(last) = rows.last() else {
            return Err(WebhookError::NoDelivery(delivery_id.to_owned()));
        };
        let state = match rows.iter().any(|row| row.outcome == "delivered") {
            true => "delivered",
            false if last.next_attempt_at.is_some() => "waiting",
            false => "failed",
        };
        let Attempt { webhook_id, event_id, event_type, order_id, .. } = last.clone();
        let shown = rows.into_iter().map(|attempt| self.show_attempt(attempt));
        Ok(DeliveryShown {
            id: delivery_id.to_owned(),
            webhook_id,
            event_id,
            event: event_type,
            order_id,
            state,
            attempts: shown.collect::<Result<_, _>>()?,
        })
    }
}

/// Forgets attempts that are older than they are kept, backfills that ended as long ago, and gaps that were met as long ago.
#[derive(Debug)]
pub struct Forgetting {
    /// Where they are.
    pub db: Database,
    /// Tells the time.
    pub clock: Clock,
    /// How long they are kept.
    pub kept: Duration,
}

impl Forgetting {
    /// Rows of one transaction: short enough that nobody waits for it.
    const BATCH: i64 = 2_000;
    /// Between looks.
    const EVERY: Duration = Duration::from_secs(600);
    /// Between batches, so that others get at the tables.
    const PAUSE: Duration = Duration::from_millis(100);

    /// Runs until `stop`. In several processes at once it is needless, and does no harm.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let pause = match self.forget_some().await {
                Ok(forgotten) if forgotten >= Self::BATCH.unsigned_abs() => Self::PAUSE,
                Ok(_) => Self::EVERY,
                // The store is away: others say so.
                Err(error) => {
                    tracing::debug!(%error, "old webhook attempts can't be forgotten");
                    Self::EVERY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    async fn forget_some(&self) -> Result<u64, StoreError> {
        let (now_ms, kept) = (self.clock.now_ms(), i64::try_from(self.kept.as_millis()).unwrap_or(i64::MAX));
        let before_ms = now_ms.saturating_sub(kept);
        backfills::forget(&self.db, before_ms, now_ms).await?;
        let gaps = cursor_gaps::forget(&self.db, before_ms, now_ms, Self::BATCH).await?;
        Ok(gaps.max(attempts::forget(&self.db, before_ms, Self::BATCH).await?))
    }
}
