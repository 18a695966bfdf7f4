//! Catches cursors up: the log is read again in chunks, and what concerns a detached target goes into its lanes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Parts, Payload};
use super::engine::Engine;
use super::intake;
use super::load::{Limits, Load};
use super::log_reader::LogReader;
use super::own_cursors::OwnCursors;
use super::past::{self, Stretch};
use super::report::What;
use crate::clock::Clock;
use crate::runtime::backoff::Backoff;
use crate::runtime::duplicates::Seen;
use crate::runtime::lanes::{Admitted, Identity, TaskNo};
use crate::runtime::outcome::Failure;
use crate::runtime::stage::{EffectStage, Tasks};

/// A part of the memory for records: for those of targets that are caught up, and again for those of targets that are away.
const BYTES_PART: usize = 8;
/// Looking at all cursors may take one part in so many of the engine's time.
pub(super) const LOOKING_SHARE: u32 = 10;
/// But they are looked at as often as this: what is caught up goes on however many others are away.
pub(super) const LOOKED_WITHIN: Duration = Duration::from_secs(1);

/// A chunk that was read again, opened.
#[derive(Debug)]
pub(super) struct Reread<I> {
    from: i64,
    /// The offset behind what was read and opened.
    next: i64,
    /// Records of it that are nowhere any more.
    gap: Option<(i64, i64)>,
    opened: Vec<Brought<I>>,
    /// The tasks that they opened.
    tasks: Tasks,
    /// Something that reading on needs is away.
    away: Option<Failure>,
}

/// A record that was read again and opened tasks.
#[derive(Debug)]
struct Brought<I> {
    payload: Parts<I>,
    offset: i64,
    opened: Range<usize>,
    seen: Option<Seen>,
}

/// Opens what was read again. A record that opens nothing, or that the live stream dead-letters, concerns no cursor.
async fn open_again<S: EffectStage>(
    stage: &S,
    clock: &Clock,
    from: i64,
    stretch: Stretch,
) -> Reread<S::Input> {
    let Stretch { records, next, gap } = stretch;
    let mut reread = Reread { from, next, gap, opened: Vec::new(), tasks: Tasks::default(), away: None };
    for record in records {
        match intake::open(stage, clock, &record, &mut reread.tasks).await {
            Ok(intake::What::Tasks(input, opened, seen)) => {
                let offset = record.offset;
                let payload =
                    Parts { record: Some(Arc::new(record)), input: Some(Arc::new(input)), lane: None };
                reread.opened.push(Brought { payload, offset, opened, seen });
            }
            Ok(intake::What::Known(_) | intake::What::Skipped(_) | intake::What::Dead(_)) => {}
            Err(why) => {
                (reread.next, reread.away) = (record.offset, Some(why));
                break;
            }
        }
    }
    reread
}

impl<S: EffectStage> Engine<S> {
    /// Does what cursors need: store, read, hand back. While nothing `starts`, what runs may end, and that is stored.
    pub(super) fn pump_cursors(&mut self, now_ms: i64, starts: bool) {
        if self.spec.cursors.is_none() || self.looking.wait().is_some() {
            return;
        }
        let began = Instant::now();
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        for partition in numbers {
            let is_open = self.partitions.get(&partition).is_some_and(|owned| {
                !owned.closed && owned.cursors.as_deref().is_some_and(|own| own.is_open)
            });
            if is_open && !starts {
                self.store_cursors(partition, now_ms, false);
            } else if is_open {
                self.make_way(partition);
                self.attach(partition);
                self.store_cursors(partition, now_ms, false);
                self.read_on(partition, now_ms);
                self.ask_for_wishes(partition, now_ms);
            }
        }
        self.looking.done(began);
    }

    /// What cursors of a partition may bring into memory.
    fn limits(&self, partition: i32) -> Limits {
        let share = self.share();
        let behind = self.own_cursors(partition).map_or(0, |own| own.being_caught_up()).max(1);
        Limits { room: (share / behind).min(share / 2).max(1), most: self.most() }
    }

    /// What all targets of a partition that are caught up may have in memory; and again, all that are away.
    fn most(&self) -> Load {
        let bytes = self.spec.options.max_buffered_bytes / self.partitions.len().max(1) / BYTES_PART;
        Load { tasks: self.share(), bytes }
    }

    /// What of that may be in memory of targets that are away while nobody would try it.
    pub(super) fn kept(&self) -> Load {
        self.most().half()
    }

    /// Whether a task of a target may be tried now.
    pub(super) fn due(&self, now_ms: i64) -> impl Fn(&str) -> bool + use<S> {
        let stage = Arc::clone(&self.hands.stage);
        move |target| stage.not_before(target, now_ms).is_none_or(|at_ms| at_ms <= now_ms)
    }

    /// Targets that can't be reached keep what they are probed with, as far as there is room. Beyond that, those that aren't
    /// probed yet give it back.
    pub(super) fn shed_probes(&mut self, partition: i32) {
        let (kept, now) = (self.kept(), self.env.clock.now_ms());
        let tasks = self
            .own_cursors(partition)
            .filter(|own| !own.loads.of_away().is_within(kept))
            .map(OwnCursors::tasks_of_away);
        let is_due = self.due(now);
        for no in tasks.unwrap_or_default() {
            if self.lanes.known(no).is_some_and(|known| !is_due(known.target)) {
                self.shed_probe(partition, no);
            }
        }
    }

    /// Gives back what a target is probed with, where there is no room to keep it: it is read again when the next probe is
    /// due, and not before.
    pub(super) fn shed_probe(&mut self, partition: i32, no: TaskNo) {
        let kept = self.kept();
        let Some(known) = self.lanes.known(no) else { return };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        let is_untried = self.lanes.open_task(no).is_some_and(|task| task.idle && task.attempt == 0);
        let Some(own) = self.cursors_of(partition).filter(|_| is_untried) else { return };
        if !own.has(no) || !own.loads.is_away(&target) || own.loads.of_away().is_within(kept) {
            return;
        }
        own.loads.note_given_back(&target);
        own.table.take_back(&target, offset);
        self.update_gate(partition, &target);
        self.give_back(partition, no);
    }

    fn attach(&mut self, partition: i32) {
        let room = self.limits(partition).room;
        // Its live tasks wait behind the rest, and both together leave it well within its share.
        let near = i64::try_from(room / 2).unwrap_or(i64::MAX);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let admitted = owned.next_admitted();
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        let ready = own.to_be_attached(admitted, near, room);
        for target in own.table.attach(admitted, near, &ready) {
            tracing::info!(stage = %self.name, partition, %target, until = admitted,
                "a target caught up: the live stream serves it again");
            self.update_gate(partition, &target);
        }
    }

    fn read_on(&mut self, partition: i32, now_ms: i64) {
        let (limits, is_due) = (self.limits(partition), self.due(now_ms));
        let remembers = self.remembers();
        let Some(store) = self.spec.cursors.clone() else { return };
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let admitted = owned.next_admitted();
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        if own.reading || now_ms < own.read_at_ms {
            return;
        }
        own.plan_surveys(remembers);
        let surveys = own.surveys.iter().any(|survey| survey.wants().is_some());
        let readable = own.to_be_read(admitted, &limits, now_ms, is_due);
        let from = own.table.read_from(&readable);
        if surveys && (from.is_none() || own.surveys_next) {
            own.surveys_next = false;
            return self.survey_on(partition);
        }
        own.surveys_next = true;
        let Some(from) = from else {
            if own.table.count() == (0, 0) {
                own.reader = None;
            }
            return;
        };
        let (to, at) = (own.table.read_to(from, admitted), Arc::clone(&own.at));
        let Some(reader) = self.reader_of(partition) else { return };
        let (stage, clock) = (Arc::clone(&self.hands.stage), self.env.clock.clone());
        if let Some(own) = self.cursors_of(partition) {
            own.reading = true;
        }
        self.spawn(partition, async move {
            let stretch = match past::read(&reader, &*store, &at, (from, to)).await {
                Ok(stretch) => stretch,
                Err(why) => return What::Reread(Box::new(Err(why))),
            };
            What::Reread(Box::new(Ok(Box::pin(open_again(&*stage, &clock, from, stretch)).await)))
        });
    }

    /// How many events are recognised when they were written twice.
    fn remembers(&self) -> usize {
        self.hands.stage.identity().map_or(0, |_| self.spec.options.duplicates_window)
    }

    /// The reader of a partition; without one it is tried again later.
    pub(super) fn reader_of(&mut self, partition: i32) -> Option<LogReader> {
        if let Some(reader) = self.cursors_of(partition)?.reader.clone() {
            return Some(reader);
        }
        match LogReader::start(&self.env.kafka, &self.spec.source, partition) {
            Ok(reader) => {
                self.cursors_of(partition)?.reader = Some(reader.clone());
                Some(reader)
            }
            Err(why) => {
                self.wait_to_read(partition, &why);
                None
            }
        }
    }

    pub(super) fn wait_to_read(&mut self, partition: i32, why: &Failure) {
        let now = self.env.clock.now_ms();
        let Some(own) = self.cursors_of(partition) else { return };
        if !own.read_backoff.is_waiting() {
            tracing::warn!(partition, %why, "cursors can't be read on; trying until it works");
        }
        own.read_at_ms = now + own.read_backoff.next_pause().as_millis() as i64;
    }

    pub(super) fn on_reread(&mut self, partition: i32, reread: Result<Reread<S::Input>, Failure>) {
        let (limits, now) = (self.limits(partition), self.env.clock.now_ms());
        let is_due = self.due(now);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let (closed, admitted) = (owned.closed, owned.next_admitted());
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        own.reading = false;
        let Reread { from, next, gap, opened, tasks, away } = match reread {
            Ok(reread) => reread,
            Err(why) => return self.wait_to_read(partition, &why),
        };
        if closed {
            return;
        }
        if let Some((from, to)) = gap {
            for gap in own.table.lose(from, to) {
                tracing::error!(stage = %self.name, partition, target = %gap.target, from = gap.from, to = gap.to,
                    "records left the log before a target got them; the gap is recorded");
            }
        }
        let mut readers = own.table.readers(from, next, admitted);
        readers.retain(|target| own.is_surveyed(target));
        let mut stopped: BTreeSet<Arc<str>> = BTreeSet::new();
        for Brought { payload, offset, opened, seen } in opened {
            let Some(owned) = self.partitions.get_mut(&partition) else { return };
            let Some(own) = owned.cursors.as_deref_mut() else { return };
            let is_repeat = own.is_repeat(offset, seen, (&owned.duplicates, admitted));
            let concerned: BTreeSet<Arc<str>> = opened
                .clone()
                .filter_map(|at| tasks.get(at))
                .map(|spec| Arc::clone(spec.target))
                .filter(|target| readers.contains(target) && !stopped.contains(target))
                .filter(|target| !is_repeat || own.is_surveys_to_tell(target, offset))
                .collect();
            for target in concerned {
                let Some(own) = self.cursors_of(partition) else { return };
                if !own.table.wants(&target, from, offset, admitted) {
                    continue;
                }
                let lanes = opened.clone().filter_map(|at| tasks.get(at));
                let lanes = lanes.filter(|spec| *spec.target == target).map(|spec| spec.lane);
                let brings = match own.is_newest(&target, offset, lanes) {
                    Some(false) => continue,
                    newest => newest.is_some() && own.keeps_pace(&target, offset, now),
                };
                let has_room = own.has_room(&target, &limits, &is_due);
                if !brings || !has_room {
                    own.table.reach(&target, from, offset, admitted);
                    if !has_room {
                        own.full.insert(Arc::clone(&target));
                    }
                    stopped.insert(target);
                    continue;
                }
                own.full.remove(&target);
                if own.table.dispatch(&target, offset) {
                    own.was_brought(&target, offset, now);
                    self.bring(partition, &target, &payload, opened.clone(), &tasks);
                }
            }
        }
        for target in readers {
            if let Some(own) = self.cursors_of(partition)
                && !stopped.contains(&target)
            {
                own.table.reach(&target, from, next, admitted);
            }
            self.update_gate(partition, &target);
        }
        match away {
            Some(why) => self.wait_to_read(partition, &why),
            None => {
                if let Some(own) = self.cursors_of(partition) {
                    own.read_backoff = Backoff::default();
                }
            }
        }
    }

    /// Puts the tasks of `target` into their lanes, behind its gate.
    fn bring(
        &mut self,
        partition: i32,
        target: &Arc<str>,
        payload: &Parts<S::Input>,
        opened: Range<usize>,
        tasks: &Tasks,
    ) {
        let Some(record) = payload.record.clone() else { return };
        let (now, mut to_park) = (self.env.clock.now_ms(), Vec::new());
        for spec in opened.filter_map(|at| tasks.get(at)).filter(|spec| spec.target == target) {
            let identity = Identity {
                partition,
                lane: spec.lane,
                target: target.into(),
                offset: record.offset,
                priority: spec.priority,
            };
            let no = match self.lanes.fresh(identity, usize::MAX, now) {
                Admitted::AlreadyParked => continue,
                Admitted::Queued(no) => no,
                Admitted::Park(no) => {
                    to_park.push(no);
                    no
                }
            };
            self.payloads.insert(no, Payload::Parts(payload.clone()));
            self.balance.opened += 1;
            self.count("opened", 1);
            if let Some(own) = self.cursors_of(partition) {
                own.adopt(no, target, record.offset, record.bytes());
            }
        }
        if let Some(own) = self.cursors_of(partition) {
            own.was_read(target, record.offset);
        }
        for no in to_park {
            self.put_parked(no, now, None);
        }
    }
}
