//! `orderflow run`: stages as members of their consumer groups.

use super::context::Context;
use super::exit::{Exit, Fault};
use super::service::Service;
use crate::shutdown;
use crate::stages;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow run --stages all\n  orderflow run --stages webhook,delivery\n  orderflow run --serve\n\n\
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
    /// Exit with 69 at once when a service isn't there, instead of waiting for start.wait_for_services
    #[arg(long)]
    fail_fast: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let rows = stages::select(&args.stages).map_err(|error| Fault::usage(error.to_string()))?;
    let config = context.start()?.config;
    let stop = shutdown::on_signals().map_err(|error| Fault::internal(format!("no signals: {error}")))?;
    let mut service = Service::new(config, stop)?;
    if args.serve {
        service.start_api().await?;
    }
    if service.wait_for_services(args.fail_fast).await? {
        service.start_stages(&rows)?;
        if args.serve {
            service.start_relay();
        }
    }
    service.run_to_the_end().await
}
