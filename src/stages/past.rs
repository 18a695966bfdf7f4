//! Records that have left the log, made anew from the history: same partition, offset and key, the same event.
//!
//! The history keeps events, not bytes, so that the value is written anew with the newest schema, and headers are gone.
//! What a stage makes of the event is the same. The history tells of everything between its first event of a partition
//! and its stage's position: what it doesn't hold there was nobody's event. Outside of that nobody knows.

use std::sync::Arc;

use crate::crypto::Vault;
use crate::event::Codec;
use crate::runtime::cursor::Past;
use crate::runtime::{ErrorClass, Failure, Headers, Record, SourcePartition};
use crate::store::history::past::{self, Log, NotMade, PastEvent};
use crate::store::positions::{self, Place};
use crate::store::{Database, StoreError};

/// Events that are read at once.
const AT_ONCE: usize = 256;

/// The history of one source, as records.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Holds it.
    pub db: Database,
    /// Opens personal values.
    pub vault: Vault,
    /// Writes events.
    pub codec: Codec,
    /// The stage that keeps it; without one nothing is known.
    pub keeper: Option<Arc<str>>,
}

impl Archive {
    /// What is known of the records `from..to`, as much as is read at once.
    ///
    /// # Errors
    /// When the store or the registry is away.
    pub async fn read(&self, at: &SourcePartition, from: i64, to: i64) -> Result<Past, Failure> {
        let Some((first, end)) = self.known(at).await.map_err(away)?.filter(|(_, end)| from < *end) else {
            return Ok(Past::nothing(from, to));
        };
        if to <= first {
            return Ok(Past::nothing(from, to));
        }
        let (begin, to) = (from.max(first), to.min(end));
        let mut gap = (from < begin).then_some((from, begin));
        let log = Log { cluster_id: &at.cluster_id, topic: &at.topic, partition: at.partition };
        let events = past::between(&self.db, log, (begin, to), AT_ONCE as i64).await.map_err(away)?;
        let doubtful = past::doubtful(&self.db, log, (begin, to)).await.map_err(away)?;
        let mut next = if events.len() == AT_ONCE { events.last().map_or(to, |e| e.offset + 1) } else { to };
        let mut records = Vec::with_capacity(events.len());
        if let Some(offset) = doubtful.filter(|offset| *offset < next) {
            tracing::error!(
                partition = at.partition,
                offset,
                "nobody knows of which cluster an event of the history is"
            );
            let before = events.iter().any(|event| event.offset < offset);
            match gap.is_none() && !before {
                true => return Ok(Past { records, next: offset + 1, gap: Some((offset, offset + 1)) }),
                false => next = offset,
            }
        }
        for event in events.into_iter().filter(|event| doubtful.is_none_or(|offset| event.offset < offset)) {
            let offset = event.offset;
            match self.record(at, event).await? {
                Some(record) => records.push(record),
                // What can't be made anew is a gap of its own.
                None if gap.is_none() && records.is_empty() => {
                    (gap, next) = (Some((offset, offset + 1)), offset + 1);
                    break;
                }
                None => {
                    next = offset;
                    break;
                }
            }
        }
        Ok(Past { records, next, gap })
    }

    /// From which offset on the history tells of everything, and up to which.
    async fn known(&self, at: &SourcePartition) -> Result<Option<(i64, i64)>, StoreError> {
        let Some(stage) = self.keeper.as_deref() else { return Ok(None) };
        let (cluster_id, topic_id, partition) = (&*at.cluster_id, &*at.topic_id, at.partition);
        let end = positions::position(&self.db, &Place { stage, cluster_id, topic_id, partition }).await?;
        let first = past::first(&self.db, Log { cluster_id, topic: &at.topic, partition }).await?;
        Ok(first.zip(end))
    }

    /// The record of an event, or `None` when it can't be made anew.
    async fn record(&self, at: &SourcePartition, past: PastEvent) -> Result<Option<Record>, Failure> {
        match past::value(&past, &at.topic, &self.vault, &self.codec).await {
            Ok(payload) => Ok(Some(Record {
                topic: Arc::clone(&at.topic),
                partition: at.partition,
                offset: past.offset,
                timestamp_ms: Some(past.stored.recorded_at),
                key: Some(past.order_id.into_bytes().into()),
                payload: Some(payload.into()),
                headers: Headers::default(),
            })),
            Err(NotMade::Never(why)) => {
                let (partition, offset) = (at.partition, past.offset);
                tracing::error!(partition, offset, why, "an event of the history can't be made a record");
                Ok(None)
            }
            Err(NotMade::Away(why)) => Err(Failure::new(ErrorClass::Unavailable, why)),
        }
    }
}

fn away(error: StoreError) -> Failure {
    Failure::new(ErrorClass::Unavailable, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RegistryOptions;
    use crate::store::history::{self, NewEvent};
    use crate::store::testing::each_engine;

    /// Invariant 8 (nothing lost).
    #[tokio::test]
    async fn an_event_that_may_be_of_another_cluster_is_a_gap() {
        each_engine(async |db| {
            let mut tx = db.begin().await.unwrap();
            for offset in [1, 5] {
                let kept = NewEvent {
                    tenant: "shop".to_owned(),
                    order_id: format!("o-{offset}"),
                    version: 1,
                    event_id: format!("e-{offset}"),
                    kind: "order.paid".to_owned(),
                    schema_id: 7,
                    occurred_at: 5,
                    correlation_id: None,
                    causation_id: None,
                    source: None,
                    cluster_id: "c".to_owned(),
                    coordinates: ("t".to_owned(), 0, offset),
                    payload_hash: vec![1],
                    masked: "{}".to_owned(),
                    personal: "{}".to_owned(),
                };
                history::add(&mut tx, &[kept], 1_000).await.unwrap();
            }
            for cluster_id in ["c", "d"] {
                let place = Place { stage: "history", cluster_id, topic_id: "t", partition: 0 };
                assert!(positions::advance(&mut tx, &place, None, 9, None).await.unwrap());
            }
            // As a program does that knows nothing of clusters yet.
            let older = "UPDATE order_events SET cluster_id = NULL WHERE record_offset = 5";
            tx.execute(older, &[]).await.unwrap();
            tx.commit().await.unwrap();
            let codec = Codec::new(&RegistryOptions::default()).unwrap();
            let archive = Archive { db, vault: Vault::ephemeral(), codec, keeper: Some("history".into()) };
            let [cluster_id, topic, topic_id] = ["c", "t", "t"].map(Arc::from);
            let at = SourcePartition { cluster_id, topic, topic_id, partition: 0 };
            let (records, none) = (Vec::new(), Vec::new());
            let read = async |from| archive.read(&at, from, 9).await.unwrap();
            assert_eq!(read(2).await, Past { records, next: 6, gap: Some((5, 6)) });
            assert_eq!(read(6).await, Past { records: none, next: 9, gap: None });
        })
        .await;
    }
}
