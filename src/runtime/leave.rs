//! The last steps of a member: the poll thread commits, leaves the group, and is waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::consumer::{Desk, Event};
use super::error::RunError;

/// How long committing and leaving may take after the drain.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Asks the poll thread to close and waits for it. Answers whether everything handed in was committed.
pub(crate) async fn leave(
    desk: &Arc<Desk>,
    mut events: mpsc::Receiver<Event>,
    mut left: oneshot::Receiver<Result<(), RunError>>,
) -> bool {
    desk.close();
    let deadline = tokio::time::Instant::now() + LEAVE_WITHIN;
    loop {
        tokio::select! {
            _ended = &mut left => return desk.is_committed(),
            // Taken and dropped, so that the thread is never stuck on a full channel; a dropped revoke is
            // answered by that.
            Some(_late) = events.recv() => {}
            () = tokio::time::sleep_until(deadline) => {
                tracing::warn!("the consumer did not leave its group in time; the group will notice by itself");
                return false;
            }
        }
    }
}

/// Why the poll thread ended though nobody asked for it.
pub(crate) fn orphaned(
    stage: &str,
    ended: Result<Result<(), RunError>, oneshot::error::RecvError>,
) -> RunError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => RunError::Internal {
            stage: stage.to_owned(),
            what: "the poll thread ended before it was asked to".to_owned(),
        },
    }
}
