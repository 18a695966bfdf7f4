//! Tells of endpoints that begin to fail, are disabled or work again: an event on `webhooks.endpoints`, and a mail to the
//! endpoint's contact where it has one. All of it is written in the transaction in which the receipts are stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::health::{Limits, News, Seen};
use crate::crypto::Vault;
use crate::event::{AvroRecord, Codec, OutboundNotification, WebhookEndpointChanged, effect_id};
use crate::runtime::StoreFault;
use crate::stages::notification::templates::Templates;
use crate::stages::owner_mail;
use crate::stages::store_stage::away;
use crate::store::webhooks::{self, Endpoint, EndpointState, health};
use crate::store::{Transaction, outbox};

/// What telling needs.
#[derive(Debug, Clone)]
pub(super) struct Herald {
    pub(super) codec: Codec,
    pub(super) vault: Vault,
    pub(super) templates: Templates,
    pub(super) limits: Limits,
    /// `webhooks.endpoints`, by the broker's name.
    pub(super) events: Arc<str>,
    /// `notifications.outbound`, by the broker's name.
    pub(super) outbound: Arc<str>,
}

/// Something that an attempt showed of an endpoint.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) tenant: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) news: News,
    pub(super) failing_since: Option<i64>,
    pub(super) seen: &'a Seen,
}

impl Herald {
    /// Does what `shown` asks for. An endpoint that is gone, or was given a new start meanwhile, has no health to tell of.
    pub(super) async fn tell(
        &self,
        tx: &mut Transaction,
        shown: &Shown<'_>,
        now_ms: i64,
    ) -> Result<(), StoreFault> {
        let (tenant, id) = (shown.tenant, shown.endpoint);
        let found = webhooks::find_to_change(tx, tenant, id, None).await.map_err(|error| away(&error))?;
        let concerned = found.filter(|endpoint| match (shown.news, shown.failing_since) {
            // Whoever was told 410 disabled it at once.
            (News::Disabled, None) => matches!(endpoint.state, EndpointState::Disabled(_)),
            (News::Failing | News::Disabled | News::Recovered, _) => endpoint.state == EndpointState::Enabled,
        });
        let Some(endpoint) = concerned else {
            return health::forget(tx, tenant, id).await.map_err(|error| away(&error));
        };
        let reason = self.reason(shown);
        if shown.news == News::Disabled && endpoint.state == EndpointState::Enabled {
            let disabled = webhooks::disable(tx, (tenant, id), endpoint.generation, &reason, now_ms).await;
            disabled.map_err(|error| away(&error))?;
        }
        tracing::warn!(
            tenant,
            endpoint = id,
            news = shown.news.as_str(),
            reason,
            "an endpoint's owner is told"
        );
        let change_id = name(shown);
        let event = WebhookEndpointChanged {
            change_id: change_id.to_string(),
            tenant_id: tenant.to_owned(),
            endpoint_id: id.to_owned(),
            owner: endpoint.owner.clone(),
            url: endpoint.url.clone(),
            change: shown.news.as_str().to_owned(),
            reason: reason.clone(),
            failing_since: shown.failing_since,
            changed_at: shown.seen.at_ms,
        };
        self.send(tx, (&self.events, change_id), tenant, id, &event, now_ms).await?;
        if let Some(mail) = self.mail(&endpoint, shown, &reason) {
            let mail_id = effect_id(tenant, change_id, super::NAME, "email", id);
            let mail = OutboundNotification { notification_id: mail_id.to_string(), ..mail };
            self.send(tx, (&self.outbound, mail_id), tenant, id, &mail, now_ms).await?;
        }
        Ok(())
    }

    fn reason(&self, shown: &Shown<'_>) -> String {
        let why = &shown.seen.why;
        match (shown.news, shown.failing_since) {
            (News::Failing, _) => why.clone(),
            (News::Disabled, None) => "the endpoint answered 410 Gone".to_owned(),
            (News::Disabled, Some(_)) => {
                let limit = humantime_serde::re::humantime::format_duration(self.limits.disable_after);
                format!("nothing was accepted for {limit}; the last attempt: {why}")
            }
            (News::Recovered, _) => "it accepts again".to_owned(),
        }
    }

    /// The mail to the endpoint's contact, where there is one that can be written to.
    fn mail(&self, endpoint: &Endpoint, shown: &Shown<'_>, reason: &str) -> Option<OutboundNotification> {
        let template = format!("webhook.{}", shown.news.as_str());
        let since_ms = shown.failing_since.unwrap_or(shown.seen.at_ms);
        let limit_ms = i64::try_from(self.limits.disable_after.as_millis()).unwrap_or(i64::MAX);
        let disabled_ms = since_ms.saturating_add(limit_ms);
        let news = owner_mail::News {
            template: &template,
            id: name(shown),
            at_ms: shown.seen.at_ms,
            reason,
            more: json!({"since_time": time(since_ms), "disabled_time": time(disabled_ms)}),
        };
        owner_mail::to_contact(&self.vault, &self.templates, endpoint, news)
    }

    async fn send<R: AvroRecord>(
        &self,
        tx: &mut Transaction,
        (topic, id): (&Arc<str>, Uuid),
        tenant: &str,
        key: &str,
        record: &R,
        now_ms: i64,
    ) -> Result<(), StoreFault> {
        let payload = self.codec.encode_record(topic, record).await.map_err(|error| away(&error))?;
        let message = outbox::Message {
            id,
            tenant: tenant.to_owned(),
            topic: topic.to_string(),
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            kind: R::schema().full_name().to_owned(),
            payload: Some(payload),
            headers: Vec::new(),
        };
        outbox::append(tx, &message, now_ms).await.map_err(|error| away(&error))
    }
}

/// Names the news after the attempt that showed it: repeated, it is the same.
fn name(shown: &Shown<'_>) -> Uuid {
    let what = format!("{} at {}", shown.news.as_str(), shown.seen.at_ms);
    effect_id(shown.tenant, shown.seen.event_id, super::NAME, &what, shown.endpoint)
}

fn time(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::notification::rules::Channel;

    #[test]
    fn every_template_about_endpoints_renders() {
        let templates = Templates::load(None).expect("our own templates load");
        let context = json!({
            "locale": "en", "order": {"id": "wh_1", "number": "wh_1"}, "reason": "answered 500",
            "endpoint": {"id": "wh_1", "url": "https://partner.example/?a=1&b=<2>"},
            "since_time": time(0), "disabled_time": time(432_000_000),
        });
        let news = [News::Failing, News::Disabled, News::Recovered].map(News::as_str);
        for news in news.into_iter().chain(["gap"]) {
            let template = format!("webhook.{news}");
            let mail = templates.render(&template, Channel::Email, "en", &context).expect("it renders");
            assert!(mail.subject.is_some_and(|subject| subject.contains("wh_1")));
            assert!(mail.text.contains("https://partner.example/"), "{}", mail.text);
            assert!(mail.html.is_some_and(|html| html.contains("&lt;2&gt;")));
        }
        assert_eq!(time(432_000_000), "1970-01-06 00:00 UTC");
    }
}
