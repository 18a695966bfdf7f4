//! What every stage asks of a record before it takes it up: is it there, understood, ours, and keyed as it says?
//!
//! | the record | becomes |
//! |---|---|
//! | null value | skipped `tombstone` |
//! | a type that we don't know | skipped `unknown_type` |
//! | a type that the stage doesn't take | skipped `filtered`, without decoding its body |
//! | a tenant that the stage doesn't take | skipped `tenant` |
//! | a field that isn't as the stage's conditions want it | skipped `condition` |
//! | bad magic byte, truncated, trailing bytes | dead letter `decode` |
//! | unknown schema id | tried again, then dead letter `schema_unknown` |
//! | key missing, not UTF-8, or not the id of the order (or job) | dead letter `key` |
//! | registry away | its partition waits |

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::event::{Codec, Condition, DecodeError, Decoded, Event, EventType, event_id_or_coordinates};
use crate::runtime::{ErrorClass, Failure, Intake, Record, SkipReason};
use crate::telemetry::Metrics;

/// Reads records of an event topic.
#[derive(Debug, Clone)]
pub struct Reader {
    codec: Codec,
    cluster_id: Arc<str>,
    takes: Arc<BTreeSet<EventType>>,
    /// Empty: all of them.
    tenants: Arc<BTreeSet<String>>,
    conditions: Arc<[Condition]>,
    metrics: Arc<Metrics>,
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The event.
    pub event: Event,
    /// Its id, or one made of the record's coordinates where it has no valid one (invariant 4).
    pub event_id: Uuid,
    /// The id of the schema it was written with.
    pub schema_id: i32,
}

impl Reader {
    /// A reader of the cluster called `cluster_id`, for a stage that the topology lets take the types `takes`.
    pub fn new(
        codec: Codec,
        cluster_id: Arc<str>,
        takes: BTreeSet<EventType>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            codec,
            cluster_id,
            takes: Arc::new(takes),
            tenants: Arc::default(),
            conditions: Arc::default(),
            metrics,
        }
    }

    /// The same for these tenants alone; none named is all of them.
    pub fn for_tenants(self, tenants: BTreeSet<String>) -> Self {
        Self { tenants: Arc::new(tenants), ..self }
    }

    /// The same for events alone for which all of this holds.
    pub fn under(self, conditions: Vec<Condition>) -> Self {
        Self { conditions: conditions.into(), ..self }
    }

    /// Reads `record` for a stage that, of the types that the topology gives it, takes those for which `takes`
    /// answers true.
    pub async fn read(&self, record: &Record, takes: impl Fn(EventType) -> bool) -> Intake<Reading> {
        let Some(payload) = &record.payload else {
            return Intake::Skipped(SkipReason::Tombstone);
        };
        let takes = |event_type| self.takes.contains(&event_type) && takes(event_type);
        let (event, schema_id) = match self.codec.decode_if(payload, takes).await {
            Ok(Some(Decoded::Event { event, schema_id, .. })) => (event, schema_id),
            Ok(Some(Decoded::UnknownType { .. })) => return Intake::Skipped(SkipReason::UnknownType),
            Ok(None) => return Intake::Skipped(SkipReason::Filtered),
            Err(error) => return refused(&error),
        };
        if let Err(failure) = check_key(record, &event) {
            return Intake::Dead(failure);
        }
        // The record says whose it is; headers could say anything.
        if !self.tenants.is_empty() && !self.tenants.contains(&event.meta().tenant_id) {
            return Intake::Skipped(SkipReason::Tenant);
        }
        if Condition::first_unmet(&self.conditions, &event).is_some() {
            return Intake::Skipped(SkipReason::Condition);
        }
        self.compare_headers(record, &event);
        let event_id = event_id_or_coordinates(
            event.meta(),
            &self.cluster_id,
            &record.topic,
            record.partition,
            record.offset,
        );
        Intake::Ready(Reading { event, event_id, schema_id })
    }

    /// The record wins over its headers; that they disagree is counted.
    fn compare_headers(&self, record: &Record, event: &Event) {
        let meta = event.meta();
        let told = [
            ("ce_id", meta.event_id.as_str()),
            ("ce_type", event.event_type().as_str()),
            ("ce_subject", meta.order_id.as_str()),
            ("ce_tenant", meta.tenant_id.as_str()),
        ];
        for (header, truth) in told {
            // What isn't text says nothing.
            let differs = |value: &[u8]| value != truth.as_bytes() && std::str::from_utf8(value).is_ok();
            if record.headers.last(header).is_some_and(differs) {
                self.metrics.header_mismatches.with_label_values(&[header]).inc();
            }
        }
    }
}

/// What a decoding error means for the record.
pub(super) fn refused<T>(error: &DecodeError) -> Intake<T> {
    let message = error.to_string();
    match error {
        DecodeError::SchemaUnknown { .. } => Intake::Retry(Failure::new(ErrorClass::SchemaUnknown, message)),
        DecodeError::RegistryUnavailable(_) => {
            Intake::Unavailable(Failure::new(ErrorClass::Unavailable, message))
        }
        DecodeError::NotFramed
        | DecodeError::Truncated
        | DecodeError::TrailingBytes(_)
        | DecodeError::Invalid(_) => Intake::Dead(Failure::new(ErrorClass::Decode, message)),
    }
}

fn check_key(record: &Record, event: &Event) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(ErrorClass::Key, message));
    let subject = if event.event_type().is_job() { "job" } else { "order" };
    let Some(key) = &record.key else {
        return refuse(format!("the record has no key; it must be the {subject} id"));
    };
    let Ok(key) = std::str::from_utf8(key) else {
        return refuse(format!("the record's key is not UTF-8; it must be the {subject} id"));
    };
    if key != event.key() {
        return refuse(format!("the record's key is {key:?}, but its {subject} id is {:?}", event.key()));
    }
    Ok(())
}
