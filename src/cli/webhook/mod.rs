//! `orderflow webhook`: registers, changes and tests endpoints by the rules of the API, and shows what was tried for them.

mod backfill;
mod deliveries;
mod resend;
mod settings;

use clap::Subcommand;

use self::backfill::Backfill;
use self::deliveries::Deliveries;
use self::resend::Resend;
use self::settings::{Add, SecretWanted, Update};
use super::context::Context;
use super::exit::{Exit, Fault};
use super::tail::unreadable;
use super::{output, parts};
use crate::admin::webhooks::{Registrar, Rotation, TestOf, Trials, Webhook, WebhookError};
use crate::clock::Clock;
use crate::config::Config;
use crate::stages::webhook;
use crate::store::Database;
use crate::store::webhooks::{self, Wanted};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow webhook add https://partner.example/hooks --tenant shop-1 --event 'order.*'\n  \
                  orderflow webhook list --tenant shop-1\n  orderflow webhook deliveries wh_0199… --tenant shop-1 --outcome failed"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register an endpoint and print its secret, which is told this once
    #[command(
        after_help = "Examples:\n  orderflow webhook add https://partner.example/hooks --tenant shop-1 --event 'order.*' --event payment.failed\n  \
                      orderflow webhook add https://partner.example/hooks --tenant shop-1 --filter '$[?$.data.total >= 100]' \
                      --header 'Authorization: Bearer …' --signature ed25519\n\n\
                      Events published from then on reach it."
    )]
    Add(Add),
    /// Print the endpoints of a tenant
    #[command(after_help = "Example:\n  orderflow webhook list --tenant shop-1 --state disabled --json")]
    List(List),
    /// Print one endpoint
    #[command(after_help = "Example:\n  orderflow webhook show wh_0199… --tenant shop-1 --json")]
    Show(One),
    /// Change an endpoint; what isn't named stays
    #[command(
        after_help = "Example:\n  orderflow webhook update wh_0199… --tenant shop-1 --url https://partner.example/new --clear filter\n\n\
                      URL, headers, time-out, attempts and delays hold at once; events and filter for events from then on."
    )]
    Update(Update),
    /// Stop delivering to an endpoint; what concerns it is kept for it
    #[command(after_help = "Example:\n  orderflow webhook pause wh_0199… --tenant shop-1")]
    Pause(One),
    /// Deliver to a paused or disabled endpoint again, first what was kept for it
    #[command(after_help = "Example:\n  orderflow webhook resume wh_0199… --tenant shop-1")]
    Resume(One),
    /// Remove an endpoint; what still waits for it is skipped
    #[command(after_help = "Example:\n  orderflow webhook delete wh_0199… --tenant shop-1")]
    Delete(One),
    /// Give an endpoint a new secret; for a while the older ones sign as well
    #[command(
        after_help = "Example:\n  orderflow webhook rotate-secret wh_0199… --tenant shop-1 --overlap 2h"
    )]
    RotateSecret(Rotate),
    /// Send a test event and print what came of it; nothing of it is kept
    #[command(after_help = "Examples:\n  orderflow webhook test wh_0199… --tenant shop-1\n  \
                      orderflow webhook test --url https://partner.example/hooks --tenant shop-1 --json")]
    Test(Test),
    /// Print what was tried for an endpoint, newest first
    #[command(
        after_help = "Example:\n  orderflow webhook deliveries wh_0199… --tenant shop-1 --order o-1 --since 2h"
    )]
    Deliveries(Deliveries),
    /// Deliver the past to an endpoint again, or tell how far that is
    #[command(
        after_help = "Examples:\n  orderflow webhook backfill wh_0199… --tenant shop-1 --from 2d --rate 50\n  \
                      orderflow webhook backfill wh_0199… --tenant shop-1 --from 2026-01-31T12:00:00Z --coalesce\n  \
                      orderflow webhook backfill wh_0199… --tenant shop-1 --status bf_0199…\n\n\
                      Per order in order; the endpoint's live events wait behind."
    )]
    Backfill(Backfill),
    /// Send deliveries again: at once, marked, exempt from order
    #[command(after_help = "Examples:\n  orderflow webhook resend wh_0199… 6f1c… --tenant shop-1\n  \
                      orderflow webhook resend wh_0199… --tenant shop-1 --from 6h --to 1h --outcome refused")]
    Resend(Resend),
}

/// Whose endpoints.
#[derive(Debug, Clone, clap::Args)]
struct Whose {
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// As this partner, which sees and makes its own endpoints alone
    #[arg(long, value_name = "PARTNER")]
    owner: Option<String>,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The endpoint's id
    id: String,
    #[command(flatten)]
    whose: Whose,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    whose: Whose,
    /// Only those that are enabled, paused or disabled
    #[arg(long, value_parser = ["enabled", "paused", "disabled"])]
    state: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    secret: SecretWanted,
    /// How long the older secrets sign as well
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = settings::millis)]
    overlap: i64,
}

#[derive(Debug, clap::Args)]
struct Test {
    /// The endpoint's id
    #[arg(required_unless_present = "url")]
    id: Option<String>,
    /// A URL instead, signed with a secret made for it
    #[arg(long, conflicts_with = "id")]
    url: Option<String>,
    #[command(flatten)]
    whose: Whose,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let desk = Desk::new(&config)?;
    match args.action {
        Action::Add(add) => desk.add(&config, add).await,
        Action::List(list) => desk.list(list).await,
        Action::Show(one) => desk.show(one).await,
        Action::Update(update) => desk.update(update).await,
        Action::Pause(One { id, whose, json }) => {
            let Whose { tenant, owner } = whose;
            let paused = desk.registrar.pause(&tenant, owner.as_deref(), &id).await?;
            desk.print(&desk.registrar.show(&paused)?, json)
        }
        Action::Resume(One { id, whose, json }) => {
            let Whose { tenant, owner } = whose;
            let resumed = desk.registrar.resume(&tenant, owner.as_deref(), &id).await?;
            desk.print(&desk.registrar.show(&resumed)?, json)
        }
        Action::Delete(one) => desk.delete(one).await,
        Action::RotateSecret(rotate) => desk.rotate(rotate).await,
        Action::Test(test) => desk.test(&config, test).await,
        Action::Deliveries(wanted) => wanted.print(&desk.db, &desk.registrar).await,
        Action::Backfill(wanted) => wanted.run(&desk.reaching(&config)?).await,
        Action::Resend(wanted) => wanted.run(&desk.reaching(&config)?).await,
    }
}

/// What all of these need.
struct Desk {
    db: Database,
    registrar: Registrar,
}

impl Desk {
    fn new(config: &Config) -> Result<Self, Fault> {
        let (db, vault) = (parts::database(config)?, config.vault()?);
        let rules = parts::webhook_rules(config, &config.topology.load()?);
        Ok(Self { registrar: Registrar::new(db.clone(), vault, Clock::system(), rules), db })
    }

    /// The registrar with a way to the stages that deliver.
    fn reaching(&self, config: &Config) -> Result<Registrar, Fault> {
        Ok(self.registrar.clone().over(parts::operations(config)?, parts::codec(config)?))
    }

    /// An endpoint begins at the ends of the topics, so Kafka is asked for those.
    async fn add(&self, config: &Config, add: Add) -> Result<Exit, Fault> {
        let (whose, json) = (add.whose.clone(), add.json);
        let registration = add.registration()?;
        let Whose { tenant, owner } = whose;
        let registrar = self.reaching(config)?;
        let made = registrar.register(&tenant, owner.as_deref(), &registration).await?;
        self.print(&self.registrar.show_once(&made)?, json)
    }

    async fn list(&self, list: List) -> Result<Exit, Fault> {
        let wanted = Wanted {
            owner: list.whose.owner.as_deref(),
            state: list.state.as_deref(),
            after: None,
            limit: list.limit.into(),
        };
        for endpoint in webhooks::list(&self.db, &list.whose.tenant, &wanted).await? {
            let shown = self.registrar.show(&endpoint)?;
            match list.json {
                true => output::json(&shown)?,
                false => output::line(&format!(
                    "{}  {:<8} {}  {}",
                    shown.id,
                    shown.state,
                    shown.url,
                    shown.events.join(",")
                ))?,
            }
        }
        Ok(Exit::Fine)
    }

    async fn show(&self, one: One) -> Result<Exit, Fault> {
        let Whose { tenant, owner } = one.whose;
        let found = webhooks::find(&self.db, &tenant, &one.id, owner.as_deref()).await?;
        let endpoint = found.ok_or(WebhookError::NotFound(one.id))?;
        self.print(&self.registrar.show(&endpoint)?, one.json)
    }

    async fn update(&self, update: Update) -> Result<Exit, Fault> {
        let (One { id, whose: Whose { tenant, owner }, json }, change) = update.change()?;
        let changed = self.registrar.change(&tenant, owner.as_deref(), &id, &change).await?;
        self.print(&self.registrar.show(&changed)?, json)
    }

    async fn delete(&self, one: One) -> Result<Exit, Fault> {
        let Whose { tenant, owner } = one.whose;
        if !self.registrar.remove(&tenant, owner.as_deref(), &one.id).await? {
            return Err(WebhookError::NotFound(one.id).into());
        }
        match one.json {
            true => output::json(&serde_json::json!({"id": one.id, "deleted": true}))?,
            false => output::line(&format!("{} is gone; what waits for it is skipped", one.id))?,
        }
        Ok(Exit::Fine)
    }

    async fn rotate(&self, rotate: Rotate) -> Result<Exit, Fault> {
        let One { id, whose: Whose { tenant, owner }, json } = rotate.one;
        let rotation = Rotation {
            secret: rotate.secret.read()?,
            signature: rotate.secret.scheme(),
            overlap: Some(rotate.overlap),
            request: None,
        };
        let rotated = self.registrar.rotate(&tenant, owner.as_deref(), &id, &rotation).await?;
        self.print(&self.registrar.show_once(&rotated)?, json)
    }

    async fn test(&self, config: &Config, test: Test) -> Result<Exit, Fault> {
        let Whose { tenant, owner } = test.whose;
        let send = webhook::trial(&config.webhook, config.vault()?, Clock::system());
        let trials = Trials::new(self.registrar.clone(), send);
        let of = TestOf::either(test.id, test.url)?;
        let shown = trials.run(&tenant, owner.as_deref(), of).await?;
        if test.json {
            output::json(&shown)?;
        } else {
            let status = shown.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let why = shown.error.as_deref().unwrap_or_default();
            output::line(&format!("{} {status} in {} ms  {why}", shown.outcome, shown.latency_ms))?;
            for (name, value) in &shown.request_headers {
                output::line(&format!("> {name}: {value}"))?;
            }
            output::line(&format!("> {}", shown.request_body))?;
            for line in shown.response.iter().flat_map(|text| text.lines()) {
                output::line(&format!("< {}", line.escape_debug()))?;
            }
            if let Some(secret) = &shown.secret {
                output::line(&format!("signed with {secret}"))?;
            }
        }
        Ok(if shown.outcome == "delivered" { Exit::Fine } else { Exit::Failures })
    }

    fn print(&self, shown: &Webhook, json: bool) -> Result<Exit, Fault> {
        if json {
            output::json(shown)?;
            return Ok(Exit::Fine);
        }
        output::line(&format!("{} is {}: {}", shown.id, shown.state, shown.url))?;
        output::line(&format!("events    {}", shown.events.join(", ")))?;
        if let Some(filter) = &shown.filter {
            output::line(&format!("filter    {filter}"))?;
        }
        let delays: Vec<_> = shown.schedule.delays.iter().map(|delay| format!("{delay} ms")).collect();
        output::line(&format!("attempts  {}, {}", shown.schedule.attempts, delays.join(", ")))?;
        for secret in &shown.secrets {
            let until =
                secret.expires_at.as_ref().map_or_else(String::new, |until| format!(" until {until}"));
            let key = secret.public_key.as_deref().unwrap_or_default();
            output::line(format!("signs     {}{until} {key}", secret.signature).trim_end())?;
        }
        if let Some(secret) = &shown.secret {
            output::line(&format!("secret    {secret}  (told this once)"))?;
        }
        Ok(Exit::Fine)
    }
}

impl From<WebhookError> for Fault {
    fn from(error: WebhookError) -> Self {
        let words = error.to_string();
        match error {
            WebhookError::Fields(_) => Self::usage(words),
            WebhookError::NotFound(_)
            | WebhookError::NoDelivery(_)
            | WebhookError::NoBackfill(_)
            | WebhookError::Backfilling(_)
            | WebhookError::NotServed { .. }
            | WebhookError::EventGone(_)
            | WebhookError::TooMany(_)
            | WebhookError::TooManySecrets(_)
            | WebhookError::Produce(_) => Self::failures(words),
            WebhookError::Store(error) => error.into(),
            WebhookError::Kafka(error) => unreadable(error),
            WebhookError::Stages(error) => (*error).into(),
            WebhookError::Registry(_) => Self::unavailable(words),
            WebhookError::Crypto(_) => {
                Self::configuration(format!("{words}; store.encryption_key must be the one that sealed it"))
            }
            WebhookError::SigningKey(_) | WebhookError::Random(_) | WebhookError::OutOfReach => {
                Self::internal(words)
            }
        }
    }
}
