//! The engine's port of the webhook stage: what a record becomes, whom it concerns, and one attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::body::WebhookId;
use super::client::guard::Guard;
use super::client::{Answer, AttemptError, Client, PoolLimits};
use super::delivery::{Delivery, Identities};
use super::headers::{Moment, headers};
use super::options::WebhookOptions;
use super::receipts::{ReceiptTopics, Receipts};
use super::registry::{Registry, View};
use super::target::Target;
use super::told::{exhausted, receipt};
use super::traffic::{Asked, Member, Traffic};
use super::verdict::{Blame, Verdict, judge};
use crate::clock::Clock;
use crate::crypto::Vault;
use crate::event::Codec;
use crate::runtime::retry::Schedule;
use crate::runtime::{
    Answered, EffectStage, ErrorClass, Failure, Intake, Outcome, Producer, Record, SkipReason, TargetState,
    Task, Tasks,
};
use crate::stages::attempts::delivery_id;
use crate::stages::intake::Reader;
use crate::store::webhooks::EndpointState;
use crate::store::{Database, StoreError};
use crate::telemetry::Metrics;
use crate::topology;

/// The stage's name.
pub const NAME: &str = "webhook";

/// What the stage is made of.
#[derive(Debug, Clone)]
pub struct WebhookParts {
    /// The stage as the topology declares it.
    pub declared: topology::Stage,
    /// Reads the source's records.
    pub reader: Reader,
    /// Holds the endpoints.
    pub db: Database,
    /// Opens their secrets.
    pub vault: Vault,
    /// Writes receipts.
    pub codec: Codec,
    /// Sends receipts.
    pub producer: Producer,
    /// Where receipts go.
    pub receipts: ReceiptTopics,
    /// When failed deliveries are tried again, where an endpoint doesn't say.
    pub policy: Schedule,
    /// Partitions of the source.
    pub partitions: usize,
    /// What the process knows of endpoints.
    pub traffic: Traffic,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Clock,
}

/// Tells partners what happens to orders.
#[derive(Debug)]
pub struct WebhookStage {
    declared: topology::Stage,
    reader: Reader,
    registry: Registry,
    client: Client,
    identities: Identities,
    receipts: Arc<Receipts>,
    traffic: Member,
    concurrency: usize,
    /// What this group adds to the gauge of all.
    cursor_lag: AtomicI64,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// One attempt, as it ended.
#[derive(Debug)]
pub(super) struct Attempted {
    /// When it began, epoch milliseconds.
    pub(super) at_ms: i64,
    /// How long it took.
    pub(super) took: Duration,
    pub(super) ended: Result<Answer, AttemptError>,
    pub(super) verdict: Verdict,
    /// It doesn't count as an attempt, and the endpoint isn't asked again before this time, epoch milliseconds.
    pub(super) resumes_at: Option<i64>,
}

impl WebhookStage {
    /// The stage over `parts`. Reads the system's certificates; asks nobody anything yet.
    pub fn new(parts: WebhookParts, options: &WebhookOptions) -> Self {
        for name in Verdict::NAMES {
            parts.metrics.webhook_attempts.with_label_values(&[name]).inc_by(0);
        }
        for state in EndpointState::NAMES {
            parts.metrics.webhook_endpoints.with_label_values(&[state]).set(0);
        }
        parts.metrics.webhook_breakers_open.with_label_values(&[&*parts.declared.name]).set(0);
        let concurrency = options.concurrency_per_endpoint.max(1);
        let guard = Guard {
            allow_private_networks: options.allow_private_networks,
            allowed: options.allowed_networks.as_slice().into(),
        };
        let limits = PoolLimits {
            // One host may serve many endpoints, but not keep all that others need.
            per_origin: concurrency.max(options.idle_connections / 4),
            total: options.idle_connections,
            idle: options.idle_timeout,
            settle: PoolLimits::SETTLE,
        };
        let (name, slots) = (&parts.declared.name, parts.declared.concurrency);
        let traffic = parts.traffic.join(name, parts.partitions, slots, options.breaker);
        Self {
            reader: parts.reader,
            registry: Registry::new(
                parts.db,
                parts.vault,
                parts.policy,
                options.refresh,
                parts.clock.clone(),
                Arc::clone(&parts.metrics),
            ),
            client: Client::new(guard, limits),
            identities: Identities::default(),
            receipts: Receipts::new(parts.codec, parts.producer, parts.receipts, parts.clock.clone()).into(),
            traffic,
            concurrency,
            cursor_lag: AtomicI64::new(0),
            metrics: parts.metrics,
            clock: parts.clock,
            declared: parts.declared,
        }
    }

    /// Has what receipts need looked up, before there are any.
    pub(super) fn prepared(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.receipts).prepared()
    }

    async fn attempt(&self, target: &Target, task: &Task<Delivery>) -> Attempted {
        let at_ms = self.clock.now_ms();
        let begun = Instant::now();
        let delivery = &task.input;
        let underway = self.traffic.underway(asked(target));
        let ended = match &target.ready {
            Ok(ready) => {
                let moment = Moment { attempt: task.attempt, now_ms: at_ms };
                let id = WebhookId::of(delivery.event_id);
                let told = delivery.told(&id, &task.record);
                let headers = headers(self.client.blank(), ready, told, moment);
                let body = delivery.body.clone();
                self.client.post(&ready.address, headers, body, target.timeout).await
            }
            Err(why) => Err(AttemptError::Unusable(why.clone())),
        };
        drop(underway);
        let took = begun.elapsed();
        let now_ms = self.clock.now_ms();
        let verdict = judge(&ended, now_ms);
        let resumes_at = self.traffic.note(asked(target), &delivery.order_id, &verdict, now_ms);
        self.metrics.webhook_attempts.with_label_values(&[verdict.as_str()]).inc();
        self.metrics.webhook_delivery.with_label_values::<&str>(&[]).observe(took.as_secs_f64());
        Attempted { at_ms, took, ended, verdict, resumes_at }
    }

    /// What the attempt means for the task. Disabling a gone endpoint is part of it.
    async fn outcome(&self, target: &Target, task: &Task<Delivery>, attempted: &Attempted) -> Outcome {
        let (blame, at_least, error) = match &attempted.verdict {
            Verdict::Delivered => return Outcome::Done,
            Verdict::Gone => match self.registry.disable(target, "the endpoint answered 410 Gone").await {
                Ok(true) => {
                    tracing::info!(
                        tenant = &*target.tenant,
                        endpoint = &*target.id,
                        "disabled: it answered 410 Gone"
                    );
                    return Outcome::Skipped(SkipReason::TargetGone);
                }
                Ok(false) => {
                    let why = "it answered 410, but is paused, or has another URL or a new start since";
                    return Outcome::Postponed(Failure::new(ErrorClass::Unavailable, why));
                }
                Err(error) => {
                    (Blame::Endpoint, None, format!("it answered 410 but can't be disabled: {error}"))
                }
            },
            Verdict::Failed { blame, at_least, error } => (*blame, *at_least, error.clone()),
        };
        let answered = attempted.ended.as_ref().ok().map(|answer| answer.status);
        if attempted.resumes_at.is_some() {
            return Outcome::Postponed(Failure::new(class(attempted, blame), error).with_answer(answered));
        }
        match target.schedule.after(task.attempt, seed(task, target), at_least) {
            Some(after) => {
                let why = Failure::new(class(attempted, blame), error).with_answer(answered);
                Outcome::Retry { after, why }
            }
            None => {
                let class = match blame {
                    Blame::Endpoint => ErrorClass::Exhausted,
                    Blame::Event => ErrorClass::Rejected,
                };
                let message = format!("endpoint {}, attempt {}, the last: {error}", target.id, task.attempt);
                Outcome::Dead(Failure::new(class, message).with_answer(answered))
            }
        }
    }
}

impl EffectStage for WebhookStage {
    type Input = Delivery;

    fn name(&self) -> &str {
        &self.declared.name
    }

    async fn decode(&self, record: &Record) -> Intake<Delivery> {
        let view = match self.registry.fresh().await {
            Ok(view) => view,
            Err(error) => return unavailable(&error),
        };
        let reading = match self.reader.read(record, |event_type| view.anyone_takes(event_type)).await {
            Intake::Ready(reading) => reading,
            Intake::Skipped(reason) => return Intake::Skipped(reason),
            Intake::Dead(failure) => return Intake::Dead(failure),
            Intake::Retry(failure) => return Intake::Retry(failure),
            Intake::Unavailable(failure) => return Intake::Unavailable(failure),
        };
        Intake::Ready(Delivery::of(record, reading, &self.identities))
    }

    async fn open(&self, record: &Record, delivery: &Delivery, tasks: &mut Tasks) -> Intake<()> {
        let view = match self.registry.fresh().await {
            Ok(view) => view,
            Err(error) => return unavailable(&error),
        };
        let priority = self.declared.priority_of(delivery.event_type);
        // Read again only where somebody chooses by it.
        let mut body = None;
        for (target, choice) in view.subscribed(&delivery.tenant, delivery.event_type, record) {
            if target.begins_behind(record) {
                continue;
            }
            if choice.chooses() && !choice.wants(body.get_or_insert_with(|| parsed(&delivery.body))) {
                continue;
            }
            let lane = [NAME, "|", &delivery.tenant, "|", &delivery.order_id, "|", &target.id];
            tasks.push(lane, &target.id, priority);
        }
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<Delivery>) -> Outcome {
        self.answer(task).await.settled().await
    }

    /// The outcome holds once the attempt's receipt is acknowledged.
    async fn answer(&self, task: &Task<Delivery>) -> Answered {
        let view: Arc<View> = match (self.registry.fresh().await, self.registry.latest()) {
            (Ok(view), _) | (Err(_), Some(view)) => view,
            (Err(error), None) => {
                let why = Failure::new(ErrorClass::Unavailable, error.to_string());
                return Outcome::Postponed(why).into();
            }
        };
        let Some(target) = view.target(&task.input.tenant, &task.target) else {
            return Outcome::Skipped(SkipReason::TargetGone).into();
        };
        // What concerns one that was paused or disabled a moment ago is kept for it.
        let held = match &target.state {
            EndpointState::Enabled => None,
            EndpointState::Paused => Some("the endpoint is paused"),
            EndpointState::Disabled(why) => Some(why.as_str()),
        };
        if let Some(why) = held {
            return Outcome::Postponed(Failure::new(ErrorClass::Unavailable, why)).into();
        }
        let attempted = self.attempt(target, task).await;
        let outcome = self.outcome(target, task, &attempted).await;
        let receipt = receipt(target, task, &attempted, &outcome);
        Answered { outcome, owed: Some(Arc::clone(&self.receipts).attempted(receipt).boxed()) }
    }

    fn before(&self, task: &Task<Delivery>) {
        let (delivery, acting) = (&task.input, task.input.actor.as_ref());
        tracing::debug!(
            stage = self.declared.name, webhook_id = WebhookId::of(delivery.event_id).as_str(), endpoint = &*task.target,
            attempt = task.attempt, actor = acting.map(|actor| actor.id.as_str()), role = ?acting.map(|actor| actor.role),
            "a delivery is being attempted"
        );
    }

    /// Tells the partner that the delivery was given up. A receipt of it that was written before a crash is written again.
    async fn given_up(&self, task: &Task<Delivery>, why: &Failure) -> Result<(), Failure> {
        self.receipts.exhausted(&exhausted(task, why, self.clock.now_ms())).await
    }

    fn cut_off(&self, task: &Task<Delivery>, why: Failure) -> Outcome {
        let view = self.registry.latest();
        let target = view.as_deref().and_then(|view| view.target(&task.input.tenant, &task.target));
        match target {
            Some(target) => target.schedule.outcome(task.attempt, seed(task, target), why),
            None => Schedule::default().outcome(task.attempt, task.input.event_id.as_u64_pair().1, why),
        }
    }

    fn has_priorities(&self) -> bool {
        self.declared.has_priorities()
    }

    fn identity(&self) -> Option<fn(&Delivery) -> u128> {
        Some(|delivery| delivery.identity)
    }

    fn kind(&self, delivery: &Delivery) -> &'static str {
        delivery.event_type.as_str()
    }

    fn target_concurrency(&self, target: &str) -> usize {
        let Some(target) = self.registry.known(target) else { return self.concurrency };
        if self.traffic.is_probing(asked(&target)) {
            return 1;
        }
        let wanted = target.concurrency.map(|wanted| self.traffic.share(wanted));
        let wanted = wanted.and_then(|wanted| usize::try_from(wanted).ok());
        wanted.unwrap_or(self.concurrency).clamp(1, self.concurrency)
    }

    fn not_before(&self, target: &str, now_ms: i64) -> Option<i64> {
        self.traffic.not_before(asked(&*self.registry.known(target)?), now_ms)
    }

    fn starting(&self, target: &str, now_ms: i64) {
        if let Some(target) = self.registry.known(target) {
            self.traffic.starting(asked(&target), now_ms);
        }
    }

    fn owns(&self, partitions: usize) {
        self.traffic.owns(partitions);
    }

    async fn refresh(&self) {
        match self.registry.fresh().await {
            Ok(view) => self.traffic.keep(|endpoint| view.by_id(endpoint).map(|target| target.generation)),
            Err(error) => tracing::debug!(%error, "endpoints can't be read; the last view stands"),
        }
        let open = self.traffic.tidy(self.clock.now_ms());
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.metrics.webhook_breakers_open.with_label_values(&[&*self.declared.name]).set(open);
    }

    fn target_state(&self, target: &str) -> TargetState {
        let state = self.registry.state(target);
        let is_away =
            || self.registry.known(target).is_some_and(|target| self.traffic.is_away(asked(&target)));
        if state == TargetState::Flowing && is_away() {
            return TargetState::Away("it can't be reached; its breaker is open".into());
        }
        state
    }

    /// One number for all groups that run this stage: each adds what its own came to.
    fn cursors_lag(&self, offsets: u64) {
        let lag = i64::try_from(offsets).unwrap_or(i64::MAX);
        let before = self.cursor_lag.swap(lag, Ordering::Relaxed);
        self.metrics.webhook_cursor_lag.with_label_values::<&str>(&[]).add(lag - before);
    }
}

/// What traffic is asked about an endpoint.
fn asked(target: &Target) -> Asked<'_> {
    Asked { id: &target.id, generation: target.generation, rate: target.rate }
}

/// The seed of a delivery's jitter: the same for every attempt and restart.
fn seed(task: &Task<Delivery>, target: &Target) -> u64 {
    delivery_id(&task.input.tenant, task.input.event_id, &target.id).as_u64_pair().1
}

/// The body as filters see it: what is sent, and nothing else.
fn parsed(body: &Bytes) -> serde_json::Value {
    serde_json::from_slice(body).unwrap_or_default()
}

fn unavailable<T>(error: &StoreError) -> Intake<T> {
    Intake::Unavailable(Failure::new(ErrorClass::Unavailable, error.to_string()))
}

fn class(attempted: &Attempted, blame: Blame) -> ErrorClass {
    match (&attempted.ended, blame) {
        (Err(AttemptError::TimedOut), _) => ErrorClass::Timeout,
        (_, Blame::Endpoint) => ErrorClass::Unavailable,
        (_, Blame::Event) => ErrorClass::Rejected,
    }
}
