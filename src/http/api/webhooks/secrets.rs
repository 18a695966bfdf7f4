//! Rotating an endpoint's secret.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

use super::forms::signature;
use super::owner;
use crate::admin::webhooks::{Rotation, Webhook};
use crate::crypto::Secret;
use crate::http::extract::NoParameters;
use crate::http::{Body, Caller, IdempotencyKey, Parts, PathParams, Problem, Query};

/// A new secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct RotateRequest {
    /// A secret of your own: `whsec_` and base64, or 8 to 256 printable characters. Left out, one is made.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret<String>>,
    /// How requests are signed from now on: `hmac` or `ed25519`; as before when left out.
    signature: Option<String>,
    /// Milliseconds for which the older secrets sign beside the new one: 0 to 30 days; a day when left out.
    overlap: Option<i64>,
}

/// Gives an endpoint a new secret. Until `overlap` has passed the older ones sign as well; at most ten sign at once.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    request_body = RotateRequest,
    responses((status = 200, body = Webhook, description = "With the new secret, which is not told again"))
)]
pub(in crate::http) async fn rotate(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    key: Option<Extension<IdempotencyKey>>,
    _: Query<NoParameters>,
    Body(request): Body<RotateRequest>,
) -> Result<Json<Webhook>, Problem> {
    let rotation = Rotation {
        secret: request.secret,
        signature: signature(request.signature.as_deref())?,
        overlap: request.overlap,
        request: key.map(|Extension(key)| key.id()),
    };
    let rotated = parts.webhooks.rotate(&caller.tenant, owner(&caller), &id, &rotation).await?;
    Ok(Json(parts.webhooks.show_once(&rotated)?))
}
