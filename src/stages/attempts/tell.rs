//! Tells of endpoints that begin to fail, are disabled or work again: an event on `webhooks.endpoints`, and a mail to the
//! endpoint's contact where it has one. All of it is written in the transaction in which the receipts are stored.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::health::{Limits, News, Seen};
use crate::event::{WebhookEndpointChanged, effect_id};
use crate::runtime::StoreFault;
use crate::stages::owner_mail::{self, Scribe};
use crate::stages::store_stage::away;
use crate::store::webhooks::{self, Endpoint, EndpointState, health};
use crate::store::{Transaction, outbox};

/// What telling needs.
#[derive(Debug, Clone)]
pub(super) struct Herald {
    pub(super) scribe: Scribe,
    pub(super) limits: Limits,
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
        let mut messages = vec![self.scribe.event(change_id, &event).await.map_err(|error| away(&error))?];
        messages.extend(self.mail(&endpoint, shown, &reason).await?);
        outbox::append_all(tx, &messages, now_ms).await.map_err(|error| away(&error))
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
    async fn mail(
        &self,
        endpoint: &Endpoint,
        shown: &Shown<'_>,
        reason: &str,
    ) -> Result<Option<outbox::Message>, StoreFault> {
        let template = format!("webhook.{}", shown.news.as_str());
        let since_ms = shown.failing_since.unwrap_or(shown.seen.at_ms);
        let limit_ms = i64::try_from(self.limits.disable_after.as_millis()).unwrap_or(i64::MAX);
        let disabled_ms = since_ms.saturating_add(limit_ms);
        let news = owner_mail::News {
            template: &template,
            id: name(shown),
            by: super::NAME,
            at_ms: shown.seen.at_ms,
            reason,
            more: json!({"since_time": time(since_ms), "disabled_time": time(disabled_ms)}),
        };
        self.scribe.mail(endpoint, news).await.map_err(|error| away(&error))
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
    use crate::stages::notification::templates::Templates;

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
