//! The clock of one repetition: from the first record to the last, with the process's own processor time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// What one repetition came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    pub(super) records_per_second: f64,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) peak_rss_bytes: u64,
    /// Allocations of Rust code per record; only in a build that counts them.
    pub(super) allocations_per_record: Option<f64>,
}

/// Counts records up to a limit.
#[derive(Debug)]
pub(super) struct Meter {
    limit: u64,
    seen: AtomicU64,
    began: OnceLock<Instants>,
    ended: OnceLock<Instants>,
    done: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Instants {
    at: Instant,
    cpu: Duration,
    allocations: u64,
}

impl Instants {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu(), allocations: allocations() }
    }
}

impl Meter {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            seen: AtomicU64::new(0),
            began: OnceLock::new(),
            ended: OnceLock::new(),
            done: Notify::new(),
        }
    }

    /// Counts one record; true when it is the last or later.
    pub(super) fn hit(&self) -> bool {
        let before = self.seen.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            let _ = self.began.set(Instants::now());
        }
        if before + 1 == self.limit {
            let _ = self.ended.set(Instants::now());
            self.done.notify_one();
        }
        before + 1 >= self.limit
    }

    /// Starts the clock.
    pub(super) fn begin(&self) {
        let _ = self.began.set(Instants::now());
    }

    /// Stops the clock.
    pub(super) fn end(&self) {
        let _ = self.ended.set(Instants::now());
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Waits for the last record.
    pub(super) async fn finished(&self) {
        while self.ended.get().is_none() {
            self.done.notified().await;
        }
    }

    /// What was measured; `None` before the last record.
    pub(super) fn measured(&self) -> Option<Measured> {
        let (began, ended) = (self.began.get()?, self.ended.get()?);
        let records = self.limit as f64;
        let counts = cfg!(feature = "count-allocations");
        Some(Measured {
            records_per_second: records / ended.at.duration_since(began.at).as_secs_f64(),
            cpu_seconds_per_million: (ended.cpu - began.cpu).as_secs_f64() / records * 1e6,
            peak_rss_bytes: peak_rss(),
            allocations_per_record: counts.then(|| (ended.allocations - began.allocations) as f64 / records),
        })
    }
}

/// User and system time of this process.
pub(super) fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The most memory that this process had resident.
pub(super) fn peak_rss() -> u64 {
    // In KiB on Linux.
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss().unsigned_abs() * 1024)
}

#[cfg(feature = "count-allocations")]
fn allocations() -> u64 {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    (stats.allocations + stats.reallocations) as u64
}

#[cfg(not(feature = "count-allocations"))]
fn allocations() -> u64 {
    0
}
