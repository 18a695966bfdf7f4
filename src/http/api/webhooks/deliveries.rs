//! What was tried for an endpoint.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::find;
use crate::admin::webhooks::AttemptShown;
use crate::http::page::{self, Page};
use crate::http::{Caller, Parts, PathParams, Problem, Query};
use crate::store::attempts::{self, Before};

/// The list's name in its cursors.
const DELIVERIES: &str = "webhookDeliveries";

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeliveriesQuery {
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// What was tried for an endpoint, newest first.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "deliveries",
    params(("id" = String, Path, description = "The registration's id"), DeliveriesQuery),
    responses((status = 200, body = Page<AttemptShown>))
)]
pub(in crate::http) async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Page<AttemptShown>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before: Option<(i64, String)> = page::place(DELIVERIES, query.cursor.as_deref())?;
    let before = before.map(|(attempted_at, attempt_id)| Before { attempted_at, attempt_id });
    let endpoint = find(&parts, &caller, &id).await?;
    let rows =
        attempts::of_endpoint(&parts.db, &caller.tenant, &endpoint.id, before.as_ref(), i64::from(limit) + 1)
            .await?;
    let Page { data, next_cursor } =
        Page::from_rows(DELIVERIES, rows, limit, |row| (row.attempted_at, row.attempt_id.clone()));
    let shown = data.into_iter().map(|attempt| parts.webhooks.show_attempt(attempt));
    let data = shown.collect::<Result<_, _>>().map_err(Problem::internal)?;
    Ok(Json(Page { data, next_cursor }))
}
