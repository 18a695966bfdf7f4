//! The clock of one repetition: from the first record to the last, with the process's own processor time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;

/// What one repetition came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    /// From when to when, in epoch milliseconds.
    pub(super) began_ms: i64,
    pub(super) ended_ms: i64,
    pub(super) records: u64,
    pub(super) records_per_second: f64,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) peak_rss_bytes: u64,
    /// Allocations of Rust code per record; only in a build that counts them.
    pub(super) allocations_per_record: Option<f64>,
}

impl Measured {
    /// What two processes came to that worked at the same time.
    pub(super) fn beside(&self, other: &Self) -> Self {
        let (began_ms, ended_ms) = (self.began_ms.min(other.began_ms), self.ended_ms.max(other.ended_ms));
        let records = self.records + other.records;
        let each = |value: fn(&Self) -> f64| {
            let sum = value(self) * self.records as f64 + value(other) * other.records as f64;
            sum / records.max(1) as f64
        };
        let counted = self.allocations_per_record.is_some();
        Self {
            began_ms,
            ended_ms,
            records,
            records_per_second: records as f64 * 1_000.0 / (ended_ms - began_ms).max(1) as f64,
            cpu_seconds_per_million: each(|one| one.cpu_seconds_per_million),
            peak_rss_bytes: self.peak_rss_bytes + other.peak_rss_bytes,
            allocations_per_record: counted.then(|| each(|one| one.allocations_per_record.unwrap_or(0.0))),
        }
    }
}

/// Counts records up to a limit.
#[derive(Debug)]
pub(super) struct Meter {
    limit: AtomicU64,
    seen: AtomicU64,
    began: OnceLock<Instants>,
    ended: OnceLock<Instants>,
    done: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Instants {
    at: Instant,
    epoch_ms: i64,
    cpu: Duration,
    allocations: u64,
}

impl Instants {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            epoch_ms: Clock::system().now_ms(),
            cpu: cpu(),
            allocations: allocations(),
        }
    }
}

impl Meter {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            seen: AtomicU64::new(0),
            began: OnceLock::new(),
            ended: OnceLock::new(),
            done: Notify::new(),
        }
    }

    /// Changes the limit, before the first record.
    pub(super) fn expect(&self, records: u64) {
        self.limit.store(records, Ordering::Relaxed);
    }

    /// Counts one record; true when it is the last or later.
    pub(super) fn hit(&self) -> bool {
        let (before, limit) = (self.seen.fetch_add(1, Ordering::Relaxed), self.limit.load(Ordering::Relaxed));
        if before == 0 {
            let _ = self.began.set(Instants::now());
        }
        if before + 1 == limit {
            let _ = self.ended.set(Instants::now());
            self.done.notify_one();
        }
        before + 1 >= limit
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
        let limit = self.limit.load(Ordering::Relaxed);
        let records = limit as f64;
        let counts = cfg!(feature = "count-allocations");
        Some(Measured {
            began_ms: began.epoch_ms,
            ended_ms: ended.epoch_ms,
            records: limit,
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

/// The most memory that this process had resident. Not as `getrusage` tells it: that begins with what the parent had, which
/// filled the topics.
pub(super) fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        peak.and_then(|peak| peak.trim().strip_suffix(" kB")).and_then(|peak| peak.parse::<u64>().ok());
    // In KiB on Linux, either way.
    kibibytes
        .unwrap_or_else(|| getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss().unsigned_abs()))
        * 1024
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
