//! `orderflow token issue`: a signed token for development, as the HTTP API checks it.

use std::time::Duration;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::output;
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::topology::ROLES;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow token issue --sub checkout --role service --tenant shop-1")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a token signed with http.jwt_secret
    #[command(
        after_help = "Example:\n  TOKEN=$(orderflow token issue --sub checkout --role service --tenant shop-1)\n  \
                      curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/api/v1/orders/o-1/events"
    )]
    Issue(Issue),
}

#[derive(Debug, clap::Args)]
struct Issue {
    /// Whose token it is: a user id, or the name of a service
    #[arg(long, value_name = "USER")]
    sub: String,
    /// What its owner may do; may be given several times
    #[arg(long = "role", required = true, value_parser = PossibleValuesParser::new(ROLES))]
    roles: Vec<String>,
    /// The tenant to which it is bound
    #[arg(long)]
    tenant: String,
    /// How long it is valid
    #[arg(long, default_value = "1h", value_parser = humantime_serde::re::humantime::parse_duration)]
    valid_for: Duration,
    /// Print JSON with the time at which it expires
    #[arg(long)]
    json: bool,
}

/// The claims that the HTTP API checks.
#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    roles: &'a [String],
    tenant: &'a str,
    /// Seconds since the epoch, as RFC 7519 has it.
    iat: i64,
    exp: i64,
}

pub(super) fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let Action::Issue(issue) = args.action;
    let http = context.load()?.config.http;
    let Some(secret) = &http.jwt_secret else {
        return Err(ConfigError(
            "http.jwt_secret is not set: make one with `openssl rand -base64 48` and set ORDERFLOW_HTTP__JWT_SECRET \
             (tokens checked by http.jwks_file are issued by whoever holds the private key)"
                .to_owned(),
        )
        .into());
    };
    let now = Clock::system().now_ms() / 1_000;
    let valid_for = i64::try_from(issue.valid_for.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims {
        iss: &http.issuer,
        aud: &http.audience,
        sub: &issue.sub,
        roles: &issue.roles,
        tenant: &issue.tenant,
        iat: now,
        exp: now.saturating_add(valid_for),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| Fault::internal(format!("the token can't be signed: {error}")))?;
    if issue.json {
        output::json(
            &serde_json::json!({ "token": token, "expiresAt": crate::clock::rfc3339(claims.exp.saturating_mul(1_000)) }),
        )?;
    } else {
        output::line(&token)?;
    }
    Ok(Exit::Fine)
}
