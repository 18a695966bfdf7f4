//! What an event is to all its endpoints, made once when its record is taken up.
//!
//! There may be many at once, each for as long as its event waits: what the record says again isn't kept here.

use std::hash::{BuildHasher as _, RandomState};

use bytes::Bytes;
use uuid::Uuid;

use super::body::{WebhookId, body};
use super::headers::Told;
use crate::event::{Actor, EventType, TraceParent};
use crate::runtime::Record;
use crate::runtime::retry::RESEND;
use crate::stages::intake::Reading;

/// What one event is to all its endpoints.
#[derive(Debug)]
pub struct Delivery {
    pub(super) tenant: String,
    /// What the event's topic is keyed by: the order, or for an event about a job the job.
    pub(super) order_id: String,
    pub(super) event_id: Uuid,
    pub(super) event_type: EventType,
    pub(super) body: Bytes,
    /// Who did what the event tells of.
    pub(super) actor: Option<Actor>,
    /// Somebody asked for it to be sent again.
    pub(super) resend: bool,
    /// What a repeated event is recognised by.
    pub(super) identity: u128,
}

impl Delivery {
    /// What `record`, which reads as `reading`, is to endpoints.
    pub(super) fn of(record: &Record, reading: Reading, identities: &Identities) -> Self {
        let Reading { mut event, event_id, .. } = reading;
        let (body, order_id) = (body(&event, event_id), event.key().to_owned());
        let event_type = event.event_type();
        let meta = event.meta_mut();
        let tenant = std::mem::take(&mut meta.tenant_id);
        Self {
            identity: identities.of(&tenant, event_id),
            tenant,
            order_id,
            event_id,
            event_type,
            body,
            actor: meta.actor.take(),
            resend: record.headers.last(RESEND).is_some(),
        }
    }

    /// What requests say of it; `id` is its own, `record` brought it.
    pub(super) fn told<'a>(&'a self, id: &'a WebhookId, record: &'a Record) -> Told<'a> {
        let traceparent = record.headers.text("traceparent");
        Told {
            webhook_id: id.as_str(),
            event: self.event_type.as_str(),
            body: &self.body,
            sequence: record.offset,
            resend: self.resend,
            traceparent: traceparent.filter(|text| text.parse::<TraceParent>().is_ok()),
        }
    }
}

/// What repeated events are recognised by while the process runs: 128 bits of hash over tenant and event id, under keys
/// of the process. Tenants choose their event ids, so that with a key that is known one could make an event that counts
/// as another tenant's.
#[derive(Debug, Default)]
pub(super) struct Identities(RandomState, RandomState);

impl Identities {
    fn of(&self, tenant: &str, event_id: Uuid) -> u128 {
        let [high, low] = [&self.0, &self.1].map(|keyed| keyed.hash_one((tenant, event_id.as_u128())));
        u128::from(high) << 64 | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Factory};
    use crate::runtime::Headers;

    const ID: Uuid = Uuid::from_u128(7);

    fn record(headers: &[(&str, &str)]) -> Record {
        let mut told = Headers::default();
        headers.iter().for_each(|(name, value)| told.push(*name, value.as_bytes()));
        Record { headers: told, offset: 41, ..Record::blank() }
    }

    fn delivery(event: impl Into<Event>, record: &Record) -> Delivery {
        let reading = Reading { event: event.into(), event_id: ID, schema_id: 1 };
        Delivery::of(record, reading, &Identities::default())
    }

    #[test]
    fn an_event_is_recognised_by_its_tenant_and_its_id() {
        let identities = Identities::default();
        let one = identities.of("shop", ID);
        assert_eq!(one, identities.of("shop", ID));
        assert_ne!(one, identities.of("shop", Uuid::from_u128(8)));
        assert_ne!(one, identities.of("other", ID));
        assert_ne!(one >> 64, one & u128::from(u64::MAX), "its halves have keys of their own");
        assert_ne!(one, Identities::default().of("shop", ID), "nobody knows the keys");
    }

    #[test]
    fn what_an_event_and_its_record_say_is_told() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let record = record(&[("traceparent", trace), (RESEND, "true")]);
        let delivery = delivery(Factory::new("shop", "test").order_completed("o-1", 5), &record);
        assert_eq!((delivery.tenant.as_str(), delivery.order_id.as_str()), ("shop", "o-1"));
        let id = WebhookId::of(ID);
        let told = delivery.told(&id, &record);
        assert_eq!(told.webhook_id, "evt_00000000-0000-0000-0000-000000000007");
        assert_eq!((told.event, told.sequence, told.resend), ("order.completed", 41, true));
        assert_eq!(told.traceparent, Some(trace));
        assert!(delivery.body.starts_with(br#"{"id":"evt_00000000-0000-0000-0000-000000000007","#));
    }

    #[test]
    fn what_is_no_trace_is_not_told_and_jobs_go_by_their_own_id() {
        let record = record(&[("traceparent", "tracing")]);
        let job = Factory::new("shop", "test").job_started("o-1", 5, "j-1", "mail", "mails", "w-1");
        let delivery = delivery(job, &record);
        assert_eq!(delivery.order_id, "j-1");
        let id = WebhookId::of(ID);
        let told = delivery.told(&id, &record);
        assert_eq!((told.traceparent, told.resend), (None, false));
    }
}
