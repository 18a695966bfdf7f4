//! Dead letters, waiting lanes and consumer groups, for operators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::admin::dead_letters::{Filter, Listed, Redriven, Wanted};
use crate::admin::lag::GroupLag;
use crate::admin::lanes::WaitingLane;
use crate::admin::{Answered, Operator, Pending, PendingWanted};
use crate::event::epoch_ms;
use crate::http::extract::NoParameters;
use crate::http::operate::{LettersWanted, RedriveWanted};
use crate::http::page::{self, Page};
use crate::http::{Body, Caller, Parts, PathParams, Problem, Query};

/// The lists' names in their cursors.
const DEAD_LETTERS: &str = "deadLetters";
const LANES: &str = "lanes";
/// Letters of one redrive when the request doesn't say, and at most.
const REDRIVEN: usize = 1_000;
/// Tasks that are taken up at once when the request doesn't say.
const TAKEN_UP: usize = 100;
/// How often a letter may have been redriven before, when the request doesn't say.
const MOST_REDRIVES: u32 = 3;

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LettersQuery {
    /// Only of this stage.
    stage: Option<String>,
    /// Only of this cause, as `exhausted`.
    cause: Option<String>,
    /// Only of this order.
    order: Option<String>,
    /// Only of this lane.
    lane: Option<String>,
    /// Only dead-lettered at this time or later (RFC 3339).
    since: Option<String>,
    /// Only dead-lettered before this time (RFC 3339).
    until: Option<String>,
    /// Also those that a redrive has taken up.
    #[serde(default)]
    redriven: bool,
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// What is to be taken back to its stage.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct RedriveBody {
    /// The stage.
    stage: String,
    /// Only letters of this cause, as `exhausted`.
    cause: Option<String>,
    /// Only of this order.
    order: Option<String>,
    /// Only of this lane.
    lane: Option<String>,
    /// Only dead-lettered at this time or later (RFC 3339).
    since: Option<String>,
    /// Only dead-lettered before this time (RFC 3339).
    until: Option<String>,
    /// Only those at these places, as the list tells them: `partition@offset`.
    #[serde(default)]
    places: Vec<String>,
    /// How many at most; 1,000 when left out, and no more.
    limit: Option<usize>,
    /// How many a second at most.
    rate: Option<f64>,
    /// Letters that were redriven this often are refused; 3 when left out.
    most_redrives: Option<u32>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    /// The id of a redrive that was cut off: it is finished, whatever else is said here.
    #[serde(rename = "continue")]
    continued: Option<String>,
    /// In your words; kept in the audit.
    #[serde(default)]
    reason: String,
}

/// Which lanes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LanesQuery {
    /// Only of this stage.
    stage: Option<String>,
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// What is to be taken up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct PendingBody {
    /// Only what waits for this stage.
    stage: Option<String>,
    /// How many tasks and dead letters at most, 1 to 1,000; 100 when left out. The last lane is taken up whole.
    limit: Option<usize>,
    /// Also dead letters, those that were redriven three times before excepted.
    #[serde(default)]
    include_dead: bool,
}

/// Of which stage a lane is released, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReleaseBody {
    /// The stage.
    stage: String,
    /// In your words; kept in the audit.
    #[serde(default)]
    reason: String,
}

/// Dead letters, by stage, partition and offset.
#[utoipa::path(
    get, path = "/api/v1/dead-letters", tag = "operations",
    params(LettersQuery), responses((status = 200, body = Page<Listed>))
)]
pub(in crate::http) async fn dead_letters(
    State(parts): State<Parts>,
    Query(query): Query<LettersQuery>,
) -> Result<Json<Page<Listed>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<(String, i32, i64)> = page::place(DEAD_LETTERS, query.cursor.as_deref())?;
    let filter = Filter {
        cause: cause(query.cause)?,
        order: query.order,
        lane: query.lane,
        since_ms: time("since", query.since)?,
        until_ms: time("until", query.until)?,
        places: Vec::new(),
        redriven: query.redriven,
    };
    let wanted = LettersWanted {
        stage: query.stage,
        filter,
        after: after.map(|(stage, partition, offset)| (stage, (partition, offset))),
        limit: limit as usize + 1,
    };
    let rows = parts.operations.dead_letters(wanted).await?;
    let place = |row: &Listed| {
        let (partition, offset) = Filter::place(&row.place).unwrap_or_default();
        (row.stage.clone(), partition, offset)
    };
    Ok(Json(Page::from_rows(DEAD_LETTERS, rows, limit, place)))
}

/// Takes dead letters back to their stage, lane by lane in source order, each once. What was begun is finished also when
/// the answer takes too long for the request; the audit tells.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/redrive", tag = "operations",
    request_body = RedriveBody, responses((status = 200, body = Redriven))
)]
pub(in crate::http) async fn redrive(
    State(parts): State<Parts>,
    caller: Caller,
    _: Query<NoParameters>,
    Body(body): Body<RedriveBody>,
) -> Result<Json<Redriven>, Problem> {
    if body.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(Problem::field("rate", "must be above 0"));
    }
    if body.limit.is_some_and(|limit| limit == 0 || limit > REDRIVEN) {
        return Err(Problem::field("limit", format!("must be between 1 and {REDRIVEN}")));
    }
    let place = |(at, text): (usize, &String)| {
        Filter::place(text).map_err(|why| Problem::field(format!("places[{at}]"), why))
    };
    let filter = Filter {
        cause: cause(body.cause)?,
        order: body.order,
        lane: body.lane,
        since_ms: time("since", body.since)?,
        until_ms: time("until", body.until)?,
        places: body.places.iter().enumerate().map(place).collect::<Result<_, _>>()?,
        redriven: false,
    };
    let wanted = Wanted {
        filter,
        limit: body.limit.unwrap_or(REDRIVEN),
        rate: body.rate,
        most_redrives: body.most_redrives.unwrap_or(MOST_REDRIVES),
    };
    let (by, continued) = (operator(&caller, body.reason), body.continued);
    let wanted = RedriveWanted { stage: body.stage, wanted, dry: body.dry_run, continued };
    Ok(Json(parts.operations.redrive(wanted, by).await?))
}

/// Lanes whose first task waits in the retry topic, by stage, partition and name.
#[utoipa::path(
    get, path = "/api/v1/lanes", tag = "operations",
    params(LanesQuery), responses((status = 200, body = Page<WaitingLane>))
)]
pub(in crate::http) async fn lanes(
    State(parts): State<Parts>,
    Query(query): Query<LanesQuery>,
) -> Result<Json<Page<WaitingLane>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<(String, i32, String)> = page::place(LANES, query.cursor.as_deref())?;
    let place = |lane: &WaitingLane| (lane.stage.clone(), lane.partition, lane.lane.clone());
    let waiting = parts.operations.lanes(query.stage).await?;
    let behind = waiting.into_iter().filter(|lane| after.as_ref().is_none_or(|after| place(lane) > *after));
    let rows = behind.take(limit as usize + 1).collect();
    Ok(Json(Page::from_rows(LANES, rows, limit, place)))
}

/// Lets a waiting lane try again now; a held one goes on without its first task, which is a dead letter.
#[utoipa::path(
    post, path = "/api/v1/lanes/{lane}/release", tag = "operations",
    params(("lane" = String, Path, description = "The lane, as the list tells it")),
    request_body = ReleaseBody, responses((status = 200, body = Vec<Answered>))
)]
pub(in crate::http) async fn release(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(lane): PathParams<String>,
    _: Query<NoParameters>,
    Body(body): Body<ReleaseBody>,
) -> Result<Json<Vec<Answered>>, Problem> {
    let by = operator(&caller, body.reason);
    Ok(Json(parts.operations.release(body.stage, lane, by).await?))
}

/// Takes up what waits in retry topics now, also what isn't due yet, the longest waiting first; with `includeDead` dead
/// letters too. What was begun is finished also when the answer takes too long for the request; the audit tells.
#[utoipa::path(
    post, path = "/api/order-events/process-pending", tag = "events",
    request_body = PendingBody,
    responses((status = 202, body = Pending, description = "What waited, and how much of it is tried now"))
)]
pub(in crate::http) async fn process_pending(
    State(parts): State<Parts>,
    caller: Caller,
    _: Query<NoParameters>,
    Body(body): Body<PendingBody>,
) -> Result<(StatusCode, Json<Pending>), Problem> {
    let limit = body.limit.unwrap_or(TAKEN_UP);
    if limit == 0 || limit > REDRIVEN {
        return Err(Problem::field("limit", format!("must be between 1 and {REDRIVEN}")));
    }
    let wanted = PendingWanted {
        stage: body.stage,
        limit,
        include_dead: body.include_dead,
        most_redrives: MOST_REDRIVES,
    };
    let by = operator(&caller, "process-pending".to_owned());
    Ok((StatusCode::ACCEPTED, Json(parts.operations.process_pending(wanted, by).await?)))
}

/// Every consumer group of ours: how far it is behind, and what that means. Takes two looks, a second apart.
#[utoipa::path(
    get, path = "/api/v1/groups", tag = "operations", responses((status = 200, body = Page<GroupLag>))
)]
pub(in crate::http) async fn groups(
    State(parts): State<Parts>,
    _: Query<NoParameters>,
) -> Result<Json<Page<GroupLag>>, Problem> {
    Ok(Json(Page { data: parts.operations.groups().await?, next_cursor: None }))
}

/// Who asks: the subject of the token.
pub(super) fn operator(caller: &Caller, reason: String) -> Operator {
    Operator { name: format!("{} of {}", caller.subject, caller.tenant), reason }
}

fn cause(given: Option<String>) -> Result<Option<String>, Problem> {
    given.map(|cause| Filter::cause(&cause).map_err(|why| Problem::field("cause", why))).transpose()
}

fn time(field: &str, given: Option<String>) -> Result<Option<i64>, Problem> {
    let read = |text: String| {
        epoch_ms(&text).ok_or_else(|| Problem::field(field, "must be a time such as 2026-01-31T12:00:00Z"))
    };
    given.map(read).transpose()
}
