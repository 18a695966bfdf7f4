//! How the demo's parts are set: short times, loopback, and secrets that everybody knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::DemoError;
use crate::admin::webhooks::Rules;
use crate::clock::Clock;
use crate::crypto::Secret;
use crate::embedded::demo::TENANT;
use crate::http::{Check, EventsHealth, HttpOptions, Probe, Role, token};
use crate::runtime::RuntimeOptions;
use crate::stages::StageOptions;
use crate::stages::delivery::email::SmtpOptions;
use crate::stages::dispute::DisputeOptions;
use crate::stages::webhook::{self, WebhookOptions};
use crate::store::{Database, controls, webhooks};
use crate::topology::Topology;

/// Signs the demo's tokens. Everybody knows it, so the program refuses it everywhere else (it begins with `demo-`).
const JWT_SECRET: &str = "demo-secret-that-everybody-knows-and-nobody-may-use";
/// How long the screen's token is good.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

pub(super) fn http(bind: SocketAddr) -> HttpOptions {
    HttpOptions { bind, jwt_secret: Some(Secret::new(JWT_SECRET.to_owned())), ..HttpOptions::default() }
}

/// A token for the screen, and for partners to register with.
pub(super) fn token(options: &HttpOptions, clock: &Clock) -> Result<Secret<String>, DemoError> {
    let grant = token::Grant {
        subject: "demo",
        roles: &[Role::Service, Role::Admin, Role::Operator],
        tenant: TENANT,
        ttl: TOKEN_TTL,
    };
    Ok(token::issue(options, clock, &grant)?)
}

pub(super) fn stages(mailbox: SocketAddr) -> Result<StageOptions, DemoError> {
    let runtime = RuntimeOptions {
        commit_interval: Duration::from_millis(100),
        shutdown_drain: Duration::from_secs(5),
        ..RuntimeOptions::default()
    };
    let mail = SmtpOptions {
        host: mailbox.ip().to_string(),
        port: mailbox.port(),
        from: "Demo Shop <shop@orderflow.test>".to_owned(),
        ..SmtpOptions::default()
    };
    let moderators = vec!["moderator-mia".to_owned(), "moderator-noah".to_owned()];
    Ok(StageOptions {
        runtime,
        mail: mail.check()?,
        dispute: DisputeOptions { moderators, capacity: 1_000 },
        // The demo's partners live on loopback and have no certificates.
        webhook: WebhookOptions {
            allow_http: true,
            allow_private_networks: true,
            ..WebhookOptions::default()
        },
        ..StageOptions::default()
    })
}

/// What holds for registrations under `options`.
pub(super) fn registration(options: &WebhookOptions, topology: &Topology) -> Rules {
    Rules {
        allow_http: options.allow_http,
        timeout: options.timeout,
        endpoints_per_tenant: options.endpoints_per_tenant,
        refresh: options.refresh,
        deliverable: webhook::deliverable(topology),
        policy: webhook::policy(topology),
    }
}

pub(super) fn readiness(db: &Database) -> Arc<[Check]> {
    let db = db.clone();
    let probe = Probe::new(move || {
        let db = db.clone();
        async move { db.ping().await.map_err(|error| error.to_string()) }
    });
    Arc::new([Check { name: "database", probe }])
}

/// The broker is in this process, so events flow as long as anybody can ask.
pub(super) fn events_health(db: &Database, subscribers: u64) -> Probe<EventsHealth> {
    let db = db.clone();
    Probe::new(move || {
        let db = db.clone();
        async move {
            let endpoints = webhooks::count(&db).await.map_err(|error| error.to_string())?;
            let stages = controls::all(&db).await.map_err(|error| error.to_string())?;
            Ok(EventsHealth {
                paused: stages.iter().filter(|stage| stage.paused).count() as u64,
                active: true,
                troubles: Vec::new(),
                subscribers,
                webhooks_registered: endpoints.registered,
                webhooks_healthy: endpoints.enabled,
            })
        }
    })
}
