//! Webhooks that others send to us: an order's status, a worker's status. Each message becomes one event, however often
//! it is sent.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::order_events::{Handled, OrderId, enriched, publish, published_before};
use crate::event::{
    Actor, ActorRole, Defaults, Event, EventType, Factory, OrderStatus, TraceParent, event_id_for_message,
};
use crate::http::extract::{NoParameters, is_json, read_json};
use crate::http::idempotency::{fingerprint, in_flight, remember, replay, reserve};
use crate::http::inbound::{Endpoint, Message, Senders};
use crate::http::{Code, FieldError, Parts, Problem, Query, Role};
use crate::store::history;
use crate::store::idempotency::Reserved;

/// The longest name of a worker, a queue, a job or its type, in bytes.
const LONGEST_NAME: usize = 255;

/// What became of an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct OrderStatusMessage {
    /// The order: a text, or a whole number, which is taken as its digits.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// Its status now: created, confirmed, paid, processing, shipped, delivered, completed, cancelled, returned,
    /// refunded or disputed.
    status: String,
    /// Its status before; left out, it is taken from the order's stored state.
    previous_status: Option<String>,
    /// Why.
    reason: Option<String>,
    /// When it happened (RFC 3339, or milliseconds since the epoch); left out, when the message first came.
    #[schema(value_type = Option<String>)]
    occurred_at: Option<Value>,
    /// How it travels: `carrier`, `trackingNumber`, and if known `trackingUrl`, `estimatedDelivery`, `shipmentId`. With
    /// it a status of shipped becomes `order.shipped`.
    #[schema(value_type = Option<serde_json::Value>)]
    shipment: Option<Map<String, Value>>,
}

/// What became of a job.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct WorkerStatusMessage {
    /// The worker; needed once a job is started.
    worker_id: Option<String>,
    /// The queue that the job waits in.
    queue_name: String,
    /// The job: a text, or a whole number, which is taken as its digits.
    #[schema(value_type = String)]
    job_id: OrderId,
    /// What kind of work it is.
    job_type: String,
    status: JobStatus,
    /// How long it took, in milliseconds; needed when it is completed.
    processing_time: Option<u32>,
    /// What went wrong; needed when it failed.
    error: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum JobStatus {
    Enqueued,
    Started,
    Completed,
    Failed,
}

/// A message that an endpoint takes.
trait Told: DeserializeOwned + Send {
    const ENDPOINT: Endpoint;

    /// The type of the event that it becomes.
    fn event_type(&self) -> Result<EventType, Problem>;

    /// That event.
    fn event(self, parts: &Parts, origin: &Origin<'_>)
    -> impl Future<Output = Result<Event, Problem>> + Send;
}

/// Where an event comes from.
#[derive(Debug)]
struct Origin<'a> {
    tenant: &'a str,
    source: &'a str,
    event_type: EventType,
    event_id: Uuid,
    /// When the message first came, epoch milliseconds.
    first_seen_ms: i64,
}

/// Takes an order's new status from a sender of the configuration (`inbound.sources`). It becomes `order.status_changed`,
/// or `order.shipped` when it says how the order travels.
#[utoipa::path(
    post, path = "/api/webhooks/order-status", tag = "inbound", request_body = OrderStatusMessage,
    extensions(("x-roles" = json!(["signature"]))),
    responses((status = 202, body = Handled, description = "All replicas of the broker have the event"))
)]
pub(in crate::http) async fn order_status(
    State(parts): State<Parts>,
    _: Query<NoParameters>,
    request: Request,
) -> Result<Response, Problem> {
    take::<OrderStatusMessage>(&parts, request).await
}

/// Takes a job's new status from a sender of the configuration (`inbound.sources`). It becomes `job.enqueued`,
/// `job.started`, `job.completed` or `job.failed`.
#[utoipa::path(
    post, path = "/api/webhooks/worker-status", tag = "inbound", request_body = WorkerStatusMessage,
    extensions(("x-roles" = json!(["signature"]))),
    responses((status = 202, body = Handled, description = "All replicas of the broker have the event"))
)]
pub(in crate::http) async fn worker_status(
    State(parts): State<Parts>,
    _: Query<NoParameters>,
    request: Request,
) -> Result<Response, Problem> {
    take::<WorkerStatusMessage>(&parts, request).await
}

async fn take<T: Told>(parts: &Parts, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let senders: Arc<Senders> = Arc::clone(&parts.inbound);
    let body = to_bytes(body, senders.max_body_bytes)
        .await
        .map_err(|_| Problem::new(Code::TooLarge, "the body is larger than inbound.max_body_bytes"))?;
    let message = senders.message(T::ENDPOINT, &head.headers, &body, parts.clock.now_ms())?;
    if !is_json(&head.headers) {
        let detail = "send the body with content-type: application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let told: T = read_json(&body)?;
    let event_type = told.event_type()?;
    if !parts.publisher.may_publish(Role::Service.as_str(), event_type) {
        let detail = format!("the topology lets no service publish {event_type}");
        return Err(Problem::new(Code::RoleNotAllowed, detail));
    }
    let Message { sender, id, remember: remembered } = &message;
    // No Idempotency-Key of the tenant has spaces, so that none is the same.
    let key = format!("inbound {} {id}", sender.name);
    let hash = fingerprint(&sender.name, head.uri.path(), &body);
    let first_seen_ms = match reserve(parts, &sender.tenant, &key, &hash, *remembered).await? {
        Reserved::Ours { first_seen_ms } => first_seen_ms,
        Reserved::Done(answer) => return replay(parts, &sender.tenant, answer),
        Reserved::InFlight => return Err(in_flight("the same message is being worked on")),
        Reserved::OtherRequest => {
            return Err(Problem::new(
                Code::WebhookIdReused,
                "this webhook-id came before with other bytes; a repeat must be the same, a new message needs a new id",
            ));
        }
    };
    let event_id = event_id_for_message(&sender.tenant, &sender.name, id);
    let origin = Origin { tenant: &sender.tenant, source: &sender.name, event_type, event_id, first_seen_ms };
    tracing::debug!(sender = sender.name, message = id, %event_id, %event_type, "a message is taken");
    let answer = match published(parts, told, &origin, &head.headers).await {
        Ok(handled) => (StatusCode::ACCEPTED, axum::Json(handled)).into_response(),
        Err(problem) => problem.into_response(),
    };
    remember(parts, &sender.tenant, &key, answer).await
}

/// Publishes the event, unless it lies in the history: then the answer was lost, and the order may have gone on since.
async fn published<T: Told>(
    parts: &Parts,
    told: T,
    origin: &Origin<'_>,
    headers: &HeaderMap,
) -> Result<Handled, Problem> {
    if let Some(known) = published_before(parts, origin.tenant, origin.event_id).await? {
        return Ok(known);
    }
    let event = told.event(parts, origin).await?;
    let trace = headers.get("traceparent").and_then(|value| TraceParent::parse_header(value.as_bytes()));
    publish(parts, event, trace).await
}

impl Origin<'_> {
    fn actor(&self) -> Actor {
        Actor { id: self.source.to_owned(), role: ActorRole::Service }
    }
}

impl Told for OrderStatusMessage {
    const ENDPOINT: Endpoint = Endpoint::OrderStatus;

    fn event_type(&self) -> Result<EventType, Problem> {
        match (status("status", &self.status)?, &self.shipment) {
            (OrderStatus::Shipped, Some(_)) => Ok(EventType::OrderShipped),
            (_, Some(_)) => Err(Problem::field("shipment", "goes with the status shipped alone")),
            (_, None) => Ok(EventType::OrderStatusChanged),
        }
    }

    async fn event(self, parts: &Parts, origin: &Origin<'_>) -> Result<Event, Problem> {
        let OrderId(order_id) = &self.order_id;
        let state = match history::order(&parts.db, origin.tenant, order_id).await? {
            Some(row) => Some(row.open(&parts.vault)?),
            None => None,
        };
        let before = match &self.previous_status {
            Some(before) => status("previousStatus", before)?,
            None => state.as_ref().map_or(OrderStatus::Unknown, |state| state.status),
        };
        let data = match self.shipment {
            Some(shipment) => {
                if let Some((field, _)) =
                    [("reason", &self.reason), ("previousStatus", &self.previous_status)]
                        .into_iter()
                        .find(|(_, given)| given.is_some())
                {
                    return Err(Problem::field(field, "can't be told together with a shipment"));
                }
                Value::Object(shipment)
            }
            None => {
                json!({"oldStatus": before, "newStatus": status("status", &self.status)?, "reason": self.reason})
            }
        };
        let defaults = Defaults {
            now_ms: origin.first_seen_ms,
            event_type: Some(origin.event_type),
            event_id: Some(origin.event_id.to_string()),
            order_id: Some(order_id.clone()),
            tenant_id: Some(origin.tenant.to_owned()),
            source: Some(origin.source.to_owned()),
            correlation_id: None,
        };
        let json = json!({"occurredAt": self.occurred_at, "data": data});
        let mut event = Event::from_json(&json, &defaults).map_err(|errors| {
            let here = |field: String| match field.strip_prefix("data.") {
                Some(rest) => format!("shipment.{rest}"),
                None => field,
            };
            let errors = errors.0.into_iter();
            Problem::fields(
                errors.map(|error| FieldError { field: here(error.field), message: error.message }).collect(),
            )
        })?;
        event.meta_mut().actor = Some(origin.actor());
        Ok(enriched(event, state))
    }
}

/// The status called `name`, in any case.
fn status(field: &str, name: &str) -> Result<OrderStatus, Problem> {
    let known: Option<OrderStatus> = serde_json::from_value(name.to_ascii_lowercase().into()).ok();
    known.filter(|status| *status != OrderStatus::Unknown).ok_or_else(|| {
        let all = "created, confirmed, paid, processing, shipped, delivered, completed, cancelled, returned, refunded, \
                   disputed";
        Problem::field(field, format!("must be one of {all}"))
    })
}

impl Told for WorkerStatusMessage {
    const ENDPOINT: Endpoint = Endpoint::WorkerStatus;

    fn event_type(&self) -> Result<EventType, Problem> {
        let OrderId(job_id) = &self.job_id;
        let named = [
            ("workerId", self.worker_id.as_deref()),
            ("queueName", Some(&self.queue_name)),
            ("jobId", Some(job_id)),
            ("jobType", Some(&self.job_type)),
        ];
        let fits = |name: &str| {
            !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)
        };
        let wrong = |(field, name): (&'static str, Option<&str>)| {
            name.is_some_and(|name| !fits(name)).then_some(field)
        };
        if let Some(field) = named.into_iter().find_map(wrong) {
            let message = format!("must have 1 to {LONGEST_NAME} bytes and no control characters");
            return Err(Problem::field(field, message));
        }
        let (event_type, needed) = match self.status {
            JobStatus::Enqueued => (EventType::JobEnqueued, None),
            JobStatus::Started => (EventType::JobStarted, self.worker_id.is_none().then_some("workerId")),
            JobStatus::Completed if self.worker_id.is_none() => (EventType::JobCompleted, Some("workerId")),
            JobStatus::Completed => {
                (EventType::JobCompleted, self.processing_time.is_none().then_some("processingTime"))
            }
            JobStatus::Failed => (EventType::JobFailed, self.error.is_none().then_some("error")),
        };
        match needed {
            Some(field) => Err(Problem::field(field, format!("is required for {event_type}"))),
            None => Ok(event_type),
        }
    }

    async fn event(self, _: &Parts, origin: &Origin<'_>) -> Result<Event, Problem> {
        let factory =
            Factory::new(origin.tenant, origin.source).acting(origin.actor()).with_id(origin.event_id);
        let OrderId(job) = self.job_id;
        let (at, kind, queue) = (origin.first_seen_ms, self.job_type, self.queue_name);
        let worker = self.worker_id.clone().unwrap_or_default();
        let took = self.processing_time.map(i64::from);
        // It concerns no order that we know of, so that the job stands where the order does.
        Ok(match self.status {
            JobStatus::Enqueued => factory.job_enqueued(&job, at, &job, kind, queue).into(),
            JobStatus::Started => factory.job_started(&job, at, &job, kind, queue, worker).into(),
            JobStatus::Completed => {
                let took = took.unwrap_or_default();
                factory.job_completed(&job, at, &job, kind, queue, worker, took).into()
            }
            JobStatus::Failed => {
                let error = self.error.unwrap_or_default();
                let mut failed = factory.job_failed(&job, at, &job, kind, queue, error);
                failed.worker_id = self.worker_id;
                failed.processing_time_ms = took;
                failed.into()
            }
        })
    }
}
