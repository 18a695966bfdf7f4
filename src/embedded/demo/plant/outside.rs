//! What the demo needs around the program: a store, a mailbox, and partners who register themselves.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::DemoError;
use crate::admin::schemas;
use crate::clock::Clock;
use crate::crypto::Secret;
use crate::embedded::demo::DemoOptions;
use crate::embedded::feed::Feed;
use crate::embedded::mailbox::{Mailbox, PutsOff};
use crate::embedded::partners::{Behaviour, HANGS_FOR, Partner};
use crate::event::{Codec, EventType, RegistryOptions};
use crate::store::{Database, StoreOptions};
use crate::topology::Topology;

/// Orders that partners remember at least.
const LEAST_MEMORY: usize = 10_000;
/// Mails that the mailbox remembers for each order, which is more than an order has.
const MAILS_PER_ORDER: usize = 40;
/// One event in this many is failed by the second partner at first.
const PARTNER_FAILS_ONE_IN: u64 = 10;
/// One recipient in this many is put off by the mailbox once.
const MAILBOX_PUTS_OFF_ONE_IN: u64 = 12;

/// A codec whose registry has every schema under the subject of its topic.
pub(super) async fn codec(registry: &str, topology: &Topology) -> Result<Codec, DemoError> {
    let url = registry.to_owned();
    let codec = Codec::new(&RegistryOptions { url, auto_register: true, ..RegistryOptions::default() })?;
    schemas::register(codec.registry(), topology).await?;
    Ok(codec)
}

/// A migrated SQLite store.
pub(super) async fn store(url: Secret<String>) -> Result<Database, DemoError> {
    let acquire_timeout = Duration::from_secs(30);
    let db = Database::open(&StoreOptions { url, acquire_timeout, ..StoreOptions::default() })?;
    db.migrate().await?;
    Ok(db)
}

pub(super) async fn mailbox(options: &DemoOptions, feed: &Feed) -> Result<Mailbox, DemoError> {
    let puts_off = PutsOff { seed: options.seed, one_in: MAILBOX_PUTS_OFF_ONE_IN };
    Mailbox::open(memory(options).saturating_mul(MAILS_PER_ORDER), Some(puts_off), feed.clone())
        .await
        .map_err(|why| DemoError::Refused { what: "no port for the mailbox", why })
}

/// One that is healthy, one that fails at times, one that is down for a while.
pub(super) fn partners(options: &DemoOptions, clock: &Clock, feed: &Feed) -> Result<Vec<Partner>, DemoError> {
    let fails = Behaviour::FailsAtTimes { seed: options.seed, one_in: PARTNER_FAILS_ONE_IN };
    let down = Behaviour::DownFor(options.partner_down_for);
    let orders_only: Vec<EventType> =
        EventType::ALL.iter().copied().filter(|kind| kind.as_str().starts_with("order.")).collect();
    let partners: [(&str, Behaviour, &[EventType]); 3] =
        [("ledger-co", Behaviour::Healthy, &[]), ("parcel-co", fails, &[]), ("crm-co", down, &orders_only)];
    partners
        .into_iter()
        .map(|(name, behaviour, wants)| {
            Partner::open(name, behaviour, wants, memory(options), clock.clone(), feed.clone())
                .map_err(|why| DemoError::Refused { what: "no port for a partner", why })
        })
        .collect()
}

fn memory(options: &DemoOptions) -> usize {
    usize::try_from(options.orders).unwrap_or(usize::MAX).max(LEAST_MEMORY)
}

/// What a partner reads of the answer to its registration.
#[derive(Deserialize)]
struct Registered {
    id: String,
    secret: Secret<String>,
}

/// Registers `partner` through the API at `http`, as a real one would, hands it the secret it is told, and gives
/// the registration's id.
pub(super) async fn register(
    partner: &Partner,
    http: SocketAddr,
    token: &Secret<String>,
) -> Result<String, DemoError> {
    let refused = |why: String| DemoError::Register { partner: partner.name().to_owned(), why };
    let wants: Vec<&str> = partner.wants().iter().map(|kind| kind.as_str()).collect();
    // Shorter than the partner hangs, so that a hanging answer is a failed attempt.
    let timeout_ms = u64::try_from(HANGS_FOR.as_millis()).unwrap_or(u64::MAX) / 2;
    let answer = reqwest::Client::new()
        .post(format!("http://{http}/api/webhooks/register"))
        .bearer_auth(token.expose())
        .json(&json!({ "url": partner.url(), "events": wants, "timeout": timeout_ms }))
        .send()
        .await
        .map_err(|error| refused(error.to_string()))?;
    let status = answer.status();
    if !status.is_success() {
        let problem = answer.text().await.unwrap_or_default();
        return Err(refused(format!("{status}: {problem}")));
    }
    let registered: Registered = answer.json().await.map_err(|error| refused(error.to_string()))?;
    partner.learn_secret(registered.secret);
    Ok(registered.id)
}
