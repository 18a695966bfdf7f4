//! What operators do to stages, and what was done: pausing, resuming, the audit.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::operations::operator;
use crate::admin::stages::{StageError, StageState};
use crate::admin::{Audited, audit};
use crate::http::extract::NoParameters;
use crate::http::page::{self, Page};
use crate::http::{Body, Caller, Code, Parts, PathParams, Problem, Query};

/// The list's name in its cursors.
const AUDIT: &str = "audit";

/// A stage.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct StageShown {
    stage: String,
    /// It starts nothing new.
    paused: bool,
    /// Why it was paused or resumed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who did that.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<String>,
}

/// Why a stage is paused or resumed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Why {
    /// In your words; kept in the audit.
    #[serde(default)]
    reason: String,
}

/// One thing that somebody did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct AuditShown {
    id: String,
    at: String,
    actor: String,
    /// As `stage.pause`.
    action: String,
    stage: String,
    reason: String,
    /// What belongs to the action.
    detail: Value,
}

/// Which part of the audit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AuditQuery {
    /// Only what concerned this stage.
    stage: Option<String>,
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Every stage, and whether it is paused.
#[utoipa::path(get, path = "/api/v1/stages", tag = "operations", responses((status = 200, body = Page<StageShown>)))]
pub(in crate::http) async fn list(
    State(parts): State<Parts>,
    _: Query<NoParameters>,
) -> Result<Json<Page<StageShown>>, Problem> {
    let data = parts.stages.list().await?.into_iter().map(shown).collect();
    Ok(Json(Page { data, next_cursor: None }))
}

/// Pauses a stage: nothing new is started, nothing is lost. Members heed it within about a second, and after a restart.
#[utoipa::path(
    post, path = "/api/v1/stages/{id}/pause", tag = "operations",
    params(("id" = String, Path, description = "The stage's name")),
    request_body = Why, responses((status = 200, body = StageShown))
)]
pub(in crate::http) async fn pause(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
    Body(why): Body<Why>,
) -> Result<Json<StageShown>, Problem> {
    change(&parts, caller, &id, true, why).await
}

/// Lets a paused stage go on, also one that paused itself.
#[utoipa::path(
    post, path = "/api/v1/stages/{id}/resume", tag = "operations",
    params(("id" = String, Path, description = "The stage's name")),
    request_body = Why, responses((status = 200, body = StageShown))
)]
pub(in crate::http) async fn resume(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
    Body(why): Body<Why>,
) -> Result<Json<StageShown>, Problem> {
    change(&parts, caller, &id, false, why).await
}

/// Who did what to the running system, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "operations",
    params(AuditQuery), responses((status = 200, body = Page<AuditShown>))
)]
pub(in crate::http) async fn audited(
    State(parts): State<Parts>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditShown>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before: Option<String> = page::place(AUDIT, query.cursor.as_deref())?;
    let rows = audit(&parts.db, query.stage.as_deref(), before.as_deref(), i64::from(limit) + 1).await?;
    let Page { data, next_cursor } = Page::from_rows(AUDIT, rows, limit, |row| row.id.clone());
    let told = |Audited { id, at, actor, action, stage, reason, detail }| AuditShown {
        id,
        at,
        actor,
        action,
        stage,
        reason,
        detail,
    };
    Ok(Json(Page { data: data.into_iter().map(told).collect(), next_cursor }))
}

async fn change(
    parts: &Parts,
    caller: Caller,
    stage: &str,
    paused: bool,
    why: Why,
) -> Result<Json<StageShown>, Problem> {
    let by = operator(&caller, why.reason);
    parts.stages.set_paused(stage, paused, &by).await?;
    let known = parts.stages.list().await?.into_iter().find(|state| state.stage == stage);
    known.map(|state| Json(shown(state))).ok_or_else(|| unknown(format!("there is no stage {stage}")))
}

fn shown(state: StageState) -> StageShown {
    let StageState { stage, paused, reason, changed_by, changed_at } = state;
    StageShown { stage, paused, reason, changed_by, changed_at }
}

fn unknown(detail: String) -> Problem {
    Problem::new(Code::StageNotFound, detail)
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Unknown { .. } => unknown(error.to_string()),
            StageError::Store(error) => error.into(),
        }
    }
}
