//! Resending: an event that was delivered, or wasn't, goes to its endpoint once more, now, and exempt from order.
//!
//! The event's record is appended to the retry topic as a task in a lane of its own: it waits for nothing and nothing
//! waits for it. Bytes and id are those of the first time, and a header says that it is a resend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FieldFault, Registrar, STAGE, WebhookError};
use crate::admin::OfStage;
use crate::event::EventType;
use crate::runtime::retry::{Mark, REDRIVE_ID, RESEND, TaskOf};
use crate::runtime::{Headers, OutRecord, Record, inspect};
use crate::store::deliveries::{self, Delivery, Range};
use crate::store::history::past::{self, Log, NotMade};
use crate::store::history::{self, Place};
use crate::store::webhooks::{Endpoint, EndpointState};

/// Deliveries of one request, at most.
const MOST: u32 = 500;

/// What is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResendWanted {
    /// This delivery.
    One(String),
    /// Those whose last attempt was in this time.
    Range {
        /// From then on, epoch milliseconds.
        from_ms: i64,
        /// Before then.
        to_ms: i64,
        /// Only those whose last attempt ended so.
        outcome: Option<String>,
        /// Only of this order.
        order_id: Option<String>,
        /// How many at most; 500 when left out, and no more.
        limit: Option<u32>,
    },
}

/// What was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resent {
    /// Names the resend.
    pub id: String,
    /// Deliveries that are on their way.
    pub deliveries: u64,
    /// Deliveries whose events are neither in the log nor in the history any more.
    pub gone: Vec<String>,
    /// There are more than the limit allowed: ask again from the last one's time on.
    pub more: bool,
}

/// A delivery and where its event lies.
struct Found {
    delivery: Delivery,
    place: Place,
}

impl Registrar {
    /// Sends deliveries of an endpoint again; returns when they can't be lost any more.
    ///
    /// # Errors
    /// See [`WebhookError`]; an endpoint that isn't served is sent nothing.
    pub async fn resend(
        &self,
        (tenant, owner): (&str, Option<&str>),
        id: &str,
        wanted: &ResendWanted,
    ) -> Result<Resent, WebhookError> {
        let endpoint = self.find(tenant, owner, id).await?;
        match &endpoint.state {
            EndpointState::Enabled => {}
            state @ (EndpointState::Paused | EndpointState::Disabled(_)) => {
                return Err(WebhookError::NotServed { id: id.to_owned(), state: state.as_str() });
            }
        }
        let (deliveries, more) = self.deliveries(&endpoint, wanted).await?;
        let resend = format!("rs_{}", Uuid::now_v7().simple());
        let (mut gone, mut sent) = (Vec::new(), 0);
        let mut by_partition: BTreeMap<(String, i32), Vec<Found>> = BTreeMap::new();
        for delivery in deliveries {
            let place = match &delivery.place {
                Some(place) => Some(place.clone()),
                None => history::place_of(&self.db, tenant, &delivery.event_id).await?,
            };
            match place {
                Some(place) => by_partition
                    .entry((place.topic.clone(), place.partition))
                    .or_default()
                    .push(Found { delivery, place }),
                None => gone.push(delivery.id),
            }
        }
        let stages = self.reach()?.operations.running(STAGE).await?;
        for ((topic, partition), found) in by_partition {
            let of = stages.iter().find(|of| *of.stage.source == *topic);
            let records = match of {
                Some(of) => self.records(of, partition, &found).await?,
                None => BTreeMap::new(),
            };
            let mut out = Vec::new();
            for Found { delivery, place } in found {
                match of.zip(records.get(&place.offset)) {
                    Some((of, record)) => out.extend(again(of, &endpoint, &delivery, record, &resend)),
                    None => gone.push(delivery.id),
                }
            }
            sent += out.len() as u64;
            let producer = self.reach()?.operations.producer();
            try_join_all(out.into_iter().map(|record| producer.send(record))).await?;
        }
        match wanted {
            ResendWanted::One(delivery) if sent == 0 => Err(WebhookError::EventGone(delivery.clone())),
            ResendWanted::One(_) | ResendWanted::Range { .. } => {
                Ok(Resent { id: resend, deliveries: sent, gone, more })
            }
        }
    }

    /// The deliveries that are wanted, and whether there are more.
    async fn deliveries(
        &self,
        endpoint: &Endpoint,
        wanted: &ResendWanted,
    ) -> Result<(Vec<Delivery>, bool), WebhookError> {
        let of = (endpoint.tenant.as_str(), endpoint.id.as_str());
        match wanted {
            ResendWanted::One(id) => {
                let found = deliveries::find(&self.db, of, id).await?;
                let found = found.ok_or_else(|| WebhookError::NoDelivery(id.clone()))?;
                Ok((vec![found], false))
            }
            ResendWanted::Range { from_ms, to_ms, outcome, order_id, limit } => {
                let limit = limit.unwrap_or(MOST);
                let mut faults = Vec::new();
                let mut fault = |field: &str, message: String| {
                    faults.push(FieldFault { field: field.to_owned(), message, unknown_event: false });
                };
                if to_ms <= from_ms {
                    fault("to", "must be later than from".to_owned());
                }
                if !(1..=MOST).contains(&limit) {
                    fault("limit", format!("must be between 1 and {MOST}"));
                }
                if !faults.is_empty() {
                    return Err(WebhookError::Fields(faults));
                }
                let range = Range {
                    from_ms: *from_ms,
                    to_ms: *to_ms,
                    outcome: outcome.as_deref(),
                    order_id: order_id.as_deref(),
                };
                let mut found = deliveries::between(&self.db, of, range, i64::from(limit) + 1).await?;
                let more = found.len() > limit as usize;
                found.truncate(limit as usize);
                Ok((found, more))
            }
        }
    }

    /// The records of one partition: from the log, or made anew from the history.
    async fn records(
        &self,
        of: &OfStage<'_>,
        partition: i32,
        found: &[Found],
    ) -> Result<BTreeMap<i64, Record>, WebhookError> {
        let reach = self.reach()?;
        let source = &of.stage.source;
        let offsets: BTreeSet<i64> = found.iter().map(|found| found.place.offset).collect();
        let mut records =
            inspect::records_at(reach.operations.kafka(), source, partition, offsets.clone()).await?;
        for offset in offsets {
            if records.contains_key(&offset) {
                continue;
            }
            let log = Log { cluster_id: &of.cluster_id, topic: source, partition };
            for past in past::between(&self.db, log, (offset, offset + 1), 1).await? {
                match past::value(&past, source, &self.vault, &reach.codec).await {
                    Ok(payload) => {
                        let record = Record {
                            topic: Arc::clone(source),
                            partition,
                            offset,
                            timestamp_ms: Some(past.stored.recorded_at),
                            key: Some(past.order_id.into_bytes().into()),
                            payload: Some(payload.into()),
                            headers: Headers::default(),
                        };
                        records.insert(offset, record);
                    }
                    Err(NotMade::Never(why)) => {
                        tracing::error!(
                            partition,
                            offset,
                            why,
                            "an event of the history can't be made a record"
                        );
                    }
                    Err(NotMade::Away(why)) => return Err(WebhookError::Registry(why)),
                }
            }
        }
        Ok(records)
    }
}

/// The record that sends a delivery again; none when the stage has nowhere to put it.
fn again(
    of: &OfStage<'_>,
    endpoint: &Endpoint,
    delivery: &Delivery,
    record: &Record,
    resend: &str,
) -> Option<OutRecord> {
    let retry = of.stage.retry_topic.as_ref()?;
    let priority = match delivery.event_type.parse::<EventType>() {
        Ok(event_type) => of.stage.priority_of(event_type),
        Err(_unknown) => of.stage.priority,
    };
    let own = Uuid::now_v7().simple();
    let lane = format!("resend|{}|{}|{}|{own}", endpoint.tenant, delivery.order_id, endpoint.id);
    let task = TaskOf { lane: lane.into(), target: endpoint.id.as_str().into(), priority };
    let mark = Mark { task: Some(task), ..Mark::of(record, &of.stage.name.as_str().into(), "") };
    let mut headers = mark.write(&record.headers);
    // Nobody's epoch: it is taken up whoever owns the partition.
    headers.push(REDRIVE_ID, resend);
    headers.push(RESEND, resend);
    Some(OutRecord {
        topic: Arc::clone(retry),
        partition: Some(record.partition),
        key: record.key.clone(),
        payload: record.payload.clone(),
        headers,
        timestamp_ms: None,
    })
}
