//! The dispute stage: keeps every dispute, and gives it to a moderator.
//!
//! What moves a dispute is in `transitions.rs`. When one is opened, who has least to do on the tenant's roster is
//! given it, and `dispute.assigned` goes to the order's topic through the outbox, so that it reaches history,
//! notifications and webhooks as everybody else's events do. Its id comes from the opening's, so a repeat is
//! the same event. Deadlines and evidence files have no place here yet.

pub mod transitions;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::transitions::Change;
use super::Parts;
use super::notification::unencoded;
use super::store_stage::{self, HandlerError, Incoming, StoreHandler};
use crate::clock::Clock;
use crate::crypto::{Subject, Vault};
use crate::event::{
    self, Actor, ActorRole, Codec, DisputeOutcome, DisputeStage, Event, EventType, Factory, Money,
    TraceParent, effect_id,
};
use crate::runtime::{StageHandle, StageSpec};
use crate::store::conversations::OrderKey;
use crate::store::disputes::{self, Dispute, Funds, Stage, Status};
use crate::store::{Database, Transaction, outbox};
use crate::task;
use crate::telemetry::Metrics;
use crate::topology;

/// The stage's name.
pub const NAME: &str = "dispute";

/// How often open disputes are counted.
const COUNTED_EVERY: Duration = Duration::from_secs(10);

/// `[dispute]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DisputeOptions {
    /// The user ids that a tenant's roster begins with when its first dispute is opened.
    pub moderators: Vec<String>,
    /// How many open disputes each of them should have at most; beyond that, whoever has fewest.
    pub capacity: u32,
}

impl Default for DisputeOptions {
    fn default() -> Self {
        Self { moderators: vec!["moderator-1".to_owned()], capacity: 20 }
    }
}

/// Keeps disputes.
#[derive(Debug, Clone)]
pub struct Disputes {
    vault: Vault,
    codec: Codec,
    events: Arc<str>,
    clock: Clock,
    metrics: Arc<Metrics>,
    options: DisputeOptions,
}

impl Disputes {
    /// A dispute stage that publishes to the topic `events`.
    pub fn new(
        vault: Vault,
        codec: Codec,
        events: impl Into<Arc<str>>,
        clock: Clock,
        metrics: Arc<Metrics>,
        options: DisputeOptions,
    ) -> Self {
        for stage in Stage::ALL {
            metrics.dispute_open.with_label_values(&[stage.as_str()]);
        }
        Self { vault, codec, events: events.into(), clock, metrics, options }
    }
}

impl StoreHandler for Disputes {
    /// How many disputes are open by stage, if that changed.
    type Tally = Option<Vec<(Stage, i64)>>;

    fn takes(&self, event_type: EventType) -> bool {
        event_type.as_str().starts_with("dispute.")
    }

    async fn apply(&self, tx: &mut Transaction, batch: &[Incoming]) -> Result<Self::Tally, HandlerError> {
        let mut changed = false;
        for incoming in batch {
            changed |= self.take(tx, incoming).await?;
        }
        Ok(if changed { Some(disputes::open_by_stage_in(tx).await?) } else { None })
    }

    fn committed(&self, open: Self::Tally) {
        if let Some(open) = open {
            show(&self.metrics, &open);
        }
    }
}

/// Shows how many disputes are open.
fn show(metrics: &Metrics, open: &[(Stage, i64)]) {
    for stage in Stage::ALL {
        let count = open.iter().find(|(other, _)| other == stage).map_or(0, |(_, count)| *count);
        metrics.dispute_open.with_label_values(&[stage.as_str()]).set(count);
    }
}

/// Keeps the number of open disputes true in a member that hasn't changed any: after its start, and when others do.
async fn watch(db: Database, metrics: Arc<Metrics>, clock: Clock, stop: CancellationToken) {
    loop {
        match disputes::open_by_stage(&db).await {
            Ok(open) => show(&metrics, &open),
            Err(error) => tracing::debug!(%error, "open disputes can't be counted now"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(COUNTED_EVERY) => {}
        }
    }
}

impl Disputes {
    /// Applies one event; true when its dispute changed.
    async fn take(&self, tx: &mut Transaction, incoming: &Incoming) -> Result<bool, HandlerError> {
        let meta = incoming.event.meta();
        let key = OrderKey::new(&meta.tenant_id, &meta.order_id);
        let Some((dispute_id, change)) = self.change(&incoming.event)? else { return Ok(false) };
        let before = disputes::find_in(tx, &key, dispute_id).await?;
        let after = transitions::apply(before.as_ref(), &change, meta.occurred_at);
        let Some(mut dispute) = after else { return Ok(false) };
        let opens = matches!(change, Change::Opened { .. });
        if opens && dispute.status.is_open() && dispute.moderator_id.is_none() {
            self.assign(tx, incoming, dispute_id, &mut dispute).await?;
        }
        disputes::put(tx, &key, dispute_id, &dispute).await?;
        Ok(true)
    }

    /// Gives the dispute to a moderator and says so on the order's topic.
    async fn assign(
        &self,
        tx: &mut Transaction,
        incoming: &Incoming,
        dispute_id: &str,
        dispute: &mut Dispute,
    ) -> Result<(), HandlerError> {
        let mut cause = incoming.event.meta().clone();
        cause.event_id = incoming.event_id.to_string();
        let roster = self.roster(tx, &cause.tenant_id).await?;
        let Some(moderator) = transitions::assign(&roster) else {
            tracing::warn!(
                tenant = cause.tenant_id,
                order = cause.order_id,
                "nobody is on the roster of moderators; the dispute waits unassigned"
            );
            return Ok(());
        };
        dispute.moderator_id = Some(moderator.to_owned());
        let kind = EventType::DisputeAssigned.as_str();
        let id = effect_id(&cause.tenant_id, incoming.event_id, NAME, kind, dispute_id);
        let now_ms = self.clock.now_ms();
        let mut assigned = Factory::new(&cause.tenant_id, "orderflow")
            .follow(&cause)
            .acting(Actor { id: "orderflow".to_owned(), role: ActorRole::System })
            .with_id(id)
            .dispute_assigned(&cause.order_id, now_ms.max(cause.occurred_at), dispute_id, moderator);
        assigned.order = incoming.event.snapshot().cloned();
        let event = Event::from(assigned);
        let payload = self.codec.encode(&self.events, &event).await.map_err(unencoded)?;
        let trace = incoming.record.headers.last("traceparent");
        let trace = trace.and_then(TraceParent::parse_header).map(TraceParent::child);
        let message = outbox::Message {
            id,
            tenant: cause.tenant_id.clone(),
            topic: self.events.to_string(),
            partition: None,
            key: Some(cause.order_id.clone().into_bytes()),
            kind: EventType::DisputeAssigned.as_str().to_owned(),
            payload: Some(payload),
            headers: event::headers(&event, trace.as_ref()),
        };
        outbox::append(tx, &message, now_ms).await?;
        Ok(())
    }

    /// The tenant's roster; one that is empty begins with the configured moderators.
    async fn roster(&self, tx: &mut Transaction, tenant: &str) -> Result<Vec<disputes::Load>, HandlerError> {
        if !disputes::has_roster_in(tx, tenant).await? {
            for moderator in &self.options.moderators {
                disputes::enlist(tx, tenant, moderator, i64::from(self.options.capacity)).await?;
            }
        }
        Ok(disputes::loads_in(tx, tenant).await?)
    }

    /// What an event says about which dispute. Values of a newer schema that we can't place change nothing.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the stage takes no other events")]
    fn change<'a>(&self, event: &'a Event) -> Result<Option<(&'a str, Change)>, HandlerError> {
        Ok(Some(match event {
            Event::DisputeInitiated(e) => {
                let subject = Subject::Person { tenant: &e.meta.tenant_id, person: &e.opened_by };
                let seal = |text: &String| self.vault.seal(subject, text.as_bytes());
                let description = e.description.as_ref().map(seal).transpose();
                let opened = Change::Opened {
                    opened_by: e.opened_by.clone(),
                    reason: e.reason.clone(),
                    description: description.map_err(|error| HandlerError::Data(error.to_string()))?,
                    amount: e
                        .amount
                        .as_ref()
                        .map(|Money { amount_minor, currency }| (*amount_minor, currency.clone())),
                };
                (&e.dispute_id, opened)
            }
            Event::DisputeAssigned(e) => (&e.dispute_id, Change::Assigned(e.moderator_id.clone())),
            Event::DisputeEvidenceSubmitted(e) => (&e.dispute_id, Change::Evidence),
            Event::DisputeEscalated(e) => match stage(e.to_stage) {
                Some(stage) => (&e.dispute_id, Change::Escalated(stage)),
                None => return Ok(None),
            },
            Event::DisputeFundsHeld(e) => (&e.dispute_id, Change::Funds(Funds::Held)),
            Event::DisputeFundsReleased(e) => (&e.dispute_id, Change::Funds(Funds::Released)),
            Event::DisputeFundsRefunded(e) => (&e.dispute_id, Change::Funds(Funds::Refunded)),
            Event::DisputeResolved(e) => match ended(e.outcome) {
                Some(status) => (&e.dispute_id, Change::Ended(status)),
                None => return Ok(None),
            },
            Event::DisputeClosed(e) => (&e.dispute_id, Change::Ended(Status::Closed)),
            _ => return Ok(None),
        }))
    }
}

fn stage(stage: DisputeStage) -> Option<Stage> {
    match stage {
        DisputeStage::Inquiry => Some(Stage::Inquiry),
        DisputeStage::Chargeback => Some(Stage::Chargeback),
        DisputeStage::PreArbitration => Some(Stage::PreArbitration),
        DisputeStage::Arbitration => Some(Stage::Arbitration),
        DisputeStage::Unknown => None,
    }
}

fn ended(outcome: DisputeOutcome) -> Option<Status> {
    match outcome {
        DisputeOutcome::Won => Some(Status::Won),
        DisputeOutcome::Lost => Some(Status::Lost),
        DisputeOutcome::Settled => Some(Status::Settled),
        DisputeOutcome::Withdrawn => Some(Status::Withdrawn),
        DisputeOutcome::Unknown => None,
    }
}

/// Starts one member of the stage.
pub fn start(parts: &Parts, _: &topology::Stage, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let handler = Disputes::new(
        parts.vault.clone(),
        parts.codec.clone(),
        spec.source.as_str(),
        parts.env.clock.clone(),
        Arc::clone(&parts.env.metrics),
        parts.options.dispute.clone(),
    );
    let (db, metrics, clock) = (parts.db.clone(), Arc::clone(&parts.env.metrics), parts.env.clock.clone());
    // Nobody waits for it: it ends with the stage.
    drop(task::spawn("open disputes", watch(db, metrics, clock, stop.clone())));
    store_stage::start(parts, handler, spec, stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    #[tokio::test]
    async fn a_member_that_starts_tells_of_disputes_that_were_opened_before() {
        each_engine(async |db| {
            let mut tx = db.begin().await.unwrap();
            let dispute = transitions::apply(None, &Change::Evidence, 5).unwrap();
            disputes::put(&mut tx, &OrderKey::new("shop", "o-1"), "d-1", &dispute).await.unwrap();
            tx.commit().await.unwrap();
            let (metrics, stop) = (Metrics::new(), CancellationToken::new());
            // Stopped before it begins, it counts once.
            stop.cancel();
            watch(db, Arc::clone(&metrics), Clock::system(), stop).await;
            let inquiry = metrics.dispute_open.with_label_values(&[Stage::Inquiry.as_str()]);
            assert_eq!(inquiry.get(), 1);
        })
        .await;
    }
}
