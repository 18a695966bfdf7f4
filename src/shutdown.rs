//! How the program is asked to stop: SIGTERM or SIGINT once drains, a second signal stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::task;

/// Exit status after a second signal: 128 + SIGTERM, what a shell reports for a terminated process.
const STOPPED_AT_ONCE: i32 = 143;

/// Cancels the returned token at the first SIGTERM or SIGINT; a second one ends the process at once
/// (nothing is lost then: what was unfinished is repeated by whoever takes over).
///
/// # Errors
/// When the operating system refuses to install a signal handler.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = token.clone();
    task::spawn("signals", async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("asked to stop: draining; a second signal stops at once");
                stop.cancel();
            } else {
                std::process::exit(STOPPED_AT_ONCE);
            }
        }
    });
    Ok(token)
}
