//! Backfills: delivers a stretch of the past to an endpoint once more. Partition by partition, by their owners.
//!
//! A time is looked up in the log, and where the log begins later, in the history.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FieldFault, Registrar, STAGE, WebhookError};
use crate::admin::{OfStage, Operations};
use crate::clock::rfc3339;
use crate::runtime::inspect;
use crate::store::backfills::{self, Backfill, Part};
use crate::store::cursors::{self, BackfillPart, Wish};
use crate::store::history::past::{self, Log};
use crate::store::webhook_starts::{self, At};
use crate::store::webhooks;

/// The fastest that may be asked for, in events per second.
const MOST_RATE: f64 = 100_000.0;

/// A point of the past, on every partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// A time, epoch milliseconds: the first record that was written then or later.
    Time(i64),
    /// Offsets, by partition; the others aren't meant.
    Offsets(BTreeMap<i32, i64>),
}

/// What is to be delivered again, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillWanted {
    /// From here on.
    pub from: Point,
    /// Up to here, without it; otherwise to where the endpoint is.
    pub until: Option<Point>,
    /// Events per second, at most, over all partitions.
    pub rate: Option<f64>,
    /// Of every order only the newest event.
    pub coalesce: bool,
}

/// A backfill, as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillShown {
    /// Its id.
    pub id: String,
    /// The endpoint.
    pub webhook_id: String,
    /// `running`, `done` or `cancelled`.
    pub state: String,
    /// Of every order only the newest event.
    pub coalesce: bool,
    /// Events per second, at most.
    pub rate: Option<f64>,
    /// Who asked for it.
    pub asked_by: String,
    /// When.
    pub asked_at: String,
    /// Events that the endpoint took at the first try, or tried again in place.
    pub delivered: i64,
    /// Events that ended otherwise: they wait for a later attempt, or were given up.
    pub set_aside: i64,
    /// How far it is on each partition.
    pub parts: Vec<PartShown>,
}

/// A partition's part of a backfill.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartShown {
    /// The stage that delivers.
    pub stage: String,
    /// The partition of its source.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// Offsets below are finished.
    pub at: i64,
    /// Behind the last offset; null until it has begun.
    pub to: Option<i64>,
    /// See the backfill's.
    pub delivered: i64,
    /// See the backfill's.
    pub set_aside: i64,
    /// `running`, `done` or `cancelled`.
    pub state: String,
}

/// A partition's stretch, and where it is asked for.
struct Stretch<'a> {
    of: &'a OfStage<'a>,
    partition: i32,
    from: i64,
    to: Option<i64>,
}

impl Registrar {
    /// Delivers a stretch of the past to an endpoint again; returns when every owner is asked. `by` is who wants it.
    ///
    /// # Errors
    /// See [`WebhookError`]; one backfill of an endpoint runs at a time.
    pub async fn backfill(
        &self,
        (tenant, owner): (&str, Option<&str>),
        id: &str,
        wanted: &BackfillWanted,
        by: &str,
    ) -> Result<BackfillShown, WebhookError> {
        let endpoint = self.find(tenant, owner, id).await?;
        check(wanted)?;
        let reach = self.reach()?;
        if backfills::is_running(&self.db, tenant, id).await? {
            return Err(WebhookError::Backfilling(id.to_owned()));
        }
        let stages = reach.operations.running(STAGE).await?;
        let stretches = self.stretches(&reach.operations, &stages, wanted).await?;
        let starts: BTreeMap<At, i64> = stretches
            .iter()
            .map(|stretch| ((stretch.of.stage.source.to_string(), stretch.partition), stretch.from))
            .collect();
        let finished = match endpoint.choices.is_empty() {
            true => BTreeMap::new(),
            false => self.finished(&reach.operations, &stretches, id).await?,
        };
        let mut tx = self.db.begin().await?;
        let found = webhooks::find_to_change(&mut tx, tenant, id, owner).await?;
        let mut changed = found.ok_or_else(|| WebhookError::NotFound(id.to_owned()))?;
        // What is told again is chosen as it is now; what is still owed, as it was when it was published.
        changed.choices.forget_below(&finished);
        webhooks::change(&mut tx, &changed).await?;
        webhook_starts::lower(&mut tx, (tenant, id), &starts).await?;
        tx.commit().await?;
        // An owner that begins before it knows this would find nothing to deliver.
        self.known().await;
        let now_ms = self.clock.now_ms();
        let backfill = Backfill {
            tenant: tenant.to_owned(),
            id: format!("bf_{}", Uuid::now_v7().simple()),
            endpoint_id: endpoint.id.clone(),
            asked_by: by.to_owned(),
            asked_at: now_ms,
            state: "running".to_owned(),
            rate_milli: wanted.rate.map(|rate| (rate * 1_000.0).ceil() as i64),
            newest_only: wanted.coalesce,
        };
        let every_micros =
            wanted.rate.map(|rate| (stretches.len() as f64 * 1_000_000.0 / rate).ceil() as i64);
        let parts: Vec<(Part, Wish)> =
            stretches.iter().map(|stretch| asked(stretch, &backfill, every_micros)).collect();
        if !backfills::begin(&self.db, &backfill, &parts).await? {
            return Err(WebhookError::Backfilling(id.to_owned()));
        }
        self.backfill_shown((tenant, owner), id, &backfill.id).await
    }

    /// The offset of each partition of `stretches` below which the endpoint has finished everything: that of its cursor,
    /// or that of the stage where it has none.
    async fn finished(
        &self,
        operations: &Operations,
        stretches: &[Stretch<'_>],
        id: &str,
    ) -> Result<BTreeMap<At, i64>, WebhookError> {
        let (mut finished, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for Stretch { of, partition, .. } in stretches {
            let (stage, source) = (&of.stage, of.stage.source.to_string());
            let next = match cursors::next(&self.db, &of.place(*partition), id).await? {
                Some(next) => next,
                None => {
                    let positions = match groups.entry(stage.group.to_string()) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => {
                            let kafka = operations.kafka();
                            unknown.insert(inspect::group_positions(kafka, &stage.group, &source).await?)
                        }
                    };
                    positions.get(partition).and_then(|position| position.offset).unwrap_or(0)
                }
            };
            finished.insert((source, *partition), next);
        }
        Ok(finished)
    }

    /// How far a backfill is.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn backfill_shown(
        &self,
        (tenant, owner): (&str, Option<&str>),
        id: &str,
        backfill: &str,
    ) -> Result<BackfillShown, WebhookError> {
        self.find(tenant, owner, id).await?;
        let found = backfills::find(&self.db, (tenant, id, backfill)).await?;
        found.map(shown).ok_or_else(|| WebhookError::NoBackfill(backfill.to_owned()))
    }

    /// Cancels a backfill: what waits of it is void, and the endpoint is where it was before. One that has ended stays as
    /// it is.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn cancel_backfill(
        &self,
        (tenant, owner): (&str, Option<&str>),
        id: &str,
        backfill: &str,
    ) -> Result<BackfillShown, WebhookError> {
        self.find(tenant, owner, id).await?;
        backfills::cancel(&self.db, (tenant, id, backfill), self.clock.now_ms()).await?;
        self.backfill_shown((tenant, owner), id, backfill).await
    }

    async fn stretches<'a>(
        &self,
        operations: &Operations,
        stages: &'a [OfStage<'a>],
        wanted: &BackfillWanted,
    ) -> Result<Vec<Stretch<'a>>, WebhookError> {
        let by_offset = matches!(wanted.from, Point::Offsets(_));
        let mut stretches = Vec::new();
        for of in stages.iter().filter(|of| !by_offset || of.stage.name == STAGE) {
            let ends = inspect::ends(operations.kafka(), &of.stage.source).await?;
            let from = self.offsets(operations, of, &ends, ("from", &wanted.from)).await?;
            let until = match &wanted.until {
                Some(until) => Some(self.offsets(operations, of, &ends, ("until", until)).await?),
                None => None,
            };
            for (partition, from) in from {
                let to = until.as_ref().and_then(|until| until.get(&partition).copied());
                let end = ends.get(&partition).map_or(0, |(_, high)| *high);
                if from < to.unwrap_or(end).min(end) {
                    stretches.push(Stretch { of, partition, from, to });
                }
            }
        }
        Ok(stretches)
    }

    /// The offset of every partition that `point` means.
    async fn offsets(
        &self,
        operations: &Operations,
        of: &OfStage<'_>,
        ends: &BTreeMap<i32, (i64, i64)>,
        (field, point): (&str, &Point),
    ) -> Result<BTreeMap<i32, i64>, WebhookError> {
        let source = &of.stage.source;
        match point {
            Point::Offsets(offsets) => {
                let fault = |(&partition, &offset): (&i32, &i64)| match ends.get(&partition) {
                    None => Some(fault(&format!("{field}.{partition}"), "there is no such partition")),
                    Some((_, high)) if !(0..=*high).contains(&offset) => {
                        let message = format!("must be between 0 and the partition's end, {high}");
                        Some(fault(&format!("{field}.{partition}"), &message))
                    }
                    Some(_) => None,
                };
                let faults: Vec<FieldFault> = offsets.iter().filter_map(fault).collect();
                match faults.is_empty() {
                    true => Ok(offsets.clone()),
                    false => Err(WebhookError::Fields(faults)),
                }
            }
            Point::Time(at_ms) => {
                let mut first = inspect::first_since(operations.kafka(), source, *at_ms).await?;
                for (&partition, first) in &mut first {
                    let low = ends.get(&partition).map_or(0, |(low, _)| *low);
                    // Where all of the log is younger, what has left it may be as well.
                    if *first <= low && low > 0 {
                        let log = Log { cluster_id: &of.cluster_id, topic: source, partition };
                        let older = past::first_since(&self.db, log, low, *at_ms).await?;
                        *first = older.unwrap_or(*first);
                    }
                }
                Ok(first)
            }
        }
    }
}

fn check(wanted: &BackfillWanted) -> Result<(), WebhookError> {
    let mut faults = Vec::new();
    if wanted.rate.is_some_and(|rate| !(0.001..=MOST_RATE).contains(&rate)) {
        faults.push(fault("rate", &format!("must be between 0.001 and {MOST_RATE} events per second")));
    }
    match (&wanted.from, &wanted.until) {
        (Point::Time(from), Some(Point::Time(until))) if until <= from => {
            faults.push(fault("until", "must be later than from"));
        }
        (Point::Time(_), Some(Point::Offsets(_))) | (Point::Offsets(_), Some(Point::Time(_))) => {
            faults.push(fault("until", "must be of the same kind as from: a time, or offsets by partition"));
        }
        (Point::Offsets(from), _) if from.is_empty() => {
            faults.push(fault("from", "must name a partition"));
        }
        _ => {}
    }
    if faults.is_empty() { Ok(()) } else { Err(WebhookError::Fields(faults)) }
}

fn fault(field: &str, message: &str) -> FieldFault {
    FieldFault { field: field.to_owned(), message: message.to_owned(), unknown_event: false }
}

fn asked(stretch: &Stretch<'_>, backfill: &Backfill, every_micros: Option<i64>) -> (Part, Wish) {
    let place = stretch.of.place(stretch.partition);
    let progress = BackfillPart {
        backfill: backfill.id.clone(),
        from: stretch.from,
        at: stretch.from,
        to: None,
        delivered: 0,
        set_aside: 0,
        state: "running".to_owned(),
    };
    let part = Part {
        stage: place.stage.to_owned(),
        cluster_id: place.cluster_id.to_owned(),
        topic_id: place.topic_id.to_owned(),
        partition: stretch.partition,
        progress,
    };
    let wish = Wish {
        target: backfill.endpoint_id.clone(),
        kind: "backfill".to_owned(),
        from: Some(stretch.from),
        to: stretch.to,
        backfill: Some(backfill.id.clone()),
        every_micros,
        newest_only: backfill.newest_only,
    };
    (part, wish)
}

fn shown((backfill, parts): (Backfill, Vec<Part>)) -> BackfillShown {
    let sum = |of: fn(&BackfillPart) -> i64| parts.iter().map(|part| of(&part.progress)).sum();
    BackfillShown {
        id: backfill.id,
        webhook_id: backfill.endpoint_id,
        state: backfill.state,
        coalesce: backfill.newest_only,
        rate: backfill.rate_milli.map(|rate| rate as f64 / 1_000.0),
        asked_by: backfill.asked_by,
        asked_at: rfc3339(backfill.asked_at),
        delivered: sum(|part| part.delivered),
        set_aside: sum(|part| part.set_aside),
        parts: parts
            .into_iter()
            .map(|Part { stage, partition, progress, .. }| PartShown {
                stage,
                partition,
                from: progress.from,
                at: progress.at,
                to: progress.to,
                delivered: progress.delivered,
                set_aside: progress.set_aside,
                state: progress.state,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_a_stretch_is_named_by_field() {
        let wanted = |from: Point, until: Option<Point>, rate: Option<f64>| {
            let wanted = BackfillWanted { from, until, rate, coalesce: false };
            match check(&wanted) {
                Ok(()) => Vec::new(),
                Err(WebhookError::Fields(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
                Err(other) => panic!("{other}"),
            }
        };
        let none: Vec<String> = Vec::new();
        let offsets = |offset| Point::Offsets(BTreeMap::from([(0, offset)]));
        assert_eq!(wanted(Point::Time(5), Some(Point::Time(6)), Some(0.5)), none);
        assert_eq!(wanted(offsets(3), Some(offsets(3)), None), none, "an empty stretch is one");
        assert_eq!(wanted(Point::Time(5), Some(Point::Time(5)), None), ["until"]);
        assert_eq!(wanted(Point::Time(5), Some(offsets(9)), Some(f64::NAN)), ["rate", "until"]);
        assert_eq!(wanted(Point::Offsets(BTreeMap::new()), None, Some(0.0)), ["rate", "from"]);
    }
}
