//! All endpoints in memory, never older than a moment when a delivery is decided on.
//!
//! A process asks the store's one revision row at most every `refresh`, and only reads everything again when it
//! moved. A registration is answered after that time has passed, so an event published after the answer finds
//! the endpoint in every process. If the store is away nothing new can be decided, and partitions wait.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::target::{Choice, Target};
use crate::clock::Clock;
use crate::crypto::Vault;
use crate::event::EventType;
use crate::runtime::retry::Schedule;
use crate::runtime::{Record, TargetState};
use crate::store::webhook_starts;
use crate::store::webhooks::{self, EndpointState};
use crate::store::{Database, StoreError};
use crate::telemetry::Metrics;

/// The endpoints as they were at one revision.
#[derive(Debug)]
pub(super) struct View {
    revision: i64,
    tenants: HashMap<Arc<str>, OfTenant>,
    /// The same by id alone: ids are unique over all tenants, as they are made of random ones.
    ids: HashMap<Arc<str>, Arc<Target>>,
    /// Types that any endpoint is or was told of, by their places in [`EventType::ALL`].
    types: Vec<bool>,
}

/// The endpoints of a tenant.
#[derive(Debug, Default)]
struct OfTenant {
    ids: HashMap<Arc<str>, Arc<Target>>,
    /// Those that are told of the same types together: of ten thousand, few may be told of an event.
    alike: HashMap<Arc<[bool]>, Vec<Arc<Target>>>,
    /// Those that chose otherwise before: of them it depends on the record.
    changed: Vec<Arc<Target>>,
}

impl OfTenant {
    fn add(&mut self, target: &Arc<Target>) {
        let of_its_kind = match target.has_chosen_before() {
            true => &mut self.changed,
            false => self.alike.entry(Arc::clone(&target.choice.types)).or_default(),
        };
        of_its_kind.push(Arc::clone(target));
        self.ids.insert(Arc::clone(&target.id), Arc::clone(target));
    }
}

impl View {
    /// The endpoint called `id` of `tenant`.
    pub(super) fn target(&self, tenant: &str, id: &str) -> Option<&Arc<Target>> {
        self.tenants.get(tenant)?.ids.get(id)
    }

    /// The endpoint called `id`, of whichever tenant.
    pub(super) fn by_id(&self, id: &str) -> Option<&Arc<Target>> {
        self.ids.get(id)
    }

    /// The endpoints of `tenant` that are told of `record`, which is of `event_type`, and what each chose when it was
    /// published. What concerns a disabled one is kept for it by a cursor.
    pub(super) fn subscribed(
        &self,
        tenant: &str,
        event_type: EventType,
        record: &Record,
    ) -> impl Iterator<Item = (&Arc<Target>, &Choice)> {
        let of_tenant = self.tenants.get(tenant);
        let alike = of_tenant.into_iter().flat_map(|of_tenant| of_tenant.alike.values());
        let takes = move |target: &Arc<Target>| target.choice.takes(event_type);
        let alike = alike.filter(move |alike| alike.first().is_some_and(takes)).flatten();
        let changed = of_tenant.into_iter().flat_map(|of_tenant| &of_tenant.changed);
        let changed = changed.map(move |target| (target, target.choice_for(record)));
        let changed = changed.filter(move |(_, choice)| choice.takes(event_type));
        alike.map(|target| (target, &target.choice)).chain(changed)
    }

    /// Whether any endpoint at all, enabled or not, may be told of `event_type`, or was before its types were changed:
    /// this holds for parked work too as long as its target is there.
    pub(super) fn anyone_takes(&self, event_type: EventType) -> bool {
        self.types.get(event_type as usize).copied().unwrap_or(false)
    }
}

/// Keeps the view true.
#[derive(Debug)]
pub(super) struct Registry {
    db: Database,
    vault: Vault,
    policy: Schedule,
    clock: Clock,
    metrics: Arc<Metrics>,
    refresh: Duration,
    latest: RwLock<Option<Seen>>,
    /// Held by the one who asks the store, so that all others wait for the same answer.
    asking: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Seen {
    view: Arc<View>,
    /// Before the store was asked: what was committed until then is in the view.
    at: Instant,
}

impl Registry {
    /// A registry that has read nothing yet. `policy` holds where an endpoint names no schedule.
    pub(super) fn new(
        db: Database,
        vault: Vault,
        policy: Schedule,
        refresh: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let latest = RwLock::new(None);
        Self { db, vault, policy, clock, metrics, refresh, latest, asking: Mutex::new(()) }
    }

    /// A view that was true at most `refresh` ago.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn fresh(&self) -> Result<Arc<View>, StoreError> {
        if let Some(seen) = self.young() {
            return Ok(seen.view);
        }
        let _asking = self.asking.lock().await;
        if let Some(seen) = self.young() {
            return Ok(seen.view);
        }
        let at = Instant::now();
        let revision = webhooks::revision(&self.db).await?;
        let view = match self.latest() {
            Some(view) if view.revision == revision => view,
            Some(_) | None => Arc::new(self.read(revision).await?),
        };
        let seen = Seen { view: Arc::clone(&view), at };
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(view)
    }

    /// The last view there was, however old.
    pub(super) fn latest(&self) -> Option<Arc<View>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().map(|seen| Arc::clone(&seen.view))
    }

    /// The endpoint called `id` as it was seen last.
    pub(super) fn known(&self, id: &str) -> Option<Arc<Target>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref()?.view.by_id(id).cloned()
    }

    /// Whether the endpoint called `id` is to be delivered to, from memory. That it is gone is said only by a view
    /// that isn't older than `refresh`: it may have been registered since.
    pub(super) fn state(&self, id: &str) -> TargetState {
        // Before the first view nobody knows whether it is paused: a cursor that held it goes on holding it.
        let Some(view) = self.latest() else { return TargetState::Unknown };
        match view.ids.get(id) {
            Some(target) => target.serving(),
            None if self.young().is_some() => TargetState::Gone,
            None => TargetState::Unknown,
        }
    }

    /// Stops delivering to an endpoint, for `reason`, in the store and from the next view on. False when it has another
    /// URL or a new start since, or is gone: then it isn't the one that gave the reason.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn disable(&self, target: &Target, reason: &str) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let (endpoint, now_ms) = ((&*target.tenant, &*target.id), self.clock.now_ms());
        let is_meant = webhooks::disable(&mut tx, endpoint, target.generation, reason, now_ms).await?;
        tx.commit().await?;
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = latest.as_mut() {
            // An instant that lies `refresh` back makes the next caller ask the store.
            seen.at = seen.at.checked_sub(self.refresh).unwrap_or(seen.at);
        }
        Ok(is_meant)
    }

    fn young(&self) -> Option<Seen> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|seen| seen.at.elapsed() < self.refresh).cloned()
    }

    /// Reads everything; `revision` was seen before, so the result holds at least its changes.
    async fn read(&self, revision: i64) -> Result<View, StoreError> {
        let now_ms = self.clock.now_ms();
        let mut tenants: HashMap<Arc<str>, OfTenant> = HashMap::new();
        let mut ids = HashMap::new();
        let mut types = vec![false; EventType::ALL.len()];
        let mut states: HashMap<&'static str, i64> = HashMap::new();
        let mut starts = webhook_starts::all(&self.db).await?;
        for endpoint in webhooks::all(&self.db).await? {
            let mut target = Target::of(&endpoint, &self.vault, &self.policy, now_ms);
            let starts = starts.remove(&(endpoint.tenant.clone(), endpoint.id.clone()));
            target.starts = starts.unwrap_or_default();
            if let Err(why) = &target.ready {
                tracing::error!(
                    tenant = endpoint.tenant,
                    endpoint = endpoint.id,
                    why,
                    "an endpoint can't be delivered to"
                );
            }
            for (known, event_type) in types.iter_mut().zip(EventType::ALL) {
                *known |= endpoint.events.takes(*event_type) || endpoint.events_before.takes(*event_type);
            }
            *states.entry(target.state.as_str()).or_default() += 1;
            let target = Arc::new(target);
            tenants.entry(Arc::clone(&target.tenant)).or_default().add(&target);
            ids.insert(Arc::clone(&target.id), target);
        }
        for state in EndpointState::NAMES {
            let endpoints = states.get(state).copied().unwrap_or_default();
            self.metrics.webhook_endpoints.with_label_values(&[state]).set(endpoints);
        }
        Ok(View { revision, tenants, ids, types })
    }
}
