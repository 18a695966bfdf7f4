//! The loop of the poll thread: orders, one round of polling, what came goes to the engine, pauses, commits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::context::Membership;
use super::desk::Side;
use super::{Assigned, Event, Links, positions, to_record};
use crate::runtime::error::{PartitionFault, RunError};
use crate::runtime::options::{KafkaOptions, Role, StageSpec};
use crate::runtime::record::Record;

/// Records taken in one round, at most.
pub(super) const BATCH: usize = 500;
/// Bytes taken in one round, at most.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long a round waits for the first record; also the longest that an order waits.
const POLL: Duration = Duration::from_millis(20);
/// Pause between tries while Kafka is away.
const AWAY: Duration = Duration::from_millis(500);

/// Owns the consumer client of one member.
pub(super) struct Poller {
    spec: StageSpec,
    kafka: KafkaOptions,
    pub(super) links: Links,
}

/// A subscribed client, and the cluster's id.
type Connected = (BaseConsumer<Membership>, Arc<str>);

/// Why a client is given up.
enum End {
    /// The engine asked for it, or is gone.
    Closed,
    /// The client is fatally broken and is made anew.
    Rebuild(String),
}

/// What is remembered between rounds.
struct Round {
    next_commit: Instant,
    next_renewal: Instant,
    complained: Option<RDKafkaErrorCode>,
    /// A read position left the log: find out which.
    recheck: bool,
}

impl Poller {
    pub(super) fn new(spec: StageSpec, kafka: KafkaOptions, links: Links) -> Self {
        Self { spec, kafka, links }
    }

    /// Runs until closed. `started` hears once whether the first start worked, with the cluster's id.
    pub(super) fn run(self, started: oneshot::Sender<Result<Arc<str>, RunError>>) -> Result<(), RunError> {
        let mut started = Some(started);
        loop {
            let (consumer, cluster) = match self.connect(started.is_some()) {
                Ok(Some(connected)) => connected,
                Ok(None) => return Ok(()),
                Err(error) => {
                    return match started.take() {
                        Some(first) => {
                            let _ = first.send(Err(error));
                            Ok(())
                        }
                        None => Err(error),
                    };
                }
            };
            if let Some(first) = started.take()
                && first.send(Ok(cluster)).is_err()
            {
                return Ok(());
            }
            match self.poll(&consumer) {
                End::Closed => {
                    self.leave(consumer);
                    return Ok(());
                }
                End::Rebuild(why) => {
                    tracing::error!(stage = %self.spec.stage, why, "the kafka client is broken for good; making a new one");
                    let owned: Vec<i32> = consumer.context().book().owned.keys().copied().collect();
                    consumer.context().drain(&owned, true);
                    self.leave(consumer);
                    std::thread::sleep(AWAY);
                }
            }
        }
    }

    /// A subscribed client, or `None` when the engine went away while Kafka did not answer.
    fn connect(&self, first: bool) -> Result<Option<Connected>, RunError> {
        let role = Role::Member { group: &self.spec.group, stage: &self.spec.stage };
        let mut config = self.kafka.client_config(role);
        config.set("statistics.interval.ms", "1000");
        let consumer: BaseConsumer<Membership> =
            config.create_with_context(Membership::new(self.links.clone())).map_err(RunError::Settings)?;
        let began = Instant::now();
        let mut told = false;
        loop {
            if self.links.desk.is_closing() || self.links.events.is_closed() {
                return Ok(None);
            }
            self.links.tick();
            match self.prepare(&consumer) {
                Ok(cluster) => return Ok(Some((consumer, cluster))),
                Err(Prepare::Refused(error)) => return Err(error),
                Err(Prepare::Away(error)) => {
                    let bound = self.spec.options.start_timeout.filter(|_| first);
                    if let Some(bound) = bound.filter(|bound| began.elapsed() >= *bound) {
                        let servers = self.kafka.bootstrap_servers.clone();
                        return Err(RunError::Unavailable { servers, waited: bound });
                    }
                    if !told {
                        tracing::warn!(stage = %self.spec.stage, servers = %self.kafka.bootstrap_servers, %error,
                            "kafka does not answer; waiting for it");
                        told = true;
                    }
                    std::thread::sleep(AWAY.min(Duration::from_millis(200)));
                }
            }
        }
    }

    /// Checks the topics, sets first positions, subscribes. Gives the cluster's id.
    fn prepare(&self, consumer: &BaseConsumer<Membership>) -> Result<Arc<str>, Prepare> {
        let source_partitions = self.partitions(consumer, &self.spec.source)?;
        for topic in self.spec.retry.iter().chain([&self.spec.dead_letters]) {
            let partitions = self.partitions(consumer, topic)?;
            if partitions != source_partitions {
                return Err(Prepare::Refused(RunError::PartitionCounts {
                    stage: self.spec.stage.clone(),
                    topic: topic.clone(),
                    partitions,
                    source_topic: self.spec.source.clone(),
                    source_partitions,
                }));
            }
        }
        let count = i32::try_from(source_partitions).unwrap_or(i32::MAX);
        positions::ensure_positions(consumer, &self.spec, count)?;
        // Positions of store stages are kept under it, so that it must be known.
        let cluster = consumer
            .client()
            .fetch_cluster_id(positions::ANSWER_WITHIN)
            .ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::RequestTimedOut))?;
        consumer.subscribe(&[&self.spec.source])?;
        Ok(cluster.into())
    }

    fn partitions(&self, consumer: &BaseConsumer<Membership>, topic: &str) -> Result<usize, Prepare> {
        let metadata = consumer.fetch_metadata(Some(topic), positions::ANSWER_WITHIN)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.map_or(0, |found| found.partitions().len()) {
            0 => Err(Prepare::Refused(RunError::TopicMissing {
                stage: self.spec.stage.clone(),
                topic: topic.to_owned(),
            })),
            count => Ok(count),
        }
    }

    fn poll(&self, consumer: &BaseConsumer<Membership>) -> End {
        let now = Instant::now();
        let mut round = Round {
            next_commit: now + self.spec.options.commit_interval,
            next_renewal: now + self.spec.options.recommit_interval,
            complained: None,
            recheck: false,
        };
        loop {
            if self.links.desk.is_closing() || self.links.events.is_closed() {
                return End::Closed;
            }
            match self.round(consumer, &mut round) {
                ControlFlow::Continue(()) => self.links.tick(),
                ControlFlow::Break(end) => return end,
            }
        }
    }

    fn round(&self, consumer: &BaseConsumer<Membership>, round: &mut Round) -> ControlFlow<End> {
        let batches = match self.read(consumer, round) {
            Ok(batches) => batches,
            Err(why) => return ControlFlow::Break(End::Rebuild(why)),
        };
        self.introduce(consumer)?;
        if std::mem::take(&mut round.recheck) {
            self.name_lost_positions(consumer)?;
        }
        for batch in batches {
            self.pass_on(consumer, batch)?;
        }
        self.begin(consumer);
        self.rewind(consumer);
        self.hold_back(consumer);
        let now = Instant::now();
        if now >= round.next_renewal {
            self.links.desk.renew_retry();
            round.next_renewal = now + self.spec.options.recommit_interval;
        }
        if self.links.desk.take_hurry() || now >= round.next_commit {
            consumer.context().commit(consumer);
            round.next_commit = Instant::now() + self.spec.options.commit_interval;
        }
        ControlFlow::Continue(())
    }

    /// Polls until a batch is full or nothing is there, by partition.
    fn read(&self, consumer: &BaseConsumer<Membership>, round: &mut Round) -> Result<Vec<Batch>, String> {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while records < BATCH && bytes < BATCH_BYTES {
            let wait = if records == 0 { POLL } else { Duration::ZERO };
            let message = match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                        return Err(error.to_string());
                    }
                    round.recheck |= error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset);
                    self.complain(&error, round);
                    continue;
                }
            };
            round.complained = None;
            let (side, topic) = match &self.links.retry {
                Some(retry) if message.topic() == &**retry => (Side::Retry, retry),
                Some(_) | None => (Side::Source, &self.links.source),
            };
            let record = to_record(&message, topic);
            records += 1;
            bytes += record.bytes();
            let known =
                batches.iter_mut().find(|batch| batch.side == side && batch.partition == record.partition);
            match known {
                Some(batch) => batch.records.push(record),
                None => batches.push(Batch { side, partition: record.partition, records: vec![record] }),
            }
        }
        Ok(batches)
    }

    /// Told once until something flows again.
    fn complain(&self, error: &KafkaError, round: &mut Round) {
        let code = error.rdkafka_error_code();
        if round.complained == code && code.is_some() {
            return;
        }
        round.complained = code;
        tracing::warn!(stage = %self.spec.stage, %error, "reading from kafka fails; going on");
    }

    /// Looks up the positions of newly assigned partitions and tells the engine. Tried again next round when
    /// the broker doesn't answer.
    fn introduce(&self, consumer: &BaseConsumer<Membership>) -> ControlFlow<End> {
        let fresh = consumer.context().book().fresh.clone();
        if fresh.is_empty() {
            return ControlFlow::Continue(());
        }
        let found = match positions::look_up(consumer, &self.spec.source, self.spec.retry.as_deref(), &fresh)
        {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(stage = %self.spec.stage, %error, "positions can't be read; trying again");
                return ControlFlow::Continue(());
            }
        };
        consumer.context().book().fresh.clear();
        for (partition, found) in found {
            let owned = consumer.context().book().owned.get(&partition).cloned();
            let Some(owned) = owned else { continue };
            let event = match found {
                Ok((source, retry)) => {
                    owned.gauge.note_end(source.high);
                    let (generation, gauge) = (owned.generation, owned.gauge);
                    Event::Assigned(Assigned { partition, generation, source, retry, gauge })
                }
                Err(fault) => {
                    tracing::error!(stage = %self.spec.stage, partition, %fault, "a partition is not read");
                    Event::Faulted { partition, fault }
                }
            };
            self.tell(event)?;
        }
        ControlFlow::Continue(())
    }

    /// Invariant 8: a read position that left the log (its records were deleted before they were handled) is a
    /// fault with a name; that partition stands still.
    fn name_lost_positions(&self, consumer: &BaseConsumer<Membership>) -> ControlFlow<End> {
        let Ok(positions) = consumer.position() else { return ControlFlow::Continue(()) };
        for element in positions.elements() {
            let Offset::Offset(committed) = element.offset() else { continue };
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let ends = consumer.fetch_watermarks(&topic, partition, positions::ANSWER_WITHIN);
            if let Ok((low, high)) = ends
                && (committed < low || committed > high)
            {
                let fault = PartitionFault::PositionOutsideLog { topic, partition, committed, low, high };
                tracing::error!(stage = %self.spec.stage, partition, %fault, "a partition is not read any more");
                self.links.desk.stop(partition);
                self.tell(Event::Faulted { partition, fault })?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pass_on(&self, consumer: &BaseConsumer<Membership>, batch: Batch) -> ControlFlow<End> {
        let Batch { side, partition, records } = batch;
        let generation = {
            let book = consumer.context().book();
            let Some(owned) = book.owned.get(&partition) else {
                // Revoked between reading and here: the next owner reads them again.
                return ControlFlow::Continue(());
            };
            if side == Side::Source {
                owned.gauge.take(records.len(), records.iter().map(Record::bytes).sum());
            }
            owned.generation
        };
        self.tell(Event::Records { side, partition, generation, records })
    }

    /// Lets partitions flow that the engine has started.
    fn begin(&self, consumer: &BaseConsumer<Membership>) {
        for start in self.links.desk.take_starts() {
            let current = consumer.context().book().owned.get(&start.partition).map(|owned| owned.generation);
            if current != Some(start.generation) {
                continue;
            }
            if let Some(from) = start.from {
                let moved = consumer.seek(
                    &self.spec.source,
                    start.partition,
                    Offset::Offset(from),
                    positions::ANSWER_WITHIN,
                );
                if let Err(error) = moved {
                    tracing::warn!(stage = %self.spec.stage, partition = start.partition, from, %error,
                        "the read position can't be moved yet; trying again");
                    self.links.desk.start(start);
                    continue;
                }
            }
            if let Some(owned) = consumer.context().book().owned.get_mut(&start.partition) {
                owned.held = false;
                owned.source_waits = !start.source;
            }
        }
    }

    /// Pauses and resumes by memory, scan and stops. Polling goes on either way.
    fn hold_back(&self, consumer: &BaseConsumer<Membership>) {
        let options = &self.spec.options;
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        {
            let mut book = consumer.context().book();
            let shares = book.owned.len().max(1);
            let (records, bytes) =
                (options.max_buffered_records / shares, options.max_buffered_bytes / shares);
            for (&partition, owned) in &mut book.owned {
                owned.full = owned.gauge.is_full(owned.full, records, bytes);
                let stopped = self.links.desk.is_stopped(partition);
                let source = !(owned.held || owned.full || owned.source_waits || stopped);
                if source != owned.source_flows {
                    owned.source_flows = source;
                    let list = if source { &mut resume } else { &mut pause };
                    list.add_partition(&self.links.source, partition);
                }
                if let Some(retry) = &self.links.retry
                    && owned.held == owned.retry_flows
                {
                    owned.retry_flows = !owned.held;
                    let list = if owned.held { &mut pause } else { &mut resume };
                    list.add_partition(retry, partition);
                }
            }
        }
        if pause.count() > 0
            && let Err(error) = consumer.pause(&pause)
        {
            tracing::error!(%error, "partitions can't be paused");
        }
        if resume.count() > 0
            && let Err(error) = consumer.resume(&resume)
        {
            tracing::error!(%error, "partitions can't be resumed");
        }
    }

    fn tell(&self, event: Event) -> ControlFlow<End> {
        match self.links.events.blocking_send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(End::Closed),
        }
    }

    /// Commits what is pending and leaves the group. Whether it was committed is noted before the client goes, as
    /// its last rebalance forgets what it owned.
    fn leave(&self, consumer: BaseConsumer<Membership>) {
        consumer.context().commit_patiently(&consumer);
        self.links.desk.note_farewell();
        consumer.context().book().closing = true;
        drop(consumer);
    }
}

/// Records of one partition from one round.
struct Batch {
    side: Side,
    partition: i32,
    records: Vec<Record>,
}

/// Why the client isn't ready.
enum Prepare {
    /// It never will be.
    Refused(RunError),
    /// Kafka is away, or busy electing.
    Away(KafkaError),
}

impl From<KafkaError> for Prepare {
    fn from(error: KafkaError) -> Self {
        Self::Away(error)
    }
}
