//! Brings what operators wish from the store to the stages of this process, and what the stages answer back.
//!
//! One task per process asks the store once a second. A stage starts nothing before the store has told for the first
//! time whether it is paused; when the store goes away later, what was known last stands.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use crate::clock::Clock;
use crate::runtime::control::{Order, OrderKind, StageReport, Wishes};
use crate::runtime::{Control, StageSpec};
use crate::store::audit::Entry;
use crate::store::orders::{self, Kind, State, StoredOrder};
use crate::store::{Database, StoreError, controls};
use crate::task;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Who is named in the audit when a stage pauses itself.
pub const BREAKER: &str = "the dead-letter breaker";

/// Puts the stages of `specs` under the store's control, until `stop`.
pub(super) fn take_charge<T>(
    parts: &Parts,
    specs: Vec<(T, StageSpec)>,
    stop: &CancellationToken,
) -> Vec<(T, StageSpec)> {
    let mut charges = Vec::with_capacity(specs.len());
    let controlled = specs
        .into_iter()
        .map(|(of, mut spec)| {
            let (control, of_stage) = Control::new();
            spec.control = of_stage;
            charges.push(Charge { stage: spec.stage.clone(), control, unwritten: Vec::new() });
            (of, spec)
        })
        .collect();
    let warden = Warden { db: parts.db.clone(), clock: parts.env.clock.clone(), charges };
    // Ends with `stop`, and holds nothing that would have to be brought to an end.
    drop(task::spawn("stage control", warden.run(stop.clone())));
    controlled
}

/// One stage of this process.
struct Charge {
    stage: String,
    control: Control,
    /// Reports that the store didn't take yet; bounded by what a stage may report.
    unwritten: Vec<StageReport>,
}

struct Warden {
    db: Database,
    clock: Clock,
    charges: Vec<Charge>,
}

impl Warden {
    async fn run(mut self, stop: CancellationToken) {
        let mut told = false;
        loop {
            match self.round().await {
                Ok(()) if told => {
                    tracing::info!("the store tells again what operators wish");
                    told = false;
                }
                Ok(()) => {}
                Err(error) if told => {
                    tracing::debug!(%error, "the store still does not tell what operators wish")
                }
                Err(error) => {
                    tracing::warn!(%error, "the store does not tell what operators wish; what was known stands");
                    told = true;
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.clock.sleep(EVERY) => {}
            }
        }
        // What the stages said last, if the store is there to hear it.
        if let Err(error) = self.write_reports().await {
            tracing::warn!(%error, "the last reports of the stages were not written");
        }
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        self.write_reports().await?;
        let known = controls::all(&self.db).await?;
        let open = orders::open(&self.db).await?;
        for charge in &self.charges {
            let state = known.iter().find(|state| state.stage == charge.stage);
            let paused = state.filter(|state| state.paused);
            charge.control.wish(Wishes {
                paused: paused.map(|state| format!("{}: {}", state.changed_by, state.reason).into()),
                version: state.map_or(0, |state| state.version),
                orders: open.iter().filter(|order| order.stage == charge.stage).filter_map(order).collect(),
            });
        }
        Ok(())
    }

    async fn write_reports(&mut self) -> Result<(), StoreError> {
        for charge in &mut self.charges {
            charge.unwritten.extend(std::iter::from_fn(|| charge.control.report()));
            while let Some(report) = charge.unwritten.first() {
                write(&self.db, &self.clock, &charge.stage, report).await?;
                charge.unwritten.remove(0);
            }
        }
        Ok(())
    }
}

/// An order as the engine takes it; none when its argument makes no sense.
fn order(stored: &StoredOrder) -> Option<Order> {
    let argument = stored.argument.as_str();
    let what = match stored.kind {
        Kind::Release => OrderKind::Release { lane: argument.into() },
        Kind::Skip => OrderKind::Skip { lane: argument.into() },
        Kind::Replay => OrderKind::Replay { to: argument.parse().ok()? },
    };
    Some(Order { id: stored.id.as_str().into(), partition: stored.partition, what })
}

async fn write(db: &Database, clock: &Clock, stage: &str, report: &StageReport) -> Result<(), StoreError> {
    match report {
        StageReport::Tripped { reason } => {
            let audited = Entry {
                id: Uuid::now_v7().to_string(),
                at_ms: clock.now_ms(),
                actor: BREAKER.to_owned(),
                action: "stage.pause".to_owned(),
                stage: stage.to_owned(),
                reason: reason.to_string(),
                detail: "{}".to_owned(),
            };
            controls::set_paused(db, true, &audited).await.map(drop)
        }
        StageReport::Answered { id, answer } => {
            let (state, words) = match answer {
                Ok(words) => (State::Done, words),
                Err(words) => (State::Refused, words),
            };
            orders::settle(db, id, state, words, clock.now_ms()).await.map(drop)
        }
    }
}
