//! Webhook endpoints: where a tenant wants to be told of events, and the secrets that sign what it is told.
//!
//! Every change counts up one revision in its own transaction, so a process that keeps a copy of all endpoints
//! asks one row whether the copy is still true. What is allowed to be registered is `admin::webhooks`'
//! business, how it is delivered to that of `stages::webhook`.

use serde::{Deserialize, Serialize};

use super::{Database, Row, StoreError, Transaction};
use crate::crypto::{CryptoError, Sealed, Secret, Subject, Vault};
use crate::event::EventType;

/// What an endpoint is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// Every event, also of types that come later.
    All,
    /// These types; never empty.
    Only(Vec<EventType>),
}

/// Whether an endpoint is delivered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointState {
    /// It is.
    Enabled,
    /// It isn't, and why.
    Disabled(String),
}

impl EndpointState {
    /// The name in the store, the API and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled(_) => "disabled",
        }
    }
}

/// A registered endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The tenant.
    pub tenant: String,
    /// Its id, unique in the tenant.
    pub id: String,
    /// Where requests go.
    pub url: String,
    /// What it is told of.
    pub events: Subscription,
    /// All attempts counted; `None` leaves it to the topology's policy.
    pub retry_attempts: Option<u32>,
    /// The first delay in milliseconds, doubled from attempt to attempt; `None` leaves it to the policy.
    pub retry_delay_ms: Option<i64>,
    /// The bound on one whole attempt, in milliseconds.
    pub timeout_ms: i64,
    /// The sealed list of [`SigningSecret`]s; see [`open_secrets`].
    pub secrets: Sealed,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// The partner that registered it and alone sees it among partners; `None` is the tenant itself.
    pub owner: Option<String>,
    /// When it was registered, epoch milliseconds.
    pub created_at: i64,
}

/// One of an endpoint's secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningSecret {
    /// The secret as it was given or shown.
    #[serde(with = "exposed")]
    pub secret: Secret<String>,
    /// Since when it signs, epoch milliseconds.
    pub created_at: i64,
    /// Until when it signs; `None` is for good.
    pub expires_at: Option<i64>,
}

/// Secrets are written out only into the text that is sealed at once.
mod exposed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::crypto::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
        Secret::deserialize(from)
    }
}

/// Seals an endpoint's secrets, newest first.
///
/// # Errors
/// When the list is too large to seal.
pub fn seal_secrets(vault: &Vault, tenant: &str, secrets: &[SigningSecret]) -> Result<Sealed, CryptoError> {
    let text = serde_json::to_vec(secrets).map_err(|_| CryptoError::TooLarge)?;
    vault.seal(Subject::Tenant { tenant }, &text)
}

/// Opens an endpoint's secrets, newest first.
///
/// # Errors
/// When they were sealed with another key or for another tenant.
pub fn open_secrets(vault: &Vault, endpoint: &Endpoint) -> Result<Vec<SigningSecret>, CryptoError> {
    let text = vault.open(Subject::Tenant { tenant: &endpoint.tenant }, &endpoint.secrets)?;
    serde_json::from_slice(&text).map_err(|_| CryptoError::DoesNotOpen)
}

/// Adds an endpoint, unless the tenant has `at_most` already; answers whether it was added.
///
/// # Errors
/// As the database says.
pub async fn add(tx: &mut Transaction, endpoint: &Endpoint, at_most: i64) -> Result<bool, StoreError> {
    count_change(tx).await?;
    let tenant = endpoint.tenant.as_str();
    let count = tx
        .row("SELECT COUNT(*) AS n FROM webhook_endpoints WHERE tenant_id = $1", &[tenant.into()])
        .await?
        .map_or(Ok(0), |row| row.int("n"))?;
    if count >= at_most {
        return Ok(false);
    }
    let (state, reason) = state_columns(&endpoint.state);
    tx.execute(
        "INSERT INTO webhook_endpoints (tenant_id, id, url, events, retry_attempts, retry_delay_ms, timeout_ms,
             secrets, state, disabled_reason, owner, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)",
        &[
            tenant.into(),
            endpoint.id.as_str().into(),
            endpoint.url.as_str().into(),
            events_column(&endpoint.events).into(),
            endpoint.retry_attempts.map(i64::from).into(),
            endpoint.retry_delay_ms.into(),
            endpoint.timeout_ms.into(),
            (&endpoint.secrets).into(),
            state.into(),
            reason.into(),
            endpoint.owner.as_deref().into(),
            endpoint.created_at.into(),
        ],
    )
    .await?;
    Ok(true)
}

/// Removes an endpoint; answers whether there was one. `owner` narrows it to that partner's own.
///
/// # Errors
/// As the database says.
pub async fn remove(
    tx: &mut Transaction,
    tenant: &str,
    id: &str,
    owner: Option<&str>,
) -> Result<bool, StoreError> {
    count_change(tx).await?;
    let removed = tx
        .execute(
            "DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2 AND ($3 IS NULL OR owner = $3)",
            &[tenant.into(), id.into(), owner.into()],
        )
        .await?;
    Ok(removed > 0)
}

/// Stops delivering to an endpoint, for `reason`.
///
/// # Errors
/// As the database says.
pub async fn disable(
    tx: &mut Transaction,
    tenant: &str,
    id: &str,
    reason: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    count_change(tx).await?;
    tx.execute(
        "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = $3, updated_at = $4
         WHERE tenant_id = $1 AND id = $2 AND state = 'enabled'",
        &[tenant.into(), id.into(), reason.into(), now_ms.into()],
    )
    .await?;
    Ok(())
}

/// One endpoint. `owner` narrows it to that partner's own.
///
/// # Errors
/// As the database says.
pub async fn find(
    db: &Database,
    tenant: &str,
    id: &str,
    owner: Option<&str>,
) -> Result<Option<Endpoint>, StoreError> {
    let row = db
        .row(
            "SELECT * FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2 AND ($3 IS NULL OR owner = $3)",
            &[tenant.into(), id.into(), owner.into()],
        )
        .await?;
    row.as_ref().map(endpoint).transpose()
}

/// A tenant's endpoints by id, at most `limit`, those after the id `after`. `owner` narrows it to that
/// partner's own.
///
/// # Errors
/// As the database says.
pub async fn list(
    db: &Database,
    tenant: &str,
    owner: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Endpoint>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM webhook_endpoints
             WHERE tenant_id = $1 AND ($2 IS NULL OR owner = $2) AND ($3 IS NULL OR id > $3)
             ORDER BY id LIMIT $4",
            &[tenant.into(), owner.into(), after.into(), limit.into()],
        )
        .await?;
    rows.iter().map(endpoint).collect()
}

/// Every endpoint of every tenant, for the copy that deliveries work from.
///
/// # Errors
/// As the database says.
pub async fn all(db: &Database) -> Result<Vec<Endpoint>, StoreError> {
    db.rows("SELECT * FROM webhook_endpoints", &[]).await?.iter().map(endpoint).collect()
}

/// How many endpoints there are, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub registered: u64,
    /// Those that are delivered to.
    pub enabled: u64,
}

/// Counts the endpoints of every tenant without reading them.
///
/// # Errors
/// As the database says.
pub async fn count(db: &Database) -> Result<Count, StoreError> {
    let sql = "SELECT COUNT(*) AS registered,
                   COALESCE(SUM(CASE WHEN state = 'enabled' THEN 1 ELSE 0 END), 0) AS enabled
               FROM webhook_endpoints";
    let Some(row) = db.row(sql, &[]).await? else { return Ok(Count { registered: 0, enabled: 0 }) };
    let number = |column| row.int(column).map(i64::unsigned_abs);
    Ok(Count { registered: number("registered")?, enabled: number("enabled")? })
}

/// How many changes there have been. A copy read after this revision was seen holds at least these changes.
///
/// # Errors
/// As the database says.
pub async fn revision(db: &Database) -> Result<i64, StoreError> {
    db.row("SELECT revision FROM webhook_revision", &[]).await?.map_or(Ok(0), |row| row.int("revision"))
}

/// The row's lock makes changes commit in the order of their revisions.
async fn count_change(tx: &mut Transaction) -> Result<(), StoreError> {
    tx.execute("UPDATE webhook_revision SET revision = revision + 1", &[]).await.map(drop)
}

fn state_columns(state: &EndpointState) -> (&'static str, Option<&str>) {
    match state {
        EndpointState::Enabled => (state.as_str(), None),
        EndpointState::Disabled(reason) => (state.as_str(), Some(reason)),
    }
}

/// `*`, or the dotted names with spaces between them.
fn events_column(events: &Subscription) -> String {
    match events {
        Subscription::All => "*".to_owned(),
        Subscription::Only(types) => {
            types.iter().map(|event_type| event_type.as_str()).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Names that a newer program wrote and this one doesn't know are left out: their events are unknown here too.
fn events(column: &str) -> Subscription {
    match column {
        "*" => Subscription::All,
        names => Subscription::Only(names.split(' ').filter_map(|name| name.parse().ok()).collect()),
    }
}

fn endpoint(row: &Row) -> Result<Endpoint, StoreError> {
    let state = match row.text("state")?.as_str() {
        "enabled" => EndpointState::Enabled,
        _ => EndpointState::Disabled(row.opt_text("disabled_reason")?.unwrap_or_default()),
    };
    let retry_attempts = row.opt_int("retry_attempts")?.map(u32::try_from).transpose().map_err(|error| {
        StoreError::Corrupt { column: "retry_attempts".to_owned(), reason: error.to_string() }
    })?;
    Ok(Endpoint {
        tenant: row.text("tenant_id")?,
        id: row.text("id")?,
        url: row.text("url")?,
        events: events(&row.text("events")?),
        retry_attempts,
        retry_delay_ms: row.opt_int("retry_delay_ms")?,
        timeout_ms: row.int("timeout_ms")?,
        secrets: row.sealed("secrets")?,
        state,
        owner: row.opt_text("owner")?,
        created_at: row.int("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn endpoint(tenant: &str, id: &str, owner: Option<&str>) -> Endpoint {
        Endpoint {
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            url: "https://example.com/hook".to_owned(),
            events: Subscription::Only(vec![EventType::OrderShipped, EventType::OrderPaid]),
            retry_attempts: Some(3),
            retry_delay_ms: None,
            timeout_ms: 10_000,
            secrets: Sealed::from_bytes(vec![1, 2]),
            state: EndpointState::Enabled,
            owner: owner.map(str::to_owned),
            created_at: 5,
        }
    }

    async fn added(db: &Database, endpoint: &Endpoint, at_most: i64) -> bool {
        let mut tx = db.begin().await.unwrap();
        let added = add(&mut tx, endpoint, at_most).await.unwrap();
        tx.commit().await.unwrap();
        added
    }

    #[tokio::test]
    async fn endpoints_come_back_whole_to_their_tenant_and_owner_alone() {
        each_engine(async |db| {
            let mut ours = endpoint("shop", "wh_1", Some("partner-1"));
            assert!(added(&db, &ours, 10).await);
            assert!(
                added(&db, &Endpoint { events: Subscription::All, ..endpoint("shop", "wh_2", None) }, 10)
                    .await
            );
            assert!(added(&db, &endpoint("other", "wh_1", None), 10).await);
            assert!(!added(&db, &endpoint("shop", "wh_3", None), 2).await, "the tenant has two");

            assert_eq!(find(&db, "shop", "wh_1", None).await.unwrap().as_ref(), Some(&ours));
            assert_eq!(find(&db, "shop", "wh_1", Some("partner-2")).await.unwrap(), None);
            let listed = list(&db, "shop", None, None, 10).await.unwrap();
            assert_eq!(listed.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["wh_1", "wh_2"]);
            assert_eq!(listed[1].events, Subscription::All);
            assert_eq!(list(&db, "shop", None, Some("wh_1"), 10).await.unwrap().len(), 1);
            assert_eq!(list(&db, "shop", Some("partner-1"), None, 10).await.unwrap().len(), 1);

            let before = revision(&db).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            disable(&mut tx, "shop", "wh_1", "410 Gone", 9).await.unwrap();
            assert!(!remove(&mut tx, "shop", "wh_2", Some("partner-1")).await.unwrap());
            assert!(remove(&mut tx, "shop", "wh_2", None).await.unwrap());
            tx.commit().await.unwrap();
            assert!(revision(&db).await.unwrap() > before);
            ours.state = EndpointState::Disabled("410 Gone".to_owned());
            assert_eq!(list(&db, "shop", None, None, 10).await.unwrap(), [ours]);
            assert_eq!(count(&db).await.unwrap(), Count { registered: 2, enabled: 1 });
            assert_eq!(all(&db).await.unwrap().len(), 2, "the other tenant's is untouched");
        })
        .await;
    }

    #[test]
    fn secrets_open_for_their_tenant_alone() {
        let vault = Vault::ephemeral();
        let secret =
            SigningSecret { secret: Secret::new("whsec_x".to_owned()), created_at: 1, expires_at: None };
        let mut endpoint = endpoint("shop", "wh_1", None);
        endpoint.secrets = seal_secrets(&vault, "shop", std::slice::from_ref(&secret)).unwrap();
        assert_eq!(open_secrets(&vault, &endpoint).unwrap(), [secret]);
        endpoint.tenant = "other".to_owned();
        assert!(open_secrets(&vault, &endpoint).is_err());
        assert!(!format!("{endpoint:?}").contains("whsec_x"));
    }
}
