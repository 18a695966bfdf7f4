//! `orderflow serve`: the HTTP API and the relay of the outbox.

use super::context::Context;
use super::exit::{Exit, Fault};
use super::service::Service;
use crate::shutdown;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ORDERFLOW_HTTP__BIND=0.0.0.0:8080 orderflow serve\n\n\
                        Listens on loopback unless http.bind says otherwise. The API answers at once; /health/ready \
                        says which services aren't there yet.")]
pub(super) struct Args {
    /// Exit with 69 at once when a service isn't there, instead of waiting for start.wait_for_services
    #[arg(long)]
    fail_fast: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let stop = shutdown::on_signals().map_err(|error| Fault::internal(format!("no signals: {error}")))?;
    let mut service = Service::new(config, stop)?;
    service.start_api().await?;
    if service.wait_for_services(args.fail_fast).await? {
        service.start_relay();
        service.start_watch();
    }
    service.run_to_the_end().await
}
