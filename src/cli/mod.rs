//! The command line: one file per command, each an `Args` and a `run`.
//!
//! A command reads the configuration, makes the parts that it needs, does its work through the rooms of the
//! library and prints the result. What must not live here: anything that the HTTP API or the demo would have
//! to do again.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod audit;
mod bench;
mod config;
mod context;
mod db;
mod demo;
mod dlq;
mod exit;
mod generate;
mod lag;
mod lane;
mod lines;
mod operator;
mod output;
mod parts;
mod publish;
mod replay;
mod run;
mod schemas;
mod serve;
mod service;
mod stage;
mod tail;
mod token;
mod topology;
mod waiting;
mod webhook;
mod when;

use context::Context;
pub use exit::{Exit, Fault};

/// What is typed after `orderflow`.
#[derive(Debug, Parser)]
#[command(
    name = "orderflow",
    version,
    about = "Turns a stream of order events into everything that has to happen next",
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 fine, 1 the work had failures, 2 usage, 64 bad configuration, 69 a needed service is \
                  unavailable, 70 internal fault, 75 the shutdown deadline passed with work undone (it will be repeated)."
)]
pub struct Cli {
    /// The configuration file [default: orderflow.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "ORDERFLOW_CONFIG")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything in one process, with nothing installed
    Demo(demo::Args),
    /// Run stages as members of their consumer groups, until SIGTERM
    Run(run::Args),
    /// Serve the HTTP API and publish the outbox, until SIGTERM
    Serve(serve::Args),
    /// Compare the declared topics with the broker's, and create what is missing
    Topology(topology::Args),
    /// Compare our schemas with the registry's, and register what is missing
    Schemas(schemas::Args),
    /// Bring the database's schema up to date
    Db(db::Args),
    /// Put events on their topics: one JSON object a line
    Publish(publish::Args),
    /// Publish realistic order life cycles
    Generate(generate::Args),
    /// Follow events, decoded, with personal data masked
    Tail(tail::Args),
    /// Look at dead letters, and take them back to their stage
    Dlq(dlq::Args),
    /// Say how far every consumer group is behind
    Lag(lag::Args),
    /// Look at lanes that wait, and let them go on
    Lane(lane::Args),
    /// Move a stage back, so that it does again what it did
    Replay(replay::Args),
    /// Pause stages, and let them go on
    Stage(stage::Args),
    /// Register, change and test webhook endpoints, and look at what was tried
    Webhook(webhook::Args),
    /// Show who did what to the running system, and why
    Audit(audit::Args),
    /// Make a signed token for development
    Token(token::Args),
    /// Measure the engine and the codec on this machine
    Bench(bench::Args),
    /// Show which settings apply and where they come from
    Config(config::Args),
}

/// Runs one command and tells on stderr, in one sentence, what went wrong.
pub async fn run(cli: Cli) -> Exit {
    let context = Context::new(cli.config);
    let ended = match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Run(args) => run::run(args, &context).await,
        Command::Serve(args) => serve::run(args, &context).await,
        Command::Schemas(args) => schemas::run(args, &context).await,
        Command::Topology(args) => topology::run(args, &context).await,
        Command::Db(args) => db::run(&args, &context).await,
        Command::Publish(args) => publish::run(args, &context).await,
        Command::Generate(args) => generate::run(args, &context).await,
        Command::Tail(args) => tail::run(args, &context).await,
        Command::Dlq(args) => dlq::run(args, &context).await,
        Command::Lag(args) => lag::run(args, &context).await,
        Command::Lane(args) => lane::run(args, &context).await,
        Command::Replay(args) => replay::run(args, &context).await,
        Command::Stage(args) => stage::run(args, &context).await,
        Command::Webhook(args) => webhook::run(args, &context).await,
        Command::Audit(args) => audit::run(args, &context).await,
        Command::Token(args) => token::run(args, &context),
        Command::Bench(args) => bench::run(args, &context).await,
        Command::Config(args) => config::run(&args, &context).await,
    };
    ended.unwrap_or_else(|fault| {
        output::complain(&fault.sentence);
        fault.exit
    })
}
