//! Waiting at start for services that aren't there yet: patiently, in plain words, and not for ever.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::exit::Fault;
use crate::clock::Clock;

/// The wait after the first failure; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// How long services are waited for, and what ends the wait early.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub(super) limit: Duration,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

impl Patience {
    /// Asks until there is an answer. `None` when the program was asked to stop meanwhile.
    ///
    /// # Errors
    /// When the limit is over: exit code 69 and the last reason.
    pub(super) async fn until<T, E, F>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> Result<Option<T>, Fault>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let began = self.clock.now_ms();
        let mut pause = SHORTEST;
        let mut told = false;
        loop {
            let answer = tokio::select! {
                answer = ask() => answer,
                () = self.stop.cancelled() => return Ok(None),
            };
            let why = match answer {
                Ok(value) => {
                    if told {
                        tracing::info!(service = what, "the service is there");
                    }
                    return Ok(Some(value));
                }
                Err(why) => why,
            };
            let waited =
                Duration::from_millis(u64::try_from(self.clock.now_ms() - began).unwrap_or_default());
            if waited + pause > self.limit {
                return Err(Fault::unavailable(format!("{what} is not available: {why}")));
            }
            if !told {
                let limit_seconds = self.limit.as_secs();
                tracing::warn!(service = what, %why, limit_seconds, "the service is not there yet; waiting for it");
                told = true;
            }
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.stop.cancelled() => return Ok(None),
            }
            pause = (pause * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    fn patience(limit: Duration) -> Patience {
        Patience { limit, clock: Clock::system(), stop: CancellationToken::new() }
    }

    #[tokio::test]
    async fn a_service_that_comes_late_is_waited_for() {
        let mut asked = 0;
        let patience = patience(Duration::from_secs(60));
        let answer = patience.until("kafka", || {
            asked += 1;
            let answer = if asked < 3 { Err("not yet") } else { Ok(asked) };
            async move { answer }
        });
        assert_eq!(answer.await.expect("an answer"), Some(3));
    }

    #[tokio::test]
    async fn without_patience_the_first_refusal_ends_with_69() {
        let fault = patience(Duration::ZERO).until("kafka", || async { Err::<(), _>("refused") }).await;
        let fault = fault.expect_err("no patience");
        assert_eq!(
            (fault.exit, fault.sentence.as_str()),
            (Exit::Unavailable, "kafka is not available: refused")
        );
    }

    #[tokio::test]
    async fn being_asked_to_stop_ends_the_wait() {
        let patience = patience(Duration::from_secs(60));
        patience.stop.cancel();
        let answer = patience.until("kafka", std::future::pending::<Result<(), String>>).await;
        assert_eq!(answer.expect("no fault"), None);
    }
}
