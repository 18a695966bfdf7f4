//! The notification stage: keeps the conversation of each order and decides who is told what.
//!
//! ```text
//! event ──► rules.rs (one table) ──► plan.rs (pure) ──► conversation, message, tracking record
//!                                        │
//!                                        └──► one decision per recipient and channel ──► notifications.outbound
//! ```
//!
//! Everything happens in the transaction that moves the partition's position. A repeated event finds its
//! decisions made and changes nothing. An event that comes before its order's creation leaves its message, and
//! decisions that say that nobody was known; they aren't made again when the creation arrives. What must not
//! live here: sending anything.

pub mod context;
mod embedded;
pub mod facts;
mod known;
pub mod money;
pub mod plan;
pub mod rules;
pub mod templates;
mod writes;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::plan::{Plan, Telling};
use self::rules::{Channel, Rule, rule_of};
use self::templates::{TemplateError, Templates};
use self::writes::Writes;
use super::Parts;
use super::store_stage::{self, HandlerError, Incoming, StoreHandler};
use crate::clock::Clock;
use crate::crypto::{Subject, Vault};
use crate::event::{Codec, EncodeError, EventType, OutboundNotification, TraceParent, effect_id};
use crate::runtime::{StageHandle, StageSpec};
use crate::store::conversations::{Message, OrderKey, Participant, Role};
use crate::store::notifications::{Decision, Outcome};
use crate::store::{Transaction, outbox};
use crate::telemetry::Metrics;
use crate::topology::Stage;

/// The stage's name.
pub const NAME: &str = "notification";
/// The topic that tells the delivery stage what to send, by its id in the topology.
pub const OUTBOUND: &str = "notifications.outbound";

/// What a message's key, headers and framing may come to, in bytes.
const BESIDE_PAYLOAD: usize = 1024;

/// `[notification]` in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationOptions {
    /// A folder whose templates take the place of ours, or are added to them.
    pub templates: Option<PathBuf>,
}

impl NotificationOptions {
    /// The templates that these options ask for.
    ///
    /// # Errors
    /// When the folder can't be read, or holds what isn't a template.
    pub fn load(&self) -> Result<Templates, TemplateError> {
        Templates::load(self.templates.as_deref())
    }
}

/// Keeps conversations and decides.
#[derive(Debug, Clone)]
pub struct Notification {
    vault: Vault,
    codec: Codec,
    templates: Templates,
    outbound: Arc<str>,
    /// The largest record that `outbound` takes, in bytes.
    most_bytes: usize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Notification {
    /// A notification stage that writes to the topic `outbound`, whose records may have `most_bytes`.
    pub fn new(
        vault: Vault,
        codec: Codec,
        templates: Templates,
        (outbound, most_bytes): (Arc<str>, usize),
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        for channel in Channel::ALL {
            for outcome in Outcome::ALL {
                metrics.notifications.with_label_values(&[channel.as_str(), outcome.as_str()]);
            }
        }
        Self { vault, codec, templates, outbound, most_bytes, clock, metrics }
    }
}

impl StoreHandler for Notification {
    /// The decisions.
    type Tally = Vec<Decision>;

    fn takes(&self, event_type: EventType) -> bool {
        rule_of(event_type).is_some()
    }

    async fn apply(&self, tx: &mut Transaction, batch: &[Incoming]) -> Result<Self::Tally, HandlerError> {
        let keys: HashSet<OrderKey> = batch.iter().map(order_key).collect();
        let keys: Vec<OrderKey> = keys.into_iter().collect();
        let mut orders = known::load(tx, &self.vault, &keys).await?;
        let mut writes = Writes::default();
        for incoming in batch {
            let Some(rule) = rule_of(incoming.event.event_type()) else { continue };
            let key = order_key(incoming);
            let loaded = orders.entry(key.clone()).or_default();
            if !loaded.decided.insert(incoming.event_id) {
                continue;
            }
            let plan = plan::plan(&incoming.event, rule, &loaded.known);
            loaded.known.absorb(&plan);
            let step = Step { incoming, rule, key: &key, plan: &plan, number: loaded.known.order_number };
            self.converse(&mut writes, &step, &loaded.known)?;
            for telling in &plan.tellings {
                self.tell(&mut writes, &step, telling).await?;
            }
        }
        writes.write(tx, self.clock.now_ms()).await?;
        Ok(writes.decisions)
    }

    fn committed(&self, decisions: Vec<Decision>) {
        for decision in decisions {
            let labels = [decision.channel.as_str(), decision.outcome.as_str()];
            self.metrics.notifications.with_label_values(&labels).inc();
        }
    }
}

/// The order that an event is about.
fn order_key(incoming: &Incoming) -> OrderKey {
    let meta = incoming.event.meta();
    OrderKey::new(&meta.tenant_id, &meta.order_id)
}

/// An event on its way through the stage.
struct Step<'a> {
    incoming: &'a Incoming,
    rule: &'a Rule,
    key: &'a OrderKey,
    plan: &'a Plan,
    number: Option<i64>,
}

impl Notification {
    /// Carries out what the plan says about the conversation.
    fn converse(
        &self,
        writes: &mut Writes,
        step: &Step<'_>,
        known: &plan::Known,
    ) -> Result<(), HandlerError> {
        let (key, plan, event) = (step.key, step.plan, &step.incoming.event);
        let at_ms = event.meta().occurred_at;
        let participant = |person: &plan::Person| -> Result<Participant, HandlerError> {
            Ok(Participant {
                role: person.role,
                user_id: person.user_id.clone(),
                contact: known::seal(&self.vault, key, person)?,
                joined_at: at_ms,
            })
        };
        let joins = plan.joins.iter().map(participant).collect::<Result<_, _>>()?;
        writes.change(key, plan.change.clone(), joins, at_ms);
        writes.shipments.extend(plan.shipment.clone().map(|shipment| (key.clone(), shipment)));
        if !plan.says {
            return Ok(());
        }
        let buyer = known.people.iter().find(|person| person.role == Role::Buyer);
        let wanted = buyer.and_then(|person| person.contact.locale.as_deref());
        let locale = self.templates.message_locale(step.rule.template, wanted);
        let context = context::context(event, step.number, None, &locale);
        let body =
            self.templates.render_message(step.rule.template, &locale, &context).or_else(unrendered)?;
        let person_id = buyer.map(|person| person.user_id.clone());
        let subject = match &person_id {
            Some(person) => Subject::Person { tenant: &key.tenant, person },
            None => Subject::Tenant { tenant: &key.tenant },
        };
        let message = Message {
            message_id: effect_id(&key.tenant, step.incoming.event_id, NAME, "message", ""),
            event_id: step.incoming.event_id,
            event_type: plan.facts.event_type.clone(),
            fact: plan.facts.fact.clone(),
            status_fact: plan.facts.status.clone(),
            body: self
                .vault
                .seal(subject, body.as_bytes())
                .map_err(|error| HandlerError::Data(error.to_string()))?,
            person_id,
            locale,
            occurred_at: at_ms,
        };
        writes.messages.push((key.clone(), message));
        Ok(())
    }

    /// Records one decision, and puts the message on its way if the decision is to tell.
    async fn tell(
        &self,
        writes: &mut Writes,
        step: &Step<'_>,
        telling: &Telling,
    ) -> Result<(), HandlerError> {
        let event_id = step.incoming.event_id;
        let person = telling.person.as_ref();
        let recipient = person.map(|person| person.user_id.as_str());
        let kind = format!("{}/{}", telling.channel.as_str(), telling.role.as_str());
        let notification_id =
            effect_id(&step.key.tenant, event_id, NAME, &kind, recipient.unwrap_or_default());
        let wanted = person.and_then(|person| person.contact.locale.as_deref());
        let locale = self.templates.locale(step.rule.template, telling.channel, wanted);
        let mut decision = Decision {
            notification_id,
            key: step.key.clone(),
            event_id,
            event_type: step.plan.facts.event_type.clone(),
            fact: step.plan.facts.fact.clone(),
            status_fact: step.plan.facts.status.clone(),
            role: telling.role,
            recipient: recipient.map(str::to_owned),
            channel: telling.channel.as_str().to_owned(),
            category: step.rule.category.as_str().to_owned(),
            template: step.rule.template.to_owned(),
            locale,
            outcome: Outcome::Suppressed,
            reason: telling.suppressed.map(|reason| reason.as_str().to_owned()),
            provider_id: None,
            occurred_at: step.incoming.event.meta().occurred_at,
        };
        let message = match (telling.suppressed, person) {
            (None, Some(person)) => match self.outbound(step, telling.channel, person, &decision) {
                Ok(outbound) => {
                    decision.outcome = Outcome::Queued;
                    Some(outbound)
                }
                Err(error) => {
                    tracing::error!(%error, "a notification can't be written; it is recorded as failed");
                    (decision.outcome, decision.reason) = (Outcome::Failed, Some(error.to_string()));
                    None
                }
            },
            (_, _) => None,
        };
        let mut outgoing = match &message {
            Some(outbound) => Some(self.wire(step, notification_id, outbound).await?),
            None => None,
        };
        // Kafka would never take it, and what comes after it in its order would wait for ever.
        if let Some(why) = outgoing.as_ref().and_then(|message| self.too_large(message)) {
            tracing::error!(why, "a notification is too large; it is recorded as failed");
            (decision.outcome, decision.reason) = (Outcome::Failed, Some(why));
            outgoing = None;
        }
        writes.decisions.push(decision);
        writes.outgoing.extend(outgoing);
        Ok(())
    }

    /// Why Kafka wouldn't take `message`, if it wouldn't.
    fn too_large(&self, message: &outbox::Message) -> Option<String> {
        let bytes = message.payload.as_ref().map_or(0, Vec::len) + BESIDE_PAYLOAD;
        (bytes > self.most_bytes).then(|| {
            format!(
                "the message has {bytes} bytes, more than the {} that {} takes",
                self.most_bytes, self.outbound
            )
        })
    }

    fn outbound(
        &self,
        step: &Step<'_>,
        channel: Channel,
        person: &plan::Person,
        decision: &Decision,
    ) -> Result<OutboundNotification, TemplateError> {
        let (event, locale) = (&step.incoming.event, decision.locale.as_str());
        let context = context::context(event, step.number, Some((person.role, &person.contact)), locale);
        let rendered = self.templates.render(step.rule.template, channel, locale, &context)?;
        let meta = event.meta();
        Ok(OutboundNotification {
            notification_id: decision.notification_id.to_string(),
            tenant_id: meta.tenant_id.clone(),
            order_id: meta.order_id.clone(),
            event_id: decision.event_id.to_string(),
            event_type: decision.event_type.clone(),
            user_id: person.user_id.clone(),
            channel: decision.channel.clone(),
            category: decision.category.clone(),
            template: decision.template.clone(),
            locale: decision.locale.clone(),
            address: match channel {
                Channel::Email => person.contact.email.clone(),
                Channel::Live => None,
            },
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            occurred_at: meta.occurred_at,
            correlation_id: meta.correlation_id.clone(),
            actor: meta.actor.clone(),
        })
    }

    async fn wire(
        &self,
        step: &Step<'_>,
        id: Uuid,
        outbound: &OutboundNotification,
    ) -> Result<outbox::Message, HandlerError> {
        let payload = self.codec.encode_record(&self.outbound, outbound).await.map_err(unencoded)?;
        let mut headers = vec![("content-type".to_owned(), b"application/avro".to_vec())];
        let trace = step.incoming.record.headers.last("traceparent");
        if let Some(trace) = trace.and_then(TraceParent::parse_header) {
            headers.push(("traceparent".to_owned(), trace.child().to_string().into_bytes()));
        }
        Ok(outbox::Message {
            id,
            tenant: outbound.tenant_id.clone(),
            topic: self.outbound.to_string(),
            partition: None,
            key: Some(outbound.order_id.clone().into_bytes()),
            kind: "notification.outbound".to_owned(),
            payload: Some(payload),
            headers,
        })
    }
}

/// A message that can't be rendered must not stop the order: the conversation says that something happened.
fn unrendered(error: TemplateError) -> Result<String, HandlerError> {
    tracing::error!(%error, "a conversation message can't be rendered; it is left empty");
    Ok(String::new())
}

/// Whose fault it is that something can't be encoded.
pub(super) fn unencoded(error: EncodeError) -> HandlerError {
    match error {
        EncodeError::Invalid(reason) => HandlerError::Data(reason),
        EncodeError::NotRegistered { .. } | EncodeError::Refused(_) | EncodeError::RegistryUnavailable(_) => {
            HandlerError::Unavailable(error.to_string())
        }
    }
}

/// Starts one member of the stage.
pub fn start(parts: &Parts, _: &Stage, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let handler = Notification::new(
        parts.vault.clone(),
        parts.codec.clone(),
        parts.options.templates.clone(),
        parts.topology.topic(OUTBOUND).map_or_else(
            || (OUTBOUND.into(), usize::MAX),
            |topic| (Arc::clone(&topic.name), topic.max_message_bytes),
        ),
        parts.env.clock.clone(),
        Arc::clone(&parts.env.metrics),
    );
    store_stage::start(parts, handler, spec, stop)
}
