//! Tells owners of webhook endpoints what they never got: an event on `webhooks.endpoints` for every gap, and a mail to the
//! endpoint's contact, written with it.

use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::notification::templates::Templates;
use super::owner_mail;
use crate::clock::Clock;
use crate::crypto::Vault;
use crate::event::{AvroRecord, Codec, OutboundNotification, WebhookEndpointChanged, effect_id};
use crate::runtime::cursor::Gap;
use crate::runtime::{ErrorClass, Failure, SourcePartition};
use crate::store::outbox::Message;
use crate::store::{Database, webhooks};

/// What telling of gaps needs.
#[derive(Debug, Clone)]
pub(super) struct GapNews {
    pub(super) codec: Codec,
    pub(super) clock: Clock,
    /// Opens contacts.
    pub(super) vault: Vault,
    /// What mails are made from.
    pub(super) templates: Templates,
    /// `webhooks.endpoints`, by the broker's name.
    pub(super) topic: Arc<str>,
    /// `notifications.outbound`, by the broker's name.
    pub(super) outbound: Arc<str>,
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
        let mut messages = Vec::new();
        for gap in gaps {
            let found = webhooks::of_any_tenant(db, &gap.target).await;
            let Some(endpoint) = found.map_err(|error| away(error.to_string()))? else { continue };
            let (topic, partition, from, last) = (&at.topic, at.partition, gap.from, gap.to - 1);
            // Told again after a write that was lost, it is the same.
            let name = format!("gap/{}/{topic}/{partition}/{from}/{last}/{}", at.cluster_id, endpoint.id);
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
            let (at_ms, key) = (self.clock.now_ms(), endpoint.id.clone());
            let reason = format!(
                "what lay at the offsets {from} to {last} of partition {partition} of {topic} is kept nowhere any more \
                 and was not delivered"
            );
            let mail =
                owner_mail::News { template: "webhook.gap", id, at_ms, reason: &reason, more: Json::Null };
            let mail = owner_mail::to_contact(&self.vault, &self.templates, &endpoint, mail);
            let news = WebhookEndpointChanged {
                change_id: id.to_string(),
                tenant_id: endpoint.tenant.clone(),
                endpoint_id: endpoint.id,
                owner: endpoint.owner,
                url: endpoint.url,
                change: "gap".to_owned(),
                reason,
                failing_since: None,
                changed_at: at_ms,
            };
            messages.push(self.message((&self.topic, id), &endpoint.tenant, &key, &news).await?);
            if let Some(mail) = mail {
                let mail_id = effect_id(&endpoint.tenant, id, "gaps", "email", &key);
                let mail = OutboundNotification { notification_id: mail_id.to_string(), ..mail };
                messages.push(self.message((&self.outbound, mail_id), &endpoint.tenant, &key, &mail).await?);
            }
        }
        Ok(messages)
    }

    async fn message<R: AvroRecord>(
        &self,
        (topic, id): (&Arc<str>, Uuid),
        tenant: &str,
        key: &str,
        record: &R,
    ) -> Result<Message, Failure> {
        let payload = self.codec.encode_record(topic, record).await;
        Ok(Message {
            id,
            tenant: tenant.to_owned(),
            topic: topic.to_string(),
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            kind: R::schema().full_name().to_owned(),
            payload: Some(payload.map_err(|error| away(error.to_string()))?),
            headers: Vec::new(),
        })
    }
}

fn away(why: String) -> Failure {
    Failure::new(ErrorClass::Unavailable, why)
}
