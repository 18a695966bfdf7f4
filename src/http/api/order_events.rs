//! The way in over HTTP: an order event from whoever can't write Avro.
//!
//! What the request leaves out is taken from the order as the history knows it. With an `Idempotency-Key` the
//! event's id and time come from the key, so that a repeated request is the same event, not another one.

use std::fmt;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::{Extension, Json};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::{Actor, ActorRole, Defaults, Event, EventType, Factory, TraceParent, random_event_id};
use crate::http::extract::NoParameters;
use crate::http::publish::PublishRefused;
use crate::http::{Body, Caller, Code, FieldError, IdempotencyKey, Parts, Problem, Query, Role};
use crate::order::OrderState;
use crate::store::history::{self, Place};

/// What published events name as their source.
const SOURCE: &str = "orderflow-api";
/// The longest order id, in bytes.
const MAX_ORDER_ID: usize = 255;

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct HandleRequest {
    /// The order: a text, or a whole number, which is taken as its digits.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The type in any spelling: `order.shipped`, `ORDER_SHIPPED`, `OrderShippedEvent`.
    event_type: String,
    /// The event's own fields in camel case; left out, they are taken from the order's stored state.
    #[schema(value_type = Option<serde_json::Value>)]
    event_data: Option<Map<String, Value>>,
}

/// Where the event lies now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Handled {
    event_id: String,
    topic: String,
    partition: i32,
    offset: i64,
}

/// Publishes an order event.
#[utoipa::path(
    post, path = "/api/order-events/handle", tag = "events",
    request_body = HandleRequest,
    responses((status = 202, body = Handled, description = "All replicas of the broker have it"))
)]
pub(in crate::http) async fn handle(
    State(parts): State<Parts>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    headers: HeaderMap,
    _: Query<NoParameters>,
    Body(request): Body<HandleRequest>,
) -> Result<(StatusCode, Json<Handled>), Problem> {
    let event_type = named_type(&request.event_type)?;
    if !Role::ALL
        .iter()
        .any(|role| caller.is(*role) && parts.publisher.may_publish(role.as_str(), event_type))
    {
        let detail = format!("no role of this token may publish {event_type}");
        return Err(Problem::new(Code::RoleNotAllowed, detail));
    }
    if let Some(Extension(key)) = &key
        && let Some(known) = published_before(&parts, &caller.tenant, key.id()).await?
    {
        return Ok((StatusCode::ACCEPTED, Json(known)));
    }
    let OrderId(order_id) = &request.order_id;
    let state = match history::order(&parts.db, &caller.tenant, order_id).await? {
        Some(row) => Some(row.open(&parts.vault)?),
        None => None,
    };
    let now_ms = key.as_ref().map_or_else(|| parts.clock.now_ms(), |key| key.first_seen_ms);
    let event_id = key.map_or_else(|| random_event_id(now_ms), |Extension(key)| key.id());
    let asked = Asked { caller: &caller, order_id, event_type, event_id: event_id.to_string(), now_ms };
    let event = match request.event_data {
        Some(data) => asked.with_data(data, state)?,
        None => asked.by_state(state)?,
    };
    let trace = headers.get("traceparent").and_then(|value| TraceParent::parse_header(value.as_bytes()));
    let published = publish(&parts, event, trace).await?;
    Ok((StatusCode::ACCEPTED, Json(published)))
}

/// Where the event lies that the same request published before its answer was lost, if the history has it. The order
/// may have gone on since, so an event made now could have the same id and say something else.
pub(super) async fn published_before(
    parts: &Parts,
    tenant: &str,
    event_id: Uuid,
) -> Result<Option<Handled>, Problem> {
    let event_id = event_id.to_string();
    let known = history::place_of(&parts.db, tenant, &event_id).await?;
    Ok(known.map(|Place { topic, partition, offset }| Handled { event_id, topic, partition, offset }))
}

struct Asked<'a> {
    caller: &'a Caller,
    order_id: &'a str,
    event_type: EventType,
    event_id: String,
    now_ms: i64,
}

impl Asked<'_> {
    /// The event that `data` describes, enriched by how the order is after it.
    fn with_data(&self, data: Map<String, Value>, state: Option<OrderState>) -> Result<Event, Problem> {
        let event = self.read(json!({ "data": data })).map_err(Problem::fields)?;
        Ok(enriched(event, state))
    }

    /// The event with the data that the stored order holds.
    fn by_state(&self, state: Option<OrderState>) -> Result<Event, Problem> {
        let Some(state) = state else {
            // Types that say nothing beside their order need none stored.
            return self.read(json!({})).map_err(|_| {
                let detail = format!(
                    "order {} is not known, so eventData is needed to make {}",
                    self.order_id, self.event_type
                );
                Problem::new(Code::OrderNotFound, detail)
            });
        };
        let factory = Factory::new(&self.caller.tenant, SOURCE).acting(self.actor());
        let mut event = match state.event(self.event_type, &factory, self.now_ms) {
            Ok(event) => event,
            Err(unavailable) => {
                self.read(json!({})).map_err(|_| Problem::field("eventData", unavailable.to_string()))?
            }
        };
        event.meta_mut().event_id.clone_from(&self.event_id);
        Ok(event)
    }

    fn read(&self, json: Value) -> Result<Event, Vec<FieldError>> {
        let defaults = Defaults {
            now_ms: self.now_ms,
            event_type: Some(self.event_type),
            event_id: Some(self.event_id.clone()),
            order_id: Some(self.order_id.to_owned()),
            tenant_id: Some(self.caller.tenant.clone()),
            source: Some(SOURCE.to_owned()),
            correlation_id: None,
        };
        let mut event = Event::from_json(&json, &defaults).map_err(|errors| {
            let here = |field: String| match field.strip_prefix("data") {
                Some(rest) => format!("eventData{rest}"),
                None => field,
            };
            let errors = errors.0.into_iter();
            errors
                .map(|error| FieldError { field: here(error.field), message: error.message })
                .collect::<Vec<_>>()
        })?;
        event.meta_mut().actor = Some(self.actor());
        Ok(event)
    }

    fn actor(&self) -> Actor {
        let role = if self.caller.is(Role::Admin) { ActorRole::Admin } else { ActorRole::Service };
        Actor { id: self.caller.subject.clone(), role }
    }
}

/// `event` with how its order, whose stored state is `state`, is after it.
pub(super) fn enriched(mut event: Event, state: Option<OrderState>) -> Event {
    let meta = event.meta();
    let mut after = state.unwrap_or_else(|| OrderState::new(&meta.tenant_id, &meta.order_id));
    after.apply(&event);
    if event.snapshot().is_none()
        && let Some(snapshot) = after.snapshot()
    {
        event.set_snapshot(snapshot);
    }
    let meta = event.meta_mut();
    meta.customer_id = meta.customer_id.take().or(after.customer_id);
    event
}

fn named_type(name: &str) -> Result<EventType, Problem> {
    name.parse().map_err(|unknown: crate::event::UnknownEventType| {
        let error = FieldError { field: "eventType".to_owned(), message: unknown.to_string() };
        Problem::new(Code::UnknownEventType, unknown.to_string()).with_errors(vec![error])
    })
}

/// Publishes `event`, and answers when all replicas of the broker have it.
pub(super) async fn publish(
    parts: &Parts,
    event: Event,
    trace: Option<TraceParent>,
) -> Result<Handled, Problem> {
    let sent =
        tokio::time::timeout(parts.options.publish_timeout, parts.publisher.publish(event, trace)).await;
    let late = || PublishRefused::KafkaUnavailable("kafka did not acknowledge the event in time".to_owned());
    let published = sent.unwrap_or_else(|_| Err(late())).map_err(|refused| {
        let later = |code, reason: String| {
            Problem::new(code, reason).with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        };
        match refused {
            PublishRefused::TooLarge(reason) => Problem::new(Code::TooLarge, reason),
            PublishRefused::Invalid(reason) => Problem::field("eventData", reason),
            PublishRefused::RegistryUnavailable(reason) => {
                tracing::warn!(reason, "an event could not be encoded");
                later(
                    Code::RegistryUnavailable,
                    "the schema registry does not answer; try again later".to_owned(),
                )
            }
            PublishRefused::KafkaUnavailable(reason) => {
                tracing::warn!(reason, "an event could not be published");
                later(
                    Code::KafkaUnavailable,
                    "kafka did not acknowledge the event; try again later".to_owned(),
                )
            }
            PublishRefused::Misconfigured(reason) => Problem::internal(reason),
        }
    })?;
    Ok(Handled {
        event_id: published.event_id.to_string(),
        topic: published.topic,
        partition: published.partition,
        offset: published.offset,
    })
}

/// An order id as people send it.
#[derive(Debug)]
pub(super) struct OrderId(pub(super) String);

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = OrderId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number or a text of 1 to {MAX_ORDER_ID} bytes without control characters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OrderId, E> {
                let fits = !text.trim().is_empty()
                    && text.len() <= MAX_ORDER_ID
                    && !text.chars().any(char::is_control);
                if fits {
                    Ok(OrderId(text.to_owned()))
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OrderId, E> {
                Ok(OrderId(number.to_string()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
