//! Tells owners of webhook endpoints what they never got: an event on `webhooks.endpoints` for every gap, written with it.

use std::sync::Arc;

use uuid::Uuid;

use crate::clock::Clock;
use crate::event::{AvroRecord as _, Codec, WebhookEndpointChanged};
use crate::runtime::cursor::Gap;
use crate::runtime::{ErrorClass, Failure, SourcePartition};
use crate::store::outbox::Message;
use crate::store::{Database, webhooks};

/// What telling of gaps needs.
#[derive(Debug, Clone)]
pub(super) struct GapNews {
    pub(super) codec: Codec,
    pub(super) clock: Clock,
    /// `webhooks.endpoints`, by the broker's name.
    pub(super) topic: Arc<str>,
}

impl GapNews {
    /// What is to be published of `gaps`. An endpoint that is gone has nobody to be told.
    ///
    /// # Errors
    /// When the store or the registry is away.
    pub(super) async fn messages(
        &self,
        db: &Database,
        at: &SourcePartition,
        gaps: &[Gap],
    ) -> Result<Vec<Message>, Failure> {
        let away = |why: String| Failure::new(ErrorClass::Unavailable, why);
        let mut messages = Vec::new();
        for gap in gaps {
            let found = webhooks::of_any_tenant(db, &gap.target).await;
            let Some(endpoint) = found.map_err(|error| away(error.to_string()))? else { continue };
            let (topic, partition, from, last) = (&at.topic, at.partition, gap.from, gap.to - 1);
            // Told again after a write that was lost, it is the same.
            let name = format!("gap/{}/{topic}/{partition}/{from}/{last}/{}", at.cluster_id, endpoint.id);
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
            let news = WebhookEndpointChanged {
                change_id: id.to_string(),
                tenant_id: endpoint.tenant.clone(),
                endpoint_id: endpoint.id.clone(),
                owner: endpoint.owner,
                url: endpoint.url,
                change: "gap".to_owned(),
                reason: format!(
                    "what lay at the offsets {from} to {last} of partition {partition} of {topic} is kept nowhere any more \
                     and was not delivered"
                ),
                failing_since: None,
                changed_at: self.clock.now_ms(),
            };
            let payload = self.codec.encode_record(&self.topic, &news).await;
            messages.push(Message {
                id,
                tenant: endpoint.tenant,
                topic: self.topic.to_string(),
                partition: None,
                key: Some(endpoint.id.into_bytes()),
                kind: WebhookEndpointChanged::schema().full_name().to_owned(),
                payload: Some(payload.map_err(|error| away(error.to_string()))?),
                headers: Vec::new(),
            });
        }
        Ok(messages)
    }
}
