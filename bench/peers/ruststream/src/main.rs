//! Measures ruststream-rdkafka's lanes by record key on a topic of `orderflow bench engine`, and prints one line
//! of JSON.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use ruststream_rdkafka::prelude::*;
use tokio::sync::Notify;

/// What is asked for on the command line.
#[derive(Debug)]
struct Asked {
    bootstrap: String,
    topic: String,
    records: u64,
    concurrency: usize,
    sleep: Duration,
    /// `fetch.queue.backoff.ms`.
    backoff: String,
}

/// librdkafka's own `fetch.queue.backoff.ms`.
const DEFAULT_BACKOFF: &str = "1000";

static ASKED: OnceLock<Asked> = OnceLock::new();
static SEEN: AtomicU64 = AtomicU64::new(0);
static BEGAN: OnceLock<(Instant, f64)> = OnceLock::new();
static ENDED: OnceLock<(Instant, f64)> = OnceLock::new();
static DONE: Notify = Notify::const_new();

/// The payload as it lies in the client's buffer.
#[derive(Deserialized)]
struct Payload<'a>(&'a [u8]);

fn asked() -> &'static Asked {
    ASKED.get().expect("set before the service starts")
}

#[subscriber(
    KafkaTopic::new(asked().topic.as_str())
        .start(StartOffset::Earliest)
        .commit(Commit::Tracked)
        .assignment(Assignment::CooperativeSticky)
        .lane_key(LaneKey::RecordKey)
        .config("fetch.queue.backoff.ms", asked().backoff.as_str()),
    workers(asked().concurrency, by_key)
)]
async fn handle(payload: &Payload<'_>) -> HandlerOutcome {
    std::hint::black_box(payload.0);
    if !asked().sleep.is_zero() {
        tokio::time::sleep(asked().sleep).await;
    }
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    if seen == 1 {
        let _ = BEGAN.set((Instant::now(), cpu()));
    }
    if seen == asked().records {
        let _ = ENDED.set((Instant::now(), cpu()));
        DONE.notify_one();
    }
    HandlerOutcome::ack()
}

/// User and system time of this process, in seconds.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system counts");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut next =
        |what: &str| words.next().ok_or_else(|| format!("{what} is missing; see the script `run`"));
    let asked = Asked {
        bootstrap: next("BOOTSTRAP")?,
        topic: next("TOPIC")?,
        records: next("RECORDS")?.parse()?,
        concurrency: next("CONCURRENCY")?.parse()?,
        sleep: Duration::from_millis(next("SLEEP_MS")?.parse()?),
        backoff: next("BACKOFF_MS").unwrap_or_else(|_| DEFAULT_BACKOFF.to_owned()),
    };
    let asked = ASKED.get_or_init(|| asked);
    let group = format!("ruststream-bench-{}-{:?}", std::process::id(), std::time::SystemTime::now());
    let broker = KafkaBroker::new([asked.bootstrap.as_str()]).default_group(group);
    let app = RustStream::new(AppInfo::new("bench", "0.0.0")).with_broker(broker, |b| {
        b.include(handle);
    });
    app.run_until(DONE.notified()).await?;
    let (began, ended) = (BEGAN.get().expect("a record came"), ENDED.get().expect("the last one came"));
    let records = asked.records as f64;
    let peak = getrusage(UsageWho::RUSAGE_SELF)?.max_rss() * 1024;
    let result = serde_json::json!({
        "recordsPerSecond": records / (ended.0 - began.0).as_secs_f64(),
        "cpuSecondsPerMillion": (ended.1 - began.1) / records * 1e6,
        "peakRssBytes": peak,
    });
    println!("{result}");
    Ok(())
}
