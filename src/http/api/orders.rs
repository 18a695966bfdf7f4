//! What happened to an order, for its parties and for the programs of its shop.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::clock::rfc3339;
use crate::event::{EventType, card_numbers, epoch_ms};
use crate::http::page::{self, Page};
use crate::http::{Caller, Code, Parts, PathParams, Problem, Query, Role};
use crate::store::history::{self, Filter, OrderRow, StoredEvent};

/// The list's name in its cursors.
const LIST: &str = "orderEvents";

/// Which events, and how many at once.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EventsQuery {
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Only these types, in any spelling, separated by commas.
    r#type: Option<String>,
    /// Only what happened at this time or later (RFC 3339).
    from: Option<String>,
    /// Only what happened before this time (RFC 3339).
    to: Option<String>,
}

/// Events of one order, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct OrderEvents {
    /// Each event in its JSON form, with `version` (its place among the order's events, from 1) and `recordedAt`.
    #[schema(value_type = Vec<serde_json::Value>)]
    data: Vec<Value>,
    /// How many pass the filter, on all pages.
    count: i64,
    /// Pass it as `cursor` to get the next page; null at the end.
    next_cursor: Option<String>,
}

/// What happened to an order, newest first.
///
/// Parties see it without personal data; services see everything.
#[utoipa::path(
    get, path = "/api/v1/orders/{id}/events", tag = "orders",
    params(("id" = String, Path, description = "The order id"), EventsQuery),
    responses((status = 200, body = OrderEvents))
)]
pub(in crate::http) async fn events(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(order_id): PathParams<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<OrderEvents>, Problem> {
    let limit = page::limit(query.limit)?;
    let filter = filter(&query)?;
    let order = history::order(&parts.db, &caller.tenant, &order_id).await?;
    if !order.is_some_and(|order| may_read(&caller, &order)) {
        return Err(Problem::new(Code::OrderNotFound, format!("order {order_id} is not known")));
    }
    let count = history::count(&parts.db, &caller.tenant, &order_id, &filter).await?;
    let rows = history::events(&parts.db, &caller.tenant, &order_id, &filter, i64::from(limit) + 1).await?;
    let Page { data, next_cursor } = Page::from_rows(LIST, rows, limit, |row| row.version);
    let data = data.into_iter().map(|row| shown(&parts, &caller, row)).collect::<Result<_, _>>()?;
    Ok(Json(OrderEvents { data, count, next_cursor }))
}

/// Services see every order of their tenant; buyers and sellers those that they are a party of.
fn may_read(caller: &Caller, order: &OrderRow) -> bool {
    let is = |party: &Option<String>| party.as_deref() == Some(caller.subject.as_str());
    caller.is(Role::Service)
        || (caller.is(Role::Buyer) && is(&order.buyer_id))
        || (caller.is(Role::Seller) && is(&order.seller_id))
}

fn filter(query: &EventsQuery) -> Result<Filter, Problem> {
    let kinds = match &query.r#type {
        None => Vec::new(),
        Some(names) => names
            .split(',')
            .map(|name| match name.parse::<EventType>() {
                Ok(kind) => Ok(kind.as_str().to_owned()),
                Err(unknown) => Err(Problem::field("type", unknown.to_string())),
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(Filter {
        kinds,
        from_ms: time("from", query.from.as_deref())?,
        to_ms: time("to", query.to.as_deref())?,
        before_version: page::place(LIST, query.cursor.as_deref())?,
    })
}

fn time(field: &str, given: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = given else { return Ok(None) };
    match epoch_ms(text) {
        Some(at) => Ok(Some(at)),
        None => Err(Problem::field(field, "must be a time such as 2026-01-31T08:00:00Z")),
    }
}

fn shown(parts: &Parts, caller: &Caller, row: StoredEvent) -> Result<Value, Problem> {
    let mut json = Map::new();
    json.insert("version".to_owned(), row.version.into());
    json.insert("recordedAt".to_owned(), rfc3339(row.recorded_at).into());
    let event = if caller.is(Role::Service) {
        row.unmasked(&parts.vault, &caller.tenant).map_err(Problem::internal)?
    } else {
        row.event
    };
    if let Value::Object(fields) = event {
        json.extend(fields);
    }
    let mut shown = Value::Object(json);
    hide_cards(&mut shown);
    Ok(shown)
}

/// Nobody is shown card numbers, whatever else they may see. Ids are left alone: they name things.
fn hide_cards(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(hidden) = card_numbers(text) {
                *text = hidden;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_cards),
        Value::Object(fields) => {
            let named = fields.iter_mut().filter(|(name, _)| *name != "id" && !name.ends_with("Id"));
            named.for_each(|(_, value)| hide_cards(value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
