//! `orderflow token issue`: a signed token for development, as the HTTP API checks it.

use std::time::Duration;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::output;
use crate::clock::{Clock, rfc3339};
use crate::http::Role;
use crate::http::auth::is_name;
use crate::http::token::{self, Grant, IssueError};
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
    #[arg(long, value_name = "USER", value_parser = name)]
    sub: String,
    /// What its owner may do; may be given several times
    #[arg(long = "role", required = true, value_parser = PossibleValuesParser::new(ROLES))]
    roles: Vec<String>,
    /// The tenant to which it is bound
    #[arg(long, value_parser = name)]
    tenant: String,
    /// How long it is valid
    #[arg(long, default_value = "1h", value_parser = humantime_serde::re::humantime::parse_duration)]
    valid_for: Duration,
    /// Print JSON with the time at which it expires
    #[arg(long)]
    json: bool,
}

/// What the API takes as a user or tenant.
fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a name has 1 to 255 bytes and no control characters, and isn't blank".to_owned()),
    }
}

pub(super) fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let Action::Issue(issue) = args.action;
    let options = context.load()?.config.http;
    let clock = Clock::system();
    let roles: Vec<Role> =
        Role::ALL.into_iter().filter(|role| issue.roles.iter().any(|name| name == role.as_str())).collect();
    let grant = Grant { subject: &issue.sub, roles: &roles, tenant: &issue.tenant, ttl: issue.valid_for };
    let token = token::issue(&options, &clock, &grant).map_err(|error| match error {
        IssueError::NoSecret => Fault::configuration(format!(
            "{error}; for HS256 make one with `openssl rand -base64 48` and set ORDERFLOW_HTTP__JWT_SECRET"
        )),
        IssueError::Sign(_) => Fault::internal(error.to_string()),
    })?;
    if issue.json {
        let valid_ms = i64::try_from(issue.valid_for.as_millis()).unwrap_or(i64::MAX);
        let expires_at = rfc3339(clock.now_ms().saturating_add(valid_ms));
        output::json(&serde_json::json!({ "token": token.expose(), "expiresAt": expires_at }))?;
    } else {
        output::line(token.expose())?;
    }
    Ok(Exit::Fine)
}
