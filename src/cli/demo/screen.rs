//! The terminal of `demo`: a line at the bottom that counts, above it what happens. Without a terminal, plain
//! lines; with `--json` nothing but the ledger.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::exit::Fault;
use crate::cli::output;
use crate::embedded::demo::Progress;
use crate::embedded::demo::story::Line;

/// How often the sums are printed where no line can be redrawn.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Where the demo shows itself.
#[derive(Debug)]
pub(super) struct Screen {
    kind: Kind,
    began: Instant,
}

#[derive(Debug)]
enum Kind {
    Terminal(ProgressBar),
    Plain { printed: Mutex<Option<(Instant, Progress)>> },
    Json,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let kind = if json {
            Kind::Json
        } else if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // The template is fixed; should it ever be wrong, the bar's own default does.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:12} {wide_msg}") {
                bar.set_style(style);
            }
            Kind::Terminal(bar)
        } else {
            Kind::Plain { printed: Mutex::default() }
        };
        Self { kind, began: Instant::now() }
    }

    /// Whether anybody reads stories here.
    pub(super) fn tells_stories(&self) -> bool {
        !matches!(self.kind, Kind::Json)
    }

    /// Prints a text; nothing with `--json`.
    pub(super) fn say(&self, text: &str) -> Result<(), Fault> {
        match &self.kind {
            Kind::Terminal(bar) => bar.suspend(|| output::line(text)),
            Kind::Plain { .. } => output::line(text),
            Kind::Json => Ok(()),
        }
    }

    /// Prints one line of the story with its time.
    pub(super) fn story(&self, line: &Line) {
        let at = self.began.elapsed().as_secs_f64();
        // A story that nobody can read any more is none.
        let _ = self.say(&format!("  {at:5.1} s  {:<13} {}", line.by, line.what));
    }

    /// Shows how far everything is.
    pub(super) fn progress(&self, progress: &Progress, orders: u64) {
        match &self.kind {
            Kind::Terminal(bar) => {
                bar.set_length(orders);
                bar.set_position(progress.orders);
                bar.set_message(sums(progress));
                bar.tick();
            }
            Kind::Plain { printed } => {
                let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
                let due =
                    printed.is_none_or(|(at, before)| at.elapsed() >= PLAIN_EVERY && before != *progress);
                if due {
                    *printed = Some((Instant::now(), *progress));
                    let _ = output::line(&format!("[{}]", sums(progress)));
                }
            }
            Kind::Json => {}
        }
    }

    /// Takes the counting line away.
    pub(super) fn close(&self) {
        if let Kind::Terminal(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

fn sums(progress: &Progress) -> String {
    let mut sums = format!(
        "{} orders · {} events, {} kept · {} messages · {} mails · {} webhooks ({} retried) · {} disputes",
        progress.orders,
        progress.events,
        progress.history,
        progress.messages,
        progress.mails,
        progress.webhooks,
        progress.retried,
        progress.disputes,
    );
    if let Some(remaining) = progress.remaining.filter(|remaining| !remaining.is_none()) {
        let to_send = remaining.outbox.max(remaining.queued);
        // Writing into a string doesn't fail.
        let _ = write!(
            sums,
            " · left: {} to handle, {} parked, {to_send} to send",
            remaining.records, remaining.parked
        );
    }
    sums
}
