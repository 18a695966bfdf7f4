//! The API as a whole, called without a network, over both stores: a harness here, the scenarios beside it.

mod floor;
mod inbound;
mod operations;
mod order_events;
mod orders;
mod stages;
mod webhook_past;
mod webhooks;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tower::ServiceExt as _;

use self::operations::FakeOperations;
use self::stages::stages;
use super::token::{Grant, issue};
use super::*;
use crate::clock::Clock;
use crate::crypto::{Secret, Vault};
use crate::event::{Event, EventType, Factory, LineItem, Money, Party, TraceParent};
use crate::order::OrderState;
use crate::store::history::{self, NewEvent, OrderRow};
use crate::store::testing::each_engine;
use crate::store::{Database, personal};
use crate::telemetry::Metrics;

/// Takes every event, or refuses as it is told.
#[derive(Default)]
struct FakePublisher {
    taken: Mutex<Vec<Event>>,
    refuse: Mutex<Option<PublishRefused>>,
}

impl Publish for FakePublisher {
    fn may_publish(&self, role: &str, event_type: EventType) -> bool {
        role == "admin" || (role == "service" && event_type != EventType::UserUpdated)
    }

    fn publish(
        &self,
        event: Event,
        _: Option<TraceParent>,
    ) -> BoxFuture<'_, Result<Published, PublishRefused>> {
        async move {
            if let Some(refused) = self.refuse.lock().unwrap().clone() {
                return Err(refused);
            }
            let event_id = event.meta().event_id.parse().unwrap();
            let mut taken = self.taken.lock().unwrap();
            taken.push(event);
            let offset = i64::try_from(taken.len()).unwrap() - 1;
            Ok(Published { event_id, topic: "orders.events".to_owned(), partition: 0, offset })
        }
        .boxed()
    }
}

/// One API over one store.
struct Api {
    parts: Parts,
    published: Arc<FakePublisher>,
    operations: Arc<FakeOperations>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code, for problems.
    fn problem(&self) -> (u16, String) {
        (self.status.as_u16(), self.code())
    }
}

fn options() -> HttpOptions {
    HttpOptions {
        jwt_secret: Some(Secret::new("a-secret-of-more-than-thirty-two-bytes".to_owned())),
        max_body_bytes: 64 * 1024,
        cors_origins: vec!["https://shop.example".to_owned()],
        ..HttpOptions::default()
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

impl Api {
    fn new(db: Database) -> Self {
        Self::with(db, options())
    }

    fn with(db: Database, options: HttpOptions) -> Self {
        let (clock, vault) = (Clock::system(), Vault::ephemeral());
        let published = Arc::new(FakePublisher::default());
        let operations = Arc::new(FakeOperations::default());
        let health = EventsHealth { active: true, subscribers: 5, ..Default::default() };
        let metrics = Metrics::new();
        let webhooks = webhooks::registrar(&db, &vault, &clock);
        let parts = Parts {
            inbound: Arc::new(inbound::senders()),
            webhook_trials: webhooks::trials(&webhooks),
            webhooks,
            stages: stages(&db, &clock),
            operations: Arc::clone(&operations) as Arc<dyn Operate>,
            hub: live::Hub::new(live::LiveOptions::default(), Arc::clone(&metrics), clock.clone()),
            auth: Arc::new(Auth::new(&options, clock.clone()).unwrap()),
            options: Arc::new(options),
            db,
            vault,
            metrics,
            clock,
            publisher: Arc::clone(&published) as Arc<dyn Publish>,
            readiness: Arc::new([Check { name: "database", probe: Probe::new(async || Ok(())) }]),
            events_health: Probe::new(move || std::future::ready(Ok(health.clone()))),
        };
        Self { parts, published, operations }
    }

    fn token(&self, subject: &str, roles: &[Role], tenant: &str) -> String {
        let grant = Grant { subject, roles, tenant, ttl: Duration::from_secs(60) };
        format!("Bearer {}", issue(&self.parts.options, &self.parts.clock, &grant).unwrap().expose())
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = router(self.parts.clone()).unwrap().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(request("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.ask(request("GET", path).header("authorization", token).body(Body::empty()).unwrap()).await
    }

    /// POSTs JSON, with an `Idempotency-Key` if one is given.
    async fn post_as(&self, token: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut request =
            request("POST", path).header("authorization", token).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.ask(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// As if the process had ended after the request was carried out and before its answer was kept.
    async fn lose_answer(&self, key: &str) {
        let sql = "UPDATE idempotency SET status = NULL, content_type = NULL, body = NULL, locked_until = 0
                   WHERE key = $1";
        let mut tx = self.parts.db.begin().await.unwrap();
        assert_eq!(tx.execute(sql, &[key.into()]).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// Stores events as the history stage would.
    async fn remember(&self, tenant: &str, order_id: &str, events: Vec<Event>) {
        let mut state = OrderState::new(tenant, order_id);
        let rows: Vec<NewEvent> = events.iter().map(|event| self.row(&mut state, event)).collect();
        let mut tx = self.parts.db.begin().await.unwrap();
        history::add(&mut tx, &rows, 1_000).await.unwrap();
        let order = OrderRow::seal(&self.parts.vault, &state).unwrap();
        history::save_orders(&mut tx, &[order], 1_000).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn row(&self, state: &mut OrderState, event: &Event) -> NewEvent {
        state.apply(event);
        let (meta, masked) = (event.meta(), event.to_json_masked());
        let customer = meta.customer_id.as_deref().unwrap_or("nobody");
        NewEvent {
            tenant: meta.tenant_id.clone(),
            order_id: meta.order_id.clone(),
            version: state.version,
            event_id: meta.event_id.clone(),
            kind: event.event_type().as_str().to_owned(),
            schema_id: 1,
            occurred_at: meta.occurred_at,
            correlation_id: None,
            causation_id: None,
            source: meta.source.clone(),
            cluster_id: "c".to_owned(),
            coordinates: ("orders.events".to_owned(), 0, state.version),
            payload_hash: vec![0],
            masked: masked.to_string(),
            personal: personal::seal(&self.parts.vault, &meta.tenant_id, &event.to_json(), &masked, customer)
                .unwrap(),
        }
    }
}

/// `order.created` and what followed: bought by `ana` from `sam`.
fn life_of_an_order(tenant: &str, order_id: &str) -> Vec<Event> {
    let factory = Factory::new(tenant, "shop");
    let party = |user_id: &str| Party {
        user_id: user_id.to_owned(),
        email: Some(format!("{user_id}@example.com")),
        ..Party::default()
    };
    let total = Money::new(1_999, "EUR");
    let line = LineItem {
        product_id: "p-1".to_owned(),
        title: "Tea".to_owned(),
        quantity: 1,
        unit_price: total.clone(),
        ..LineItem::default()
    };
    vec![
        factory
            .order_created(order_id, 1_000, 7, party("ana"), party("sam"), vec![line], total.clone())
            .into(),
        factory.order_paid(order_id, 2_000, "pay-1", "card", total).into(),
        factory.order_shipped(order_id, 3_000, "DHL", format!("JD-{tenant}")).into(),
    ]
}
