//! Test requests.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::owner;
use crate::admin::webhooks::{TestOf, TestShown};
use crate::http::extract::NoParameters;
use crate::http::{Body, Caller, Parts, Problem, Query};

/// Whom a test goes to: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct TestRequest {
    /// A registration's id.
    webhook_id: Option<String>,
    /// A URL that may be registered later. The test is signed with a secret made for it, which the answer tells.
    url: Option<String>,
}

/// Sends a test event at once and tells what came of it. Its type is `webhook.test`, its id begins with `evt_test_`;
/// nothing of it is kept, and an endpoint is tested also while it is paused or disabled. It takes at most 10 seconds.
#[utoipa::path(
    post, path = "/api/webhooks/test", tag = "webhooks", operation_id = "testWebhook",
    request_body = TestRequest,
    responses((status = 200, body = TestShown, description = "Also when the test failed: see `outcome`"))
)]
pub(in crate::http) async fn send(
    State(parts): State<Parts>,
    caller: Caller,
    _: Query<NoParameters>,
    Body(request): Body<TestRequest>,
) -> Result<Json<TestShown>, Problem> {
    let of = TestOf::either(request.webhook_id, request.url)?;
    Ok(Json(parts.webhook_trials.run(&caller.tenant, owner(&caller), of).await?))
}
