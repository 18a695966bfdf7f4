//! The program: reads the command line, runs one command, and says by its exit code how it went.
//!
//! Everything that a command does is in the library, under `cli`.

use std::process::ExitCode;

use clap::Parser;
use orderflow::cli::{Cli, Exit};

#[cfg(feature = "count-allocations")]
#[global_allocator]
static COUNTING: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("orderflow: the operating system gave no threads to run on: {error}; raise its limits");
            return Exit::Internal.into();
        }
    };
    let exit = runtime.block_on(orderflow::cli::run(cli));
    // Blocking calls that are still waiting for a service (a name look-up, say) must not hold the exit up.
    runtime.shutdown_background();
    exit.into()
}
