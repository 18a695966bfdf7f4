//! Webhook endpoints: where a tenant wants to be told of events, and the secrets that sign what it is told.
//!
//! Every change counts up one revision in its own transaction, so a process that keeps a copy of all endpoints
//! asks one row whether the copy is still true. What is allowed to be registered is `admin::webhooks`'
//! business, how it is delivered to that of `stages::webhook`.
//!
//! Whoever changes several of these rows locks them in one order, or a deadlock makes one of both begin again: first what is
//! kept of endpoints' health ([`health`], by tenant and id), then the revision, then the endpoint.

mod choices;
mod endpoint;
pub mod health;
mod sealed;
#[cfg(test)]
mod tests;

use super::{Database, Row, StoreError, Transaction, Value};

pub use choices::{PastChoice, PastChoices};
pub use endpoint::{Endpoint, EndpointState, Subscription};
pub use sealed::{
    Headers, SignatureScheme, SigningSecret, open_contact, open_headers, open_secrets, seal_contact,
    seal_headers, seal_secrets,
};

/// Endpoints, and since when those fail whose owners were told so; `$which` narrows them.
macro_rules! endpoints_sql {
    ($which:literal) => {
        concat!(
            "SELECT e.*, (SELECT h.failing_since FROM webhook_health h
                 WHERE h.tenant_id = e.tenant_id AND h.endpoint_id = e.id AND h.told = 'failing') AS failing_since
             FROM webhook_endpoints e ",
            $which
        )
    };
}

const FIND: &str = endpoints_sql!("WHERE e.tenant_id = $1 AND e.id = $2 AND ($3 IS NULL OR e.owner = $3)");

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
    tx.execute(
        "INSERT INTO webhook_endpoints (tenant_id, id, url, events, events_before, filter, headers, rate,
             concurrency, retry_attempts, retry_delay_ms, timeout_ms, secrets, contact, description, state,
             disabled_reason, owner, created_at, updated_at, generation, choices)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
        &columns(endpoint),
    )
    .await?;
    Ok(true)
}

/// The endpoint called `id`, whosever it is: ids are unique over all tenants.
///
/// # Errors
/// As the database says.
pub async fn of_any_tenant(db: &Database, id: &str) -> Result<Option<Endpoint>, StoreError> {
    let row = db.row(endpoints_sql!("WHERE e.id = $1"), &[id.into()]).await?;
    row.as_ref().map(endpoint).transpose()
}

/// An endpoint, to be changed within `tx`: until that ends nobody else changes any. `owner` narrows it to that
/// partner's own.
///
/// # Errors
/// As the database says.
pub async fn find_to_change(
    tx: &mut Transaction,
    tenant: &str,
    id: &str,
    owner: Option<&str>,
) -> Result<Option<Endpoint>, StoreError> {
    count_change(tx).await?;
    let row = tx.row(FIND, &[tenant.into(), id.into(), owner.into()]).await?;
    row.as_ref().map(endpoint).transpose()
}

/// Stores a changed endpoint over the one that [`find_to_change`] gave within the same transaction.
///
/// # Errors
/// As the database says.
pub async fn change(tx: &mut Transaction, endpoint: &Endpoint) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE webhook_endpoints SET url = $3, events = $4, events_before = $5, filter = $6, headers = $7,
             rate = $8, concurrency = $9, retry_attempts = $10, retry_delay_ms = $11, timeout_ms = $12,
             secrets = $13, contact = $14, description = $15, state = $16, disabled_reason = $17, owner = $18,
             created_at = $19, updated_at = $20, generation = $21, choices = $22
         WHERE tenant_id = $1 AND id = $2",
        &columns(endpoint),
    )
    .await
    .map(drop)
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
    if tx.row(FIND, &[tenant.into(), id.into(), owner.into()]).await?.is_none() {
        return Ok(false);
    }
    health::forget(tx, tenant, id).await?;
    count_change(tx).await?;
    let removed = tx
        .execute(
            "DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2 AND ($3 IS NULL OR owner = $3)",
            &[tenant.into(), id.into(), owner.into()],
        )
        .await?;
    Ok(removed > 0)
}

/// Stops delivering to an endpoint, for `reason`, if it is still of the `generation` that gave it. Answers whether it
/// is disabled now; one that is paused stays so.
///
/// # Errors
/// As the database says.
pub async fn disable(
    tx: &mut Transaction,
    (tenant, id): (&str, &str),
    generation: i64,
    reason: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let current = async |tx: &mut Transaction| {
        let sql = "SELECT state FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2 AND generation = $3";
        let row = tx.row(sql, &[tenant.into(), id.into(), generation.into()]).await?;
        row.map(|row| row.text("state")).transpose()
    };
    // What changes nothing is no change: every process would read all endpoints again.
    if current(tx).await?.is_some_and(|state| state == "enabled") {
        count_change(tx).await?;
        tx.execute(
            "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = $4, updated_at = $5
             WHERE tenant_id = $1 AND id = $2 AND generation = $3 AND state = 'enabled'",
            &[tenant.into(), id.into(), generation.into(), reason.into(), now_ms.into()],
        )
        .await?;
    }
    Ok(current(tx).await?.is_some_and(|state| state == "disabled"))
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
    let row = db.row(FIND, &[tenant.into(), id.into(), owner.into()]).await?;
    row.as_ref().map(endpoint).transpose()
}

/// Which endpoints of a tenant are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only this partner's own.
    pub owner: Option<&'a str>,
    /// Only those in the state of this name ([`EndpointState::as_str`]).
    pub state: Option<&'a str>,
    /// Only those behind this id.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: i64,
}

/// A tenant's endpoints by id.
///
/// # Errors
/// As the database says.
pub async fn list(db: &Database, tenant: &str, wanted: &Wanted<'_>) -> Result<Vec<Endpoint>, StoreError> {
    let rows = db
        .rows(
            endpoints_sql!(
                "WHERE e.tenant_id = $1 AND ($2 IS NULL OR e.owner = $2) AND ($3 IS NULL OR e.id > $3)
                   AND ($4 IS NULL OR e.state = $4)
                 ORDER BY e.id LIMIT $5"
            ),
            &[
                tenant.into(),
                wanted.owner.into(),
                wanted.after.into(),
                wanted.state.into(),
                wanted.limit.into(),
            ],
        )
        .await?;
    rows.iter().map(endpoint).collect()
}

/// Every endpoint of every tenant, for the copy that deliveries work from: without what is told of their health.
///
/// # Errors
/// As the database says.
pub async fn all(db: &Database) -> Result<Vec<Endpoint>, StoreError> {
    let sql = "SELECT e.*, CAST(NULL AS BIGINT) AS failing_since FROM webhook_endpoints e";
    db.rows(sql, &[]).await?.iter().map(endpoint).collect()
}

/// How many endpoints there are.
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
    counted(db.row(sql, &[]).await?)
}

/// Counts the endpoints of one tenant. `owner` narrows it to that partner's own.
///
/// # Errors
/// As the database says.
pub async fn count_of(db: &Database, tenant: &str, owner: Option<&str>) -> Result<Count, StoreError> {
    let sql = "SELECT COUNT(*) AS registered,
                   COALESCE(SUM(CASE WHEN state = 'enabled' THEN 1 ELSE 0 END), 0) AS enabled
               FROM webhook_endpoints WHERE tenant_id = $1 AND ($2 IS NULL OR owner = $2)";
    counted(db.row(sql, &[tenant.into(), owner.into()]).await?)
}

fn counted(row: Option<Row>) -> Result<Count, StoreError> {
    let Some(row) = row else { return Ok(Count { registered: 0, enabled: 0 }) };
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
pub(super) async fn count_change(tx: &mut Transaction) -> Result<(), StoreError> {
    tx.execute("UPDATE webhook_revision SET revision = revision + 1", &[]).await.map(drop)
}

/// The columns of one row, in the order of the statements above.
fn columns(endpoint: &Endpoint) -> [Value<'_>; 22] {
    let reason = match &endpoint.state {
        EndpointState::Enabled | EndpointState::Paused => None,
        EndpointState::Disabled(reason) => Some(reason.as_str()),
    };
    [
        endpoint.tenant.as_str().into(),
        endpoint.id.as_str().into(),
        endpoint.url.as_str().into(),
        endpoint.events.to_string().into(),
        endpoint.events_before.to_string().into(),
        endpoint.filter.as_deref().into(),
        endpoint.headers.as_ref().into(),
        endpoint.rate.map(i64::from).into(),
        endpoint.concurrency.map(i64::from).into(),
        endpoint.retry_attempts.map(i64::from).into(),
        endpoint.retry_delay_ms.into(),
        endpoint.timeout_ms.into(),
        (&endpoint.secrets).into(),
        endpoint.contact.as_ref().into(),
        endpoint.description.as_deref().into(),
        endpoint.state.as_str().into(),
        reason.into(),
        endpoint.owner.as_deref().into(),
        endpoint.created_at.into(),
        endpoint.updated_at.into(),
        endpoint.generation.into(),
        endpoint.choices.text().into(),
    ]
}

fn endpoint(row: &Row) -> Result<Endpoint, StoreError> {
    let state = match row.text("state")?.as_str() {
        "enabled" => EndpointState::Enabled,
        "paused" => EndpointState::Paused,
        _ => EndpointState::Disabled(row.opt_text("disabled_reason")?.unwrap_or_default()),
    };
    let choices = row.opt_text("choices")?.map(|text| {
        PastChoices::read(&text)
            .map_err(|error| StoreError::Corrupt { column: "choices".to_owned(), reason: error.to_string() })
    });
    let small = |column: &str| {
        let number = row.opt_int(column)?.map(u32::try_from).transpose();
        number.map_err(|error| StoreError::Corrupt { column: column.to_owned(), reason: error.to_string() })
    };
    Ok(Endpoint {
        tenant: row.text("tenant_id")?,
        id: row.text("id")?,
        url: row.text("url")?,
        events: Subscription::written(&row.text("events")?),
        events_before: Subscription::written(&row.text("events_before")?),
        filter: row.opt_text("filter")?,
        choices: choices.transpose()?.unwrap_or_default(),
        headers: row.opt_sealed("headers")?,
        rate: small("rate")?,
        concurrency: small("concurrency")?,
        retry_attempts: small("retry_attempts")?,
        retry_delay_ms: row.opt_int("retry_delay_ms")?,
        timeout_ms: row.int("timeout_ms")?,
        secrets: row.sealed("secrets")?,
        contact: row.opt_sealed("contact")?,
        description: row.opt_text("description")?,
        state,
        generation: row.int("generation")?,
        failing_since: row.opt_int("failing_since")?,
        owner: row.opt_text("owner")?,
        created_at: row.int("created_at")?,
        updated_at: row.int("updated_at")?,
    })
}
