//! Settings of the engine: how to reach Kafka, how much to hold, how long to wait.
//!
//! The only file that makes a `ClientConfig`: what a consumer or producer of this program must never be
//! without (acknowledgements from all, no automatic commits, no silent reset) is set here, after the user's
//! own properties, and can't be overridden by them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use serde::Deserialize;

use super::control::{BreakerOptions, StageControl};
use super::cursor::CursorStore;
use super::outcome::ErrorClass;
use super::watchdog::WatchdogOptions;

/// How to reach Kafka (`[kafka]`).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaOptions {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Any librdkafka property, passed through; may hold secrets.
    pub properties: BTreeMap<String, String>,
    /// After this long without a heartbeat the group gives a member's partitions to others. A broker accepts
    /// 6 s or more by default, the in-process one anything.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// How often a member tells the group that it lives.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// A member that polls less often than this is thrown out.
    #[serde(with = "humantime_serde")]
    pub max_poll_interval: Duration,
    /// Static membership: a member restarted within the session time-out gets its partitions back without
    /// disturbing the others. Must be unique per process; the stage's name is appended.
    pub group_instance_id: Option<String>,
    /// The largest message that the producer sends, in bytes before compression. Brokers count after compression, so
    /// it lies far above their limits: whatever a foreign producer got in can be parked and dead-lettered.
    pub max_message_bytes: usize,
}

impl fmt::Debug for KafkaOptions {
    /// Names of properties only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.keys())
            .field("session_timeout", &self.session_timeout)
            .field("group_instance_id", &self.group_instance_id)
            .finish_non_exhaustive()
    }
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(2),
            max_poll_interval: Duration::from_secs(300),
            group_instance_id: None,
            max_message_bytes: 64 * 1024 * 1024,
        }
    }
}

/// The shortest time in which a member expects an answer, however short its session: a fetch alone may wait half a second.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes, as they are stored, that a member fetches at once, unless one batch alone is larger; librdkafka wants it to be at
/// least `message.max.bytes`.
const MOST_FETCHED: usize = 2 * 1024 * 1024;

/// Bytes, as they are stored, that a member waits for whose records may wait for others.
const LEAST_FETCHED: usize = 256 * 1024;

/// What says how much is fetched and how long it is waited for.
const FETCHED: [&str; 4] =
    ["fetch.min.bytes", "fetch.wait.max.ms", "fetch.message.max.bytes", "max.partition.fetch.bytes"];

/// What a client is for; decides the settings it can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// A member of this group, for this stage.
    Member {
        /// The consumer group.
        group: &'a str,
        /// The stage.
        stage: &'a str,
        /// How long its records may wait for others.
        gather: Duration,
    },
    /// Reads partitions that it assigns itself; commits nothing.
    Reader,
    /// Sends records.
    Producer,
    /// Asks for and changes topics and groups.
    Admin,
}

impl KafkaOptions {
    /// The client settings for `role`: the user's properties below, what the engine relies on above.
    pub fn client_config(&self, role: Role<'_>) -> ClientConfig {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that makes client settings")]
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.set("reconnect.backoff.max.ms", "1000");
        config.set("client.id", "orderflow");
        match role {
            Role::Member { .. } => {
                // By default a full queue holds the fetcher back for a second, which quarters long reads. What is fetched ahead
                // waits twice, there and in the engine, which bounds it. The client counts values only: with what it keeps
                // beside them, and the headers of parked records, it is five times as much. So it keeps little, in number too,
                // and looks soon whether there is room again.
                config.set("queued.max.messages.kbytes", "4096");
                config.set("queued.min.messages", "10000");
                config.set("fetch.queue.backoff.ms", "1");
                // A request that was under way when its broker went keeps the client for this long; by default for a minute. A
                // session is what a commit may wait behind the joining of others.
                let patience = (self.session_timeout * 2).max(LEAST_PATIENCE);
                config.set("socket.timeout.ms", patience.as_millis().to_string());
            }
            Role::Reader => {
                // Nothing bounds it but this; long reads go by what is fetched ahead.
                config.set("queued.max.messages.kbytes", "16384");
                config.set("fetch.queue.backoff.ms", "10");
            }
            Role::Producer => {
                // A lane waits for the acknowledgement of what it sent; under load requests fill up by themselves.
                config.set("linger.ms", "1");
                config.set("compression.type", "lz4");
                // The Java clients' partitioner: producers of both kinds put a key into the same partition.
                config.set("partitioner", "murmur2_random");
            }
            Role::Admin => {}
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        match role {
            Role::Member { group, stage, gather } => {
                self.member(&mut config, group, stage);
                self.gather(&mut config, gather);
            }
            Role::Reader => {
                config.set("group.id", "orderflow-reader-without-commits");
                config.set("enable.auto.commit", "false");
                config.set("enable.auto.offset.store", "false");
                config.set("auto.offset.reset", "error");
                config.set("isolation.level", "read_committed");
                config.set("enable.partition.eof", "true");
            }
            Role::Producer => {
                config.set("enable.idempotence", "true");
                config.set("acks", "all");
                config.set("message.max.bytes", self.max_message_bytes.to_string());
                // With a short time-out later records of a key succeed while earlier ones failed: holes.
                let asked = self
                    .properties
                    .get("delivery.timeout.ms")
                    .or_else(|| self.properties.get("message.timeout.ms"))
                    .and_then(|value| value.parse::<u64>().ok())
                    .unwrap_or(0);
                config.remove("delivery.timeout.ms");
                config.set("message.timeout.ms", asked.max(120_000).to_string());
            }
            Role::Admin => {}
        }
        config
    }

    /// By default every record that is appended is an answer of its own, which costs the broker more than the record. Whoever
    /// sets how much is fetched, or for how long it is waited, knows better.
    fn gather(&self, config: &mut ClientConfig, gather: Duration) {
        if !gather.is_zero() && !FETCHED.iter().any(|name| self.properties.contains_key(*name)) {
            config.set("fetch.min.bytes", LEAST_FETCHED.to_string());
            config.set("fetch.wait.max.ms", gather.as_millis().to_string());
        }
    }

    fn member(&self, config: &mut ClientConfig, group: &str, stage: &str) {
        // One answer to a fetch is unpacked as a whole, beyond what may wait: parked records, whose headers repeat, are four
        // times as much then. By default there would be a megabyte of every partition in it; a quarter less than this
        // starves ten thousand attempts at once.
        if !self.properties.contains_key("fetch.max.bytes") {
            let largest = self.properties.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
            config.set("fetch.max.bytes", largest.unwrap_or(0).max(MOST_FETCHED).to_string());
        }
        config.set("group.id", group);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("auto.offset.reset", "error");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "false");
        config.set("isolation.level", "read_committed");
        config.set("session.timeout.ms", self.session_timeout.as_millis().to_string());
        config.set("heartbeat.interval.ms", self.heartbeat_interval.as_millis().to_string());
        config.set("max.poll.interval.ms", self.max_poll_interval.as_millis().to_string());
        if let Some(instance) = &self.group_instance_id {
            config.set("group.instance.id", format!("{instance}-{stage}"));
        }
    }
}

/// Where a stage's very first start begins; later starts go on from the committed position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest record.
    Latest,
}

/// Bounds and times of a stage's engine (`[runtime]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeOptions {
    /// Tasks that run at once, per member of an effect stage. The topology says it, stage by stage.
    #[serde(skip)]
    pub concurrency: usize,
    /// Records held in memory per member, over all its partitions.
    pub max_buffered_records: usize,
    /// Bytes of records held in memory per member, over all its partitions.
    pub max_buffered_bytes: usize,
    /// Bytes of parked work held in memory per member, index and records together; beyond it records are read again when
    /// they are due.
    pub max_parked_bytes: usize,
    /// Records in one batch of a store stage, at most.
    pub batch_records: usize,
    /// How long records of a store stage wait for others, at the broker and again here. The stage says it.
    #[serde(skip)]
    pub gather: Duration,
    /// Bytes in one batch of a store stage, at most (one record is always taken).
    pub batch_bytes: usize,
    /// An attempt of a handler (of a store stage: at a batch) that takes longer is cut off. The topology says it.
    #[serde(skip)]
    pub timeout: Option<Duration>,
    /// The stage runs beside the others: on a thread of its own, whatever its kind. The topology says it.
    #[serde(skip)]
    pub background: bool,
    /// Delays up to this wait in place; longer ones are parked in the retry topic. The topology says it.
    #[serde(skip)]
    pub in_place_limit: Duration,
    /// A task is given up when its next attempt would come later than this after its first failure. The topology says it.
    #[serde(skip)]
    pub age_limit: Option<Duration>,
    /// What fails so is given up at once, without another attempt. The topology says it.
    #[serde(skip)]
    pub not_retryable: BTreeSet<ErrorClass>,
    /// Whether the lane of a dead-lettered task waits until somebody decides. The topology says it.
    #[serde(skip)]
    pub holds_lanes: bool,
    /// How long started work may take to end when partitions are taken away.
    #[serde(with = "humantime_serde")]
    pub revoke_drain: Duration,
    /// How long started work may take to end at shutdown.
    #[serde(with = "humantime_serde")]
    pub shutdown_drain: Duration,
    /// How often positions are committed.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// How often unchanged positions of the retry topic are committed again, lest they expire.
    #[serde(with = "humantime_serde")]
    pub recommit_interval: Duration,
    /// How often the owner deletes what is complete from a retry topic.
    #[serde(with = "humantime_serde")]
    pub prune_interval: Duration,
    /// Whether commits carry the map of what is complete above the position, so that a restart repeats only what was
    /// unfinished. Off, everything above the position is repeated.
    pub completed_runs_map: bool,
    /// Events that an effect stage remembers per partition, to tell what was written twice; on assignment as many
    /// offsets before the position are read again. 0 remembers none.
    pub duplicates_window: usize,
    /// How long to wait for Kafka at start; without a bound it is waited for until shutdown.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Option<Duration>,
    /// How long to wait at start for a topic that the broker doesn't tell of: one that was made a moment ago is known to
    /// some brokers sooner than to others.
    #[serde(with = "humantime_serde")]
    pub topic_timeout: Duration,
    /// When a stage pauses itself because too much is dead-lettered.
    pub breaker: BreakerOptions,
    /// How long things may stand before they are looked into.
    pub watchdog: WatchdogOptions,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            concurrency: 100,
            max_buffered_records: 20_000,
            max_buffered_bytes: 64 * 1024 * 1024,
            max_parked_bytes: 32 * 1024 * 1024,
            batch_records: 500,
            gather: Duration::ZERO,
            batch_bytes: 4 * 1024 * 1024,
            timeout: None,
            background: false,
            in_place_limit: Duration::from_secs(5),
            age_limit: None,
            not_retryable: BTreeSet::new(),
            holds_lanes: false,
            revoke_drain: Duration::from_secs(5),
            shutdown_drain: Duration::from_secs(20),
            commit_interval: Duration::from_millis(500),
            recommit_interval: Duration::from_secs(3600),
            prune_interval: Duration::from_secs(600),
            completed_runs_map: true,
            duplicates_window: 10_000,
            start_timeout: None,
            topic_timeout: Duration::from_secs(30),
            breaker: BreakerOptions::default(),
            watchdog: WatchdogOptions::default(),
        }
    }
}

/// One stage as a member of its consumer group.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// The stage's name.
    pub stage: String,
    /// Its consumer group.
    pub group: String,
    /// The topic it reads.
    pub source: String,
    /// Its retry topic; effect stages only.
    pub retry: Option<String>,
    /// Its dead-letter topic.
    pub dead_letters: String,
    /// Where the first start begins.
    pub start: StartAt,
    /// Bounds and times.
    pub options: RuntimeOptions,
    /// What operators wish of it; by default nobody controls it.
    pub control: StageControl,
    /// Where the cursors of its targets are kept; effect stages only. Without one, what a target has waiting beyond its
    /// share is parked.
    pub cursors: Option<Arc<dyn CursorStore>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: Role<'_> = Role::Member { group: "g", stage: "s", gather: Duration::ZERO };

    #[test]
    fn what_may_wait_is_fetched_together_unless_the_user_says_otherwise() {
        let mut options = KafkaOptions::default();
        let fetches = |options: &KafkaOptions, gather| {
            let member = options.client_config(Role::Member { group: "g", stage: "s", gather });
            ["fetch.min.bytes", "fetch.wait.max.ms"].map(|name| member.get(name).map(str::to_owned))
        };
        let gather = Duration::from_millis(300);
        assert_eq!(fetches(&options, Duration::ZERO), [None, None]);
        assert_eq!(fetches(&options, gather), [Some("262144".to_owned()), Some("300".to_owned())]);
        options.properties.insert("fetch.min.bytes".to_owned(), "7".to_owned());
        assert_eq!(fetches(&options, gather), [Some("7".to_owned()), None]);
        options.properties = [("max.partition.fetch.bytes".to_owned(), "1000".to_owned())].into();
        assert_eq!(fetches(&options, gather), [None, None], "so many are never there");
    }

    #[test]
    fn what_the_engine_relies_on_is_not_overridden_by_properties() {
        let mut options = KafkaOptions::default();
        for (name, value) in [
            ("enable.auto.commit", "true"),
            ("auto.offset.reset", "earliest"),
            ("acks", "1"),
            ("delivery.timeout.ms", "10000"),
            ("fetch.wait.max.ms", "100"),
            ("client.rack", "here"),
        ] {
            options.properties.insert(name.to_owned(), value.to_owned());
        }
        let member = options.client_config(MEMBER);
        assert_eq!(member.get("enable.auto.commit"), Some("false"));
        assert_eq!(member.get("auto.offset.reset"), Some("error"));
        assert_eq!(member.get("fetch.wait.max.ms"), Some("100"));
        assert_eq!(member.get("socket.timeout.ms"), Some("20000"), "two sessions");
        assert_eq!(member.get("fetch.max.bytes"), Some("2097152"));
        options.properties.insert("message.max.bytes".to_owned(), "5000000".to_owned());
        let member = options.client_config(MEMBER);
        assert_eq!(member.get("fetch.max.bytes"), Some("5000000"), "librdkafka refuses less");
        let producer = options.client_config(Role::Producer);
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("delivery.timeout.ms"), None);
        assert_eq!(producer.get("message.timeout.ms"), Some("120000"));
        for role in [MEMBER, Role::Reader] {
            let reads = options.client_config(role);
            assert_eq!(
                reads.get("client.rack"),
                Some("here"),
                "every reader may read from the closest replica"
            );
        }
    }
}
