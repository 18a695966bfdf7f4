//! What is measured: each case is a handler, a number of records and keys, and the systems that take turns at it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum System {
    /// The product's effect engine.
    #[serde(rename = "orderflow")]
    Orderflow,
    /// The same while its metrics are read ten times a second.
    #[serde(rename = "orderflow-scraped")]
    Scraped,
    /// Two processes that share the group, and the partitions.
    #[serde(rename = "orderflow-two-processes")]
    TwoProcesses,
    /// `StreamConsumer`, one record at a time, nothing done with it and nothing committed.
    #[serde(rename = "raw-librdkafka-stream")]
    RawStream,
    /// `rd_kafka_consume_batch_queue`, nothing done with the records and nothing committed.
    #[serde(rename = "raw-librdkafka")]
    RawBatch,
    /// As many tasks as the concurrency, each sleeping in a loop; no Kafka.
    #[serde(rename = "bare-tokio")]
    BareTokio,
}

impl System {
    /// As in the results.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Orderflow => "orderflow",
            Self::Scraped => "orderflow-scraped",
            Self::TwoProcesses => "orderflow-two-processes",
            Self::RawStream => "raw-librdkafka-stream",
            Self::RawBatch => "raw-librdkafka",
            Self::BareTokio => "bare-tokio",
        }
    }
}

/// How many keys the records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Keys {
    /// Ten thousand.
    TenThousand,
    /// A million (or each record its own, when there are fewer).
    Million,
}

impl Keys {
    pub(super) fn count(self) -> u64 {
        match self {
            Self::TenThousand => 10_000,
            Self::Million => 1_000_000,
        }
    }
}

/// What the records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Values {
    /// 206 bytes of text that nobody reads.
    Text,
    /// An Avro event in Confluent framing, which the handler decodes.
    Avro,
}

/// One case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Case {
    /// As in the results.
    pub(super) name: String,
    /// How many records are handled; the clock stops at the last.
    pub(super) records: u64,
    /// How many records the topic holds, where that isn't what the largest case of its kind needs.
    pub(super) backlog: Option<u64>,
    /// How long the handler sleeps; zero doesn't even yield.
    pub(super) wait: Duration,
    /// Tasks at once.
    pub(super) concurrency: usize,
    /// How many keys there are.
    pub(super) keys: Keys,
    /// What the records hold.
    pub(super) values: Values,
    /// All records are parked first, and what is measured is reading them back.
    pub(super) parked: bool,
    /// Who takes turns.
    pub(super) systems: Vec<System>,
}

/// The default cases, or all of them.
pub(super) fn cases(full: bool) -> Vec<Case> {
    let ours = [System::Orderflow];
    let bulk = if full { 5_000_000 } else { 2_000_000 };
    let no_op = |name: &str, keys, values, systems: &[System]| Case {
        name: name.to_owned(),
        records: bulk,
        backlog: None,
        wait: Duration::ZERO,
        concurrency: 100,
        keys,
        values,
        parked: false,
        systems: systems.to_vec(),
    };
    let waiting = |ms: u64, concurrency: usize, keys: Keys, records: u64| Case {
        name: match keys {
            Keys::TenThousand => format!("{ms}ms-c{concurrency}"),
            Keys::Million => format!("{ms}ms-c{concurrency}-1m-keys"),
        },
        records: if full { records * 2 } else { records },
        backlog: None,
        wait: Duration::from_millis(ms),
        concurrency,
        keys,
        values: Values::Text,
        parked: false,
        systems: vec![System::BareTokio, System::Orderflow],
    };
    let all = [System::RawStream, System::RawBatch, System::Orderflow, System::Scraped, System::TwoProcesses];
    let mut cases = vec![
        no_op("no-op", Keys::TenThousand, Values::Text, &all),
        no_op("no-op-1m-keys", Keys::Million, Values::Text, &[System::RawBatch, System::Orderflow]),
        no_op("decode", Keys::TenThousand, Values::Avro, &ours),
        waiting(1, 100, Keys::TenThousand, 100_000),
        waiting(1, 1_000, Keys::TenThousand, 1_000_000),
        waiting(10, 100, Keys::TenThousand, 30_000),
        waiting(10, 1_000, Keys::TenThousand, 300_000),
        waiting(100, 10_000, Keys::Million, 500_000),
    ];
    // The same work before a backlog ten times as long: its memory is what counts.
    cases.extend([200_000, 2_000_000].map(|backlog| Case {
        name: format!("backlog-{}k", backlog / 1_000),
        records: 100_000,
        backlog: Some(backlog),
        systems: ours.to_vec(),
        ..waiting(1, 100, Keys::TenThousand, 0)
    }));
    cases.push(Case {
        name: "rebuild-1m".to_owned(),
        records: 1_000_000,
        // All of its topic is parked, so that is its own.
        backlog: Some(1_000_000),
        parked: true,
        ..no_op("", Keys::Million, Values::Text, &[System::RawBatch, System::Orderflow])
    });
    if full {
        cases.push(waiting(1, 1_000, Keys::Million, 1_000_000));
        cases.push(waiting(100, 1_000, Keys::TenThousand, 30_000));
    }
    cases
}
