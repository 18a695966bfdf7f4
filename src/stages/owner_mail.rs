//! A mail to the contact of a webhook endpoint: what becomes of it, in the words of a template.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::notification::rules::Channel;
use super::notification::templates::{DEFAULT_LOCALE, Templates};
use crate::crypto::Vault;
use crate::event::OutboundNotification;
use crate::store::webhooks::{Endpoint, open_contact};

/// What a mail tells.
#[derive(Debug)]
pub(super) struct News<'a> {
    /// The template.
    pub(super) template: &'a str,
    /// Names what is told.
    pub(super) id: Uuid,
    /// When it was so, epoch milliseconds.
    pub(super) at_ms: i64,
    /// Why, in a sentence.
    pub(super) reason: &'a str,
    /// What the template asks for besides.
    pub(super) more: Json,
}

/// The mail to the contact of `endpoint`, where there is one that can be written to. Its id is still to be set.
pub(super) fn to_contact(
    vault: &Vault,
    templates: &Templates,
    endpoint: &Endpoint,
    news: News<'_>,
) -> Option<OutboundNotification> {
    let told = open_contact(vault, endpoint).inspect_err(|error| {
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
    let rendered = templates.render(news.template, Channel::Email, DEFAULT_LOCALE, &context);
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
