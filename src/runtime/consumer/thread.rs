//! The loop of the poll thread: orders, one round of polling, what came goes to the engine, pauses, commits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::oneshot;

use super::batch::{Filling, RecordBatch};
use super::batch_queue::BatchQueue;
use super::commit_queue::CommitQueue;
use super::context::Membership;
use super::desk::Side;
use super::hold_back::hold_back;
use super::lost::Lost;
use super::{Assigned, Event, Links, positions};
use crate::runtime::error::RunError;
use crate::runtime::options::{KafkaOptions, StageSpec};

/// How long a round waits for the first record; also the longest that an order waits.
const POLL: Duration = Duration::from_millis(20);
/// Pauses between looks at memory that is full: the first, the longest.
const SHORTEST_IDLE: Duration = Duration::from_micros(500);
const LONGEST_IDLE: Duration = Duration::from_millis(8);
/// Pause between tries while Kafka is away.
pub(super) const AWAY: Duration = Duration::from_millis(200);
/// Pause before a broken client is made anew: the first, doubling up to the longest while new ones break soon.
const REBUILD_AFTER: Duration = Duration::from_millis(500);
const LONGEST_REBUILD: Duration = Duration::from_secs(60);
/// A client that was well for this long hasn't broken soon.
const WELL_FOR: Duration = Duration::from_secs(120);

/// Owns the consumer client of one member.
pub(super) struct Poller {
    pub(super) spec: StageSpec,
    pub(super) kafka: KafkaOptions,
    pub(super) links: Links,
}

/// Why a client is given up.
pub(super) enum End {
    /// The engine asked for it, or is gone.
    Closed,
    /// The client is fatally broken and is made anew.
    Rebuild(String),
}

/// What is remembered between rounds.
struct Round<'c> {
    queue: BatchQueue<'c>,
    filling: Filling,
    /// The next pause while memory is full.
    idle: Duration,
    next_commit: Instant,
    next_renewal: Instant,
    complained: Option<RDKafkaErrorCode>,
    /// Read positions that seem to have left the log.
    lost: Vec<Lost>,
}

impl Poller {
    pub(super) fn new(spec: StageSpec, kafka: KafkaOptions, links: Links) -> Self {
        Self { spec, kafka, links }
    }

    /// Runs until closed. `started` hears once whether the first start worked, with the cluster's id.
    pub(super) fn run(self, started: oneshot::Sender<Result<Arc<str>, RunError>>) -> Result<(), RunError> {
        let mut started = Some(started);
        let mut pause = REBUILD_AFTER;
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
            self.links.desk.note_outside(None);
            let began = Instant::now();
            let commits = CommitQueue::new(consumer.client(), &consumer.context().committing);
            let end = if commits.is_some() { self.poll(&consumer) } else { no_queue() };
            match end {
                End::Closed => {
                    self.take_leave(&consumer);
                    return Ok(());
                }
                End::Rebuild(why) => {
                    pause = if began.elapsed() >= WELL_FOR { REBUILD_AFTER } else { pause };
                    tracing::error!(stage = %self.spec.stage, why, ?pause,
                        "the member's kafka client is broken for good; making a new one");
                    self.links.metrics.member_rebuilds.with_label_values(&[&*self.links.stage]).inc();
                    self.links.desk.note_outside(Some(why.into()));
                    let owned: Vec<i32> = consumer.context().book().owned.keys().copied().collect();
                    consumer.context().drain(&owned, true);
                    self.take_leave(&consumer);
                    drop(commits);
                    drop(consumer);
                    // A client that is broken for good tells of no rebalance when it goes.
                    owned.iter().for_each(|&partition| self.links.desk.forget(partition));
                    if self.rest(pause).is_break() {
                        return Ok(());
                    }
                    pause = (pause * 2).min(LONGEST_REBUILD);
                }
            }
        }
    }

    /// Waits before the next client. Breaks when the engine asks for the end meanwhile, or is gone.
    fn rest(&self, pause: Duration) -> ControlFlow<()> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.links.desk.is_closing() || self.links.events.is_closed() {
                return ControlFlow::Break(());
            }
            self.links.tick();
            std::thread::sleep(AWAY.min(pause));
        }
        ControlFlow::Continue(())
    }

    fn poll(&self, consumer: &BaseConsumer<Membership>) -> End {
        let context = consumer.context();
        let Some(queue) = BatchQueue::new(consumer.client(), &context.forwarding) else {
            return no_queue();
        };
        let now = Instant::now();
        let mut round = Round {
            queue,
            filling: Filling::new(Arc::clone(&self.links.source), self.links.retry.clone()),
            idle: SHORTEST_IDLE,
            next_commit: now + self.spec.options.commit_interval,
            next_renewal: now + self.spec.options.recommit_interval,
            complained: None,
            lost: Vec::new(),
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

    fn round(&self, consumer: &BaseConsumer<Membership>, round: &mut Round<'_>) -> ControlFlow<End> {
        let now = Instant::now();
        if hold_back(&self.links, &self.spec.options, consumer, now) {
            std::thread::sleep(round.idle);
            round.idle = (round.idle * 2).min(LONGEST_IDLE);
        } else {
            round.idle = SHORTEST_IDLE;
            self.read(consumer, round)?;
        }
        self.serve(consumer, round)?;
        self.introduce(consumer)?;
        self.name_lost_positions(consumer, &mut round.lost)?;
        self.begin(consumer);
        self.rewind(consumer);
        self.ask_ends(consumer);
        #[cfg(test)]
        self.hush(consumer);
        if now >= round.next_renewal {
            self.links.desk.renew_retry();
            round.next_renewal = now + self.spec.options.recommit_interval;
        }
        self.commit(consumer, round, now);
        ControlFlow::Continue(())
    }

    /// Hears how the last commit went, and sends the next when it is time. A hurry that comes while one is under way waits for
    /// its answer, not for the interval.
    fn commit(&self, consumer: &BaseConsumer<Membership>, round: &mut Round<'_>, now: Instant) {
        let context = consumer.context();
        context.hear_answer(Duration::ZERO);
        if !context.is_committing() && (self.links.desk.take_hurry() || now >= round.next_commit) {
            context.commit(consumer);
            round.next_commit = now + self.spec.options.commit_interval;
        }
    }

    /// Reads what is there and hands it on. No rebalance comes between the two: those are served elsewhere.
    fn read(&self, consumer: &BaseConsumer<Membership>, round: &mut Round<'_>) -> ControlFlow<End> {
        let (filling, lost, mut failed) = (&mut round.filling, &mut round.lost, Vec::new());
        let count = round.queue.read(POLL, |fetched| match fetched.error() {
            None => filling.push(&fetched),
            Some(error) => {
                // Without an offset nothing was committed at all, and that is named when positions are looked up.
                let is_reset = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset);
                let generation = consumer.context().book().generation(fetched.partition());
                if let Some(generation) = generation.filter(|_| is_reset && fetched.offset() >= 0) {
                    let (topic, partition, offset) =
                        (fetched.topic().into(), fetched.partition(), fetched.offset());
                    lost.push(Lost { topic, partition, generation, offset });
                }
                failed.push(error);
            }
        });
        if count > failed.len() {
            round.complained = None;
        }
        for (side, batch) in round.filling.take() {
            self.pass_on(consumer, side, batch)?;
        }
        failed.into_iter().try_for_each(|error| self.failed(error, round))
    }

    /// Lets the client do what it does while it is polled: rebalances, and telling its errors.
    fn serve(&self, consumer: &BaseConsumer<Membership>, round: &mut Round<'_>) -> ControlFlow<End> {
        while let Some(polled) = consumer.poll(Duration::ZERO) {
            match polled {
                // Everything assigned is forwarded. If it were not, order between two queues would be lost.
                Ok(_) => return ControlFlow::Break(End::Rebuild("a record came past its queue".to_owned())),
                Err(error) => self.failed(error, round)?,
            }
        }
        ControlFlow::Continue(())
    }

    fn failed(&self, error: KafkaError, round: &mut Round<'_>) -> ControlFlow<End> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return ControlFlow::Break(End::Rebuild(error.to_string()));
        }
        self.complain(&error, round);
        ControlFlow::Continue(())
    }

    /// Told once until something flows again.
    fn complain(&self, error: &KafkaError, round: &mut Round<'_>) {
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
                    Event::Faulted { partition, generation: owned.generation, fault }
                }
            };
            self.tell(event)?;
        }
        ControlFlow::Continue(())
    }

    fn pass_on(
        &self,
        consumer: &BaseConsumer<Membership>,
        side: Side,
        records: RecordBatch,
    ) -> ControlFlow<End> {
        let partition = records.partition();
        let generation = {
            let book = consumer.context().book();
            let Some(owned) = book.owned.get(&partition) else {
                // Not ours any more: the next owner reads them again.
                return ControlFlow::Continue(());
            };
            if side == Side::Source {
                owned.gauge.take(records.len(), records.bytes());
            }
            owned.generation
        };
        self.tell(Event::Records { side, partition, generation, records })
    }

    /// Lets partitions flow that the engine has started.
    fn begin(&self, consumer: &BaseConsumer<Membership>) {
        for start in self.links.desk.take_starts() {
            if consumer.context().book().generation(start.partition) != Some(start.generation) {
                continue;
            }
            // Again: a partition that was let go and taken up at once loses its forwarding when its former stop is
            // carried out, which may be after it was assigned. Nothing of it flows yet.
            consumer.context().forward(consumer, &[start.partition]);
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

    pub(super) fn tell(&self, event: Event) -> ControlFlow<End> {
        match self.links.events.blocking_send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(End::Closed),
        }
    }

    /// Commits what is pending, for the last time: its client leaves the group as it goes. Whether it was committed is noted
    /// before, as its last rebalance forgets what it owned.
    fn take_leave(&self, consumer: &BaseConsumer<Membership>) {
        consumer.context().commit_patiently(consumer);
        self.links.desk.note_farewell();
        consumer.context().book().closing = true;
    }
}

fn no_queue() -> End {
    End::Rebuild("librdkafka gave no queue".to_owned())
}
