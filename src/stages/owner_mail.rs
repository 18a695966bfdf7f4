//! What owners of webhook endpoints are told: an event on `webhooks.endpoints`, and a mail to the endpoint's contact in the
//! words of a template. Both leave through the outbox, in the transaction of what they tell of.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::Parts;
use super::notification::rules::Channel;
use super::notification::templates::{DEFAULT_LOCALE, Templates};
use crate::crypto::Vault;
use crate::event::{AvroRecord, Codec, EncodeError, OutboundNotification, WebhookEndpointChanged, effect_id};
use crate::store::outbox::Message;
use crate::store::webhooks::{Endpoint, open_contact};

/// Writes what owners are told.
#[derive(Debug, Clone)]
pub(super) struct Scribe {
    codec: Codec,
    /// Opens contacts.
    vault: Vault,
    templates: Templates,
    /// `webhooks.endpoints`, by the broker's name.
    events: Arc<str>,
    /// `notifications.outbound`, by the broker's name.
    outbound: Arc<str>,
}

/// What a mail tells.
#[derive(Debug)]
pub(super) struct News<'a> {
    /// The template.
    pub(super) template: &'a str,
    /// Names what is told.
    pub(super) id: Uuid,
    /// Who tells.
    pub(super) by: &'a str,
    /// When it was so, epoch milliseconds.
    pub(super) at_ms: i64,
    /// Why, in a sentence.
    pub(super) reason: &'a str,
    /// What the template asks for besides.
    pub(super) more: Json,
}

impl Scribe {
    /// Writes with what `parts` hold.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            codec: parts.codec.clone(),
            vault: parts.vault.clone(),
            templates: parts.options.templates.clone(),
            events: parts.topic("webhooks.endpoints"),
            outbound: parts.topic("notifications.outbound"),
        }
    }

    /// Writes with a registry that isn't there.
    #[cfg(test)]
    pub(super) fn without_registry(vault: Vault) -> Self {
        let url = "http://127.0.0.1:1".to_owned();
        let registry = crate::event::RegistryOptions { url, ..Default::default() };
        let codec = Codec::new(&registry).expect("a valid URL");
        let [events, outbound] = ["webhooks.endpoints", "notifications.outbound"].map(Arc::from);
        Self { codec, vault, templates: Templates::default(), events, outbound }
    }

    /// The event that tells of `change`, which is called `id`.
    ///
    /// # Errors
    /// When the registry is away or refuses the schema.
    pub(super) async fn event(
        &self,
        id: Uuid,
        change: &WebhookEndpointChanged,
    ) -> Result<Message, EncodeError> {
        self.message((&self.events, id), (&change.tenant_id, &change.endpoint_id), change).await
    }

    /// The mail to the contact of `endpoint`, where there is one that can be written to.
    ///
    /// # Errors
    /// When the registry is away or refuses the schema.
    pub(super) async fn mail(
        &self,
        endpoint: &Endpoint,
        news: News<'_>,
    ) -> Result<Option<Message>, EncodeError> {
        let (tenant, id) = (&endpoint.tenant, &endpoint.id);
        let mail_id = effect_id(tenant, news.id, news.by, "email", id);
        let Some(mail) = self.rendered(endpoint, news) else { return Ok(None) };
        let mail = OutboundNotification { notification_id: mail_id.to_string(), ..mail };
        self.message((&self.outbound, mail_id), (tenant, id), &mail).await.map(Some)
    }

    fn rendered(&self, endpoint: &Endpoint, news: News<'_>) -> Option<OutboundNotification> {
        let told = open_contact(&self.vault, endpoint).inspect_err(|error| {
            tracing::error!(tenant = endpoint.tenant, endpoint = endpoint.id, %error, "an endpoint's contact can't be read");
        });
        let address = told.ok().flatten()?;
        let mut context = json!({
            "locale": DEFAULT_LOCALE,
            "order": {"id": endpoint.id, "number": endpoint.id},
            "endpoint": {"id": endpoint.id, "url": endpoint.url},
            "reason": news.reason,
        });
        if let (Some(context), Json::Object(more)) = (context.as_object_mut(), news.more) {
            context.extend(more);
        }
        let rendered = self.templates.render(news.template, Channel::Email, DEFAULT_LOCALE, &context);
        let rendered = rendered.inspect_err(|error| {
            tracing::error!(%error, "a mail about an endpoint can't be written");
        });
        let rendered = rendered.ok()?;
        Some(OutboundNotification {
            tenant_id: endpoint.tenant.clone(),
            order_id: endpoint.id.clone(),
            event_id: news.id.to_string(),
            event_type: news.template.to_owned(),
            user_id: endpoint.owner.clone().unwrap_or_else(|| endpoint.id.clone()),
            channel: Channel::Email.as_str().to_owned(),
            category: "webhooks".to_owned(),
            template: news.template.to_owned(),
            locale: DEFAULT_LOCALE.to_owned(),
            address: Some(address),
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            occurred_at: news.at_ms,
            ..OutboundNotification::default()
        })
    }

    async fn message<R: AvroRecord>(
        &self,
        (topic, id): (&Arc<str>, Uuid),
        (tenant, key): (&str, &str),
        record: &R,
    ) -> Result<Message, EncodeError> {
        let payload = self.codec.encode_record(topic, record).await?;
        Ok(Message {
            id,
            tenant: tenant.to_owned(),
            topic: topic.to_string(),
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            kind: R::schema().full_name().to_owned(),
            payload: Some(payload),
            headers: Vec::new(),
        })
    }
}
