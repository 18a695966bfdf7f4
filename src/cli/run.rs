//! `orderflow run`: stages as members of their consumer groups.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::service::Service;
use super::{output, parts};
use crate::config::Config;
use crate::crypto::Secret;
use crate::embedded::services::Services;
use crate::event::RegistryOptions;
use crate::shutdown;
use crate::stages;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow run --stages all\n  orderflow run --stages webhook,delivery\n  orderflow run --serve\n  orderflow run --embedded\n\n\
                        SIGTERM drains: started work ends, positions are committed, exit code 0 (or 75 when \
                        runtime.shutdown_drain passed first). A second signal stops at once."
)]
pub(super) struct Args {
    /// Which stages, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "STAGE,…")]
    stages: Vec<String>,
    /// Also serve the HTTP API and publish the outbox, as `orderflow serve` does
    #[arg(long)]
    serve: bool,
    /// Bring Kafka, registry and database along inside this process; nothing of it is kept
    #[arg(long)]
    embedded: bool,
    /// Exit with 69 at once when a service isn't there, instead of waiting for start.wait_for_services
    #[arg(long)]
    fail_fast: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let mut config = context.start()?.config;
    let names = stages::select(&config.topology.load()?, &args.stages)
        .map_err(|error| Fault::usage(error.to_string()))?;
    // Held to the end: the services end with it.
    let _services = if args.embedded { Some(embed(&mut config).await?) } else { None };
    let stop = shutdown::on_signals().map_err(|error| Fault::internal(format!("no signals: {error}")))?;
    let mut service = Service::new(config, stop)?;
    if args.serve {
        service.start_api().await?;
    } else {
        service.start_observing().await?;
    }
    if service.wait_for_services(args.fail_fast).await? {
        service.start_stages(&names)?;
        if args.serve {
            service.start_relay();
            service.start_watch();
        }
    }
    service.run_to_the_end().await
}

/// Starts the embedded services, points the configuration to them and prints where they are.
async fn embed(config: &mut Config) -> Result<Services, Fault> {
    let services = Services::start(&config.topology.load()?)
        .await
        .map_err(|error| Fault::unavailable(format!("the embedded services don't start: {error}")))?;
    config.kafka = services.broker.client_options();
    config.registry = RegistryOptions {
        url: services.registry.url().to_owned(),
        auto_register: true,
        ..RegistryOptions::default()
    };
    config.store.url = services.store_url();
    // Good for what it seals as long as the database is there, which is as long as this process.
    let key = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    config.store.encryption_key = Some(Secret::new(STANDARD.encode(key)));
    let migrated = parts::database(config)?.migrate().await;
    migrated.map_err(|error| Fault::unavailable(format!("the embedded database: {error}")))?;
    let (kafka, registry) = (services.broker.address(), services.registry.url());
    output::line(&format!("embedded: kafka {kafka}, registry {registry}, nothing is kept"))?;
    Ok(services)
}
