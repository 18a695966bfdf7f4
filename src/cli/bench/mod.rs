//! `orderflow bench`: what the engine and the codec do on this machine, beside the bare parts in the same run.
//!
//! Each repetition runs in a process of its own (this program, started again), so that memory and processor time
//! are its own. The parent makes the topics, takes turns between the systems, and prints the medians.

mod cases;
mod child;
mod codec;
mod engine;
mod events;
mod machine;
mod measure;
mod pair;
mod peers;
mod raw;
mod rebuild;
mod report;
mod stage;
mod topic;
mod webhook;

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Fault};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orderflow bench engine --only no-op --json")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Records per second through the effect engine, beside raw consumers and a bare tokio loop
    Engine(engine::Args),
    /// Deliveries per second from the topic to the receivers' answers, beside a bare HTTP client
    Webhook(webhook::Args),
    /// Nanoseconds to decode and encode one event
    Codec(codec::Args),
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    match args.what {
        What::Engine(args) => engine::run(args, context).await,
        What::Webhook(args) => webhook::run(args, context).await,
        What::Codec(args) => codec::run(args).await,
    }
}
