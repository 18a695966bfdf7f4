//! Every route of the API, with the roles that may take it, on one screen.

use std::sync::Arc;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

use super::api::{inbound, operations, order_events, orders, stages, webhooks};
use super::live::socket;
use super::routes::Routes;
#[cfg(test)]
use super::routes::Rule;
use super::{Code, Parts, Problem, Role, health, layers, openapi};

const PUBLISHERS: &[Role] = &[Role::Service, Role::Admin];
const ORDER_READERS: &[Role] = &[Role::Buyer, Role::Seller, Role::Service];
const ADMINS: &[Role] = &[Role::Admin];
const OPERATORS: &[Role] = &[Role::Operator];
const WEBHOOKS: &[Role] = &[Role::Service, Role::Partner];

/// The table. A handler's path and method stand at the handler; who may take it stands here.
fn table(parts: Parts) -> Routes {
    Routes::new(parts, openapi::about())
        .allow(PUBLISHERS, routes!(order_events::handle))
        .allow(ADMINS, routes!(operations::process_pending))
        .allow(ORDER_READERS, routes!(orders::events))
        .public(routes!(socket::socket))
        .allow(WEBHOOKS, routes!(webhooks::create, webhooks::list))
        .allow(WEBHOOKS, routes!(webhooks::register))
        .allow(WEBHOOKS, routes!(webhooks::one, webhooks::change, webhooks::delete))
        .allow(WEBHOOKS, routes!(webhooks::pause))
        .allow(WEBHOOKS, routes!(webhooks::resume))
        .allow(WEBHOOKS, routes!(webhooks::rotate))
        .allow(WEBHOOKS, routes!(webhooks::test))
        .allow(WEBHOOKS, routes!(webhooks::stats))
        .allow(WEBHOOKS, routes!(webhooks::deliveries))
        .allow(WEBHOOKS, routes!(webhooks::delivery))
        .allow(WEBHOOKS, routes!(webhooks::resend))
        .allow(WEBHOOKS, routes!(webhooks::resend_range))
        .allow(WEBHOOKS, routes!(webhooks::backfill))
        .allow(WEBHOOKS, routes!(webhooks::backfill_progress, webhooks::cancel_backfill))
        .public(routes!(inbound::order_status))
        .public(routes!(inbound::worker_status))
        .allow(OPERATORS, routes!(operations::dead_letters))
        .allow(OPERATORS, routes!(operations::redrive))
        .allow(OPERATORS, routes!(operations::lanes))
        .allow(OPERATORS, routes!(operations::release))
        .allow(OPERATORS, routes!(operations::groups))
        .allow(OPERATORS, routes!(stages::list))
        .allow(OPERATORS, routes!(stages::pause))
        .allow(OPERATORS, routes!(stages::resume))
        .allow(OPERATORS, routes!(stages::audited))
        .public(routes!(health::live))
        .public(routes!(health::ready))
        .public(routes!(health::events))
        .public(routes!(health::metrics))
        .public(routes!(openapi::description))
        .public(routes!(openapi::docs))
        .public(routes!(openapi::errors))
}

/// The whole API as a service.
///
/// # Errors
/// When `http.cors_origins` holds something that isn't an origin.
pub fn router(parts: Parts) -> Result<Router, super::AuthSetupError> {
    let (routes, api, _) = table(parts.clone()).finish();
    let api: Arc<OpenApi> = Arc::new(api);
    let service = routes.fallback(no_such_path).layer(axum::Extension(api)).with_state(parts.clone());
    layers::around(service, parts)
}

async fn no_such_path() -> Problem {
    Problem::new(Code::RouteNotFound, "there is no such path; /docs lists those there are")
}

/// What the table says, for the tests that walk it.
#[cfg(test)]
pub(super) fn rules(parts: Parts) -> (Vec<Rule>, OpenApi) {
    let (_, api, rules) = table(parts).finish();
    (rules, api)
}
