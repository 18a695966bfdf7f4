//! The API over a real listener, with the program's own parts on real services behind it.

mod connections;
mod events;
mod inbound;
mod live;
mod operations;
mod webhook_api;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orderflow::admin::publish::Publisher;
use orderflow::admin::stages::Stages;
use orderflow::admin::webhooks::Trials;
use orderflow::crypto::Secret;
use orderflow::http::live::{Hub, LiveOptions};
use orderflow::http::token::{Grant, issue};
use orderflow::http::{Auth, Bound, Check, EventsHealth, HttpOptions, Parts, Probe, Role};
use orderflow::stages::webhook;
use orderflow::task;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::program::TestProgram;

/// A running API.
struct TestApi {
    parts: Parts,
    address: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), Infallible>>,
}

impl TestApi {
    async fn start(program: &TestProgram, live: LiveOptions) -> Self {
        Self::with(program, live, HttpOptions::default()).await
    }

    async fn with(program: &TestProgram, live: LiveOptions, options: HttpOptions) -> Self {
        let options = HttpOptions {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            jwt_secret: Some(Secret::new("a-secret-of-more-than-thirty-two-bytes".to_owned())),
            cors_origins: vec!["https://shop.example".to_owned()],
            ..options
        };
        let (env, db) = (&program.parts.env, program.parts.db.clone());
        let (codec, topology) = (program.parts.codec.clone(), Arc::clone(&program.parts.topology));
        let publisher = Publisher::new(codec, env.producer.clone(), topology, Arc::clone(&env.metrics));
        let database = Probe::new({
            let db = db.clone();
            move || {
                let db = db.clone();
                async move { db.ping().await.map_err(|error| error.to_string()) }
            }
        });
        let parts = Parts {
            inbound: Arc::new(inbound::senders()),
            stages: Stages::new(
                db.clone(),
                env.clock.clone(),
                program.parts.topology.stages().map(|stage| stage.name.clone()),
            ),
            operations: Arc::new(program.operations()),
            auth: Arc::new(Auth::new(&options, env.clock.clone()).expect("a secret is set")),
            options: Arc::new(options),
            db,
            vault: program.parts.vault.clone(),
            metrics: Arc::clone(&env.metrics),
            clock: env.clock.clone(),
            publisher: Arc::new(publisher),
            webhooks: program.registrar(),
            webhook_trials: Trials::new(
                program.registrar(),
                webhook::trial(
                    &program.parts.options.webhook,
                    program.parts.vault.clone(),
                    env.clock.clone(),
                ),
            ),
            hub: Hub::new(live, Arc::clone(&env.metrics), env.clock.clone()),
            readiness: Arc::new([Check { name: "database", probe: database }]),
            events_health: Probe::new(async || Ok(EventsHealth { active: true, ..EventsHealth::default() })),
        };
        let bound = Bound::new(parts.clone()).await.expect("a free port");
        let (address, stop) = (bound.address(), CancellationToken::new());
        let serving = task::spawn("http", bound.serve(stop.clone()));
        Self { parts, address, client: reqwest::Client::new(), stop, serving }
    }

    fn token(&self, subject: &str, role: Role, tenant: &str) -> String {
        let grant = Grant { subject, roles: &[role], tenant, ttl: Duration::from_secs(60) };
        issue(&self.parts.options, &self.parts.clock, &grant).expect("a secret is set").expose().clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn end(self) {
        self.stop.cancel();
        let Ok(()) = self.serving.await.expect("no panic");
    }
}
