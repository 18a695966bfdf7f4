//! Counts of what ends at once, kept here and handed to the metrics a few times a second.
//!
//! A label look-up and two atomic additions per record cost more than the rest of its way through the engine.

use std::time::Duration;

use crate::runtime::outcome::SkipReason;
use crate::telemetry::{DurationSeries, Metrics, Seconds};

/// See the module.
pub(super) struct Tally {
    metrics: std::sync::Arc<Metrics>,
    stage: std::sync::Arc<str>,
    outcomes: Vec<(&'static str, u64)>,
    /// By reason, in the order of [`SkipReason::ALL`].
    skipped: [u64; SkipReason::ALL.len()],
    end_to_end: (DurationSeries, Seconds),
    /// A time from end to end, in milliseconds, and how many records in a row had it: most come by the block.
    lately: (i64, u64),
    durations: Vec<(&'static str, DurationSeries, Seconds)>,
    last_ms: i64,
}

impl Tally {
    pub(super) fn new(metrics: std::sync::Arc<Metrics>, stage: std::sync::Arc<str>) -> Self {
        let end_to_end = metrics.event_end_to_end.with_label_values(&[&*stage]);
        Self {
            metrics,
            stage,
            outcomes: Vec::new(),
            skipped: Default::default(),
            end_to_end: (end_to_end, Seconds::default()),
            lately: (0, 0),
            durations: Vec::new(),
            last_ms: 0,
        }
    }

    /// Counts tasks by what became of them.
    pub(super) fn count(&mut self, outcome: &'static str, tasks: u64) {
        match self.outcomes.iter_mut().find(|(known, _)| std::ptr::eq(*known, outcome) || *known == outcome) {
            Some((_, sum)) => *sum += tasks,
            None => self.outcomes.push((outcome, tasks)),
        }
    }

    /// Counts why a task was skipped.
    pub(super) fn skipped(&mut self, reason: SkipReason) {
        self.skipped[reason as usize] += 1;
    }

    /// Notes when a record was complete that was written then.
    #[inline]
    pub(super) fn complete(&mut self, written_ms: Option<i64>, now_ms: i64) {
        self.last_ms = now_ms;
        if let Some(written_ms) = written_ms {
            let took_ms = (now_ms - written_ms).max(0);
            if took_ms != self.lately.0 {
                self.settle();
                self.lately.0 = took_ms;
            }
            self.lately.1 += 1;
        }
    }

    fn settle(&mut self) {
        let (took_ms, times) = (self.lately.0, std::mem::take(&mut self.lately.1));
        self.end_to_end.1.add(took_ms as f64 / 1_000.0, times);
    }

    /// Notes how long `attempts` at things of `kind` took each.
    pub(super) fn took(&mut self, kind: &'static str, each: Duration, attempts: u64) {
        let at = match self.durations.iter().position(|(known, ..)| *known == kind) {
            Some(at) => at,
            None => {
                let labels = [&*self.stage, kind];
                let series = self.metrics.event_processing_duration.with_label_values(&labels);
                self.durations.push((kind, series, Seconds::default()));
                self.durations.len() - 1
            }
        };
        self.durations[at].2.add(each.as_secs_f64(), attempts);
    }

    /// Hands everything to the metrics.
    pub(super) fn flush(&mut self) {
        for (outcome, tasks) in self.outcomes.drain(..) {
            self.metrics.tasks.with_label_values(&[&*self.stage, outcome]).inc_by(tasks);
        }
        for (reason, sum) in SkipReason::ALL.into_iter().zip(&mut self.skipped) {
            if *sum > 0 {
                let labels = [&*self.stage, reason.as_str()];
                self.metrics.tasks_skipped.with_label_values(&labels).inc_by(std::mem::take(sum));
            }
        }
        self.settle();
        self.end_to_end.0.take(&mut self.end_to_end.1);
        for (_, series, counted) in &mut self.durations {
            series.take(counted);
        }
        if self.last_ms > 0 {
            let seconds = std::mem::take(&mut self.last_ms) as f64 / 1_000.0;
            self.metrics.last_processed_timestamp.with_label_values(&[&*self.stage]).set(seconds);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.flush();
    }
}
