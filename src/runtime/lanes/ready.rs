//! Lanes that could start, and the slots that they compete for. Pure.
//!
//! Queues stand by class (fresh or retry), priority and target: a target without room is stepped over without
//! looking at its lanes, and targets of one priority take turns. The best priority goes first, but every
//! [`FAIR_EVERY`]th start is the turn of the priority that was passed over the longest, or of the lowest. Within a queue lanes go as
//! they came, but those with a parked first task by its place in the retry topic: what has to be read back is read
//! in the order of the log. A target that is to be left alone until some time rests until then, and costs nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::found::Found;
use super::line::{Line, Ticket};
use super::task::{LaneNo, Standing, Task};

/// Every so many starts one goes by turns to the priority that was passed over the longest and to the lowest: however many
/// priorities there are, the lowest gets one start of sixteen, which is more than 5 %.
const FAIR_EVERY: u64 = 8;

/// Attempts that may wait to be on record, for each that may run: an acknowledgement takes several times as long as a good
/// receiver's answer.
pub(super) const OWED_PER_SLOT: usize = 4;

/// Which share of the slots a start counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Its first attempt, straight from the source.
    Fresh,
    /// A later attempt, or back from the retry topic.
    Retry,
}

/// Whether a target may start one more task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may while fewer than so many run; at least one.
    AtOnce(usize),
    /// It is one of those that share a few slots, of which one is free or none. Whoever waits longest goes first.
    OneOfFew {
        /// Whether one is free.
        is_free: bool,
    },
    /// Not before this time, in epoch milliseconds, which is yet to come.
    NotBefore(i64),
}

type Level = (Class, u16);

#[derive(Debug, Default)]
struct Target {
    running: usize,
    /// By level: lanes, each behind the number that says when it is served.
    lanes: BTreeMap<Level, BTreeSet<(i64, LaneNo)>>,
    /// Levels in whose turn list it stands.
    listed: BTreeSet<Level>,
    /// Tasks that wait for it, by partition.
    waiting: HashMap<i32, usize>,
    /// Its place among those that wait for one of a few slots.
    ticket: Option<Ticket>,
}

impl Target {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.lanes.is_empty() && self.listed.is_empty() && self.waiting.is_empty()
    }
}

#[derive(Debug, Default)]
struct Turns {
    targets: VecDeque<Arc<str>>,
    /// The start at which this level was last served, or first stood here.
    served: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    targets: Found<Target>,
    levels: BTreeMap<Level, Turns>,
    /// Targets that stand in turn lists, over all levels.
    listed: usize,
    /// Targets that aren't listed, by when they are again.
    resting: BTreeSet<(i64, Arc<str>)>,
    /// Targets that aren't listed, until one of the slots that they share is free.
    line: Line,
    running: usize,
    running_retries: usize,
    /// Tasks whose attempts wait to be on record: at most [`OWED_PER_SLOT`] for each that may run, and those that run when that
    /// is reached.
    owing: usize,
    starts: u64,
    arrivals: i64,
}

impl Ready {
    /// Adds a lane whose first task is `first`, for `target`.
    pub(super) fn push(&mut self, lane: LaneNo, first: &Task, target: &Arc<str>, priority: u16) {
        let level = (first.class(), priority);
        // What failed in place a moment ago comes before what is read back: negative numbers.
        self.arrivals += 1;
        let turn = first.place().unwrap_or(i64::MIN + self.arrivals);
        let known = self.targets.get_or_make(target);
        known.lanes.entry(level).or_default().insert((turn, lane));
        self.list(target, level);
    }

    /// The next lane to start and the class under which it stood, if slots allow.
    pub(super) fn pop(&mut self, concurrency: usize, room: &dyn Fn(&str) -> Room) -> Option<(LaneNo, Class)> {
        if self.slots(concurrency) == 0 {
            return None;
        }
        loop {
            let level = self.choose(concurrency)?;
            let name = self.levels.get_mut(&level)?.targets.pop_front()?;
            self.listed -= 1;
            let lane = self.take_turn(&name, level, room);
            if self.targets.get(&name).is_some_and(Target::is_idle) {
                self.remove(&name);
            }
            if let Some(lane) = lane {
                self.starts += 1;
                if let Some(turns) = self.levels.get_mut(&level) {
                    turns.served = self.starts;
                }
                return Some((lane, level.0));
            }
        }
    }

    /// A lane of `name`, unless it has no room: then it is listed again when one of its tasks ends, its time has come, or it is
    /// called from the line.
    fn take_turn(&mut self, name: &Arc<str>, level: Level, room: &dyn Fn(&str) -> Room) -> Option<LaneNo> {
        let target = self.targets.get_mut(name)?;
        target.listed.remove(&level);
        let ticket = target.ticket.take();
        let is_first = self.line.is_empty() || ticket.is_some_and(Ticket::is_called);
        match room(name) {
            Room::OneOfFew { is_free } if !(is_free && is_first) => {
                target.ticket = Some(self.line.stand(name, ticket));
                return None;
            }
            Room::OneOfFew { .. } => self.line.leave(ticket),
            Room::AtOnce(most) => {
                self.line.leave(ticket);
                if target.running >= most.max(1) {
                    return None;
                }
            }
            Room::NotBefore(at_ms) => {
                self.line.leave(ticket);
                self.resting.insert((at_ms, Arc::clone(name)));
                return None;
            }
        }
        let lanes = target.lanes.get_mut(&level)?;
        let lane = lanes.pop_first().map(|(_, lane)| lane);
        if lanes.is_empty() {
            target.lanes.remove(&level);
        } else {
            self.list(name, level);
        }
        lane
    }

    /// Lists those again that wait longest for one of the slots that they share, of which so many are free.
    pub(super) fn call(&mut self, free: usize) {
        while let Some((name, ticket)) = self.line.call(free) {
            match self.targets.get_mut(&name) {
                Some(target) if !target.lanes.is_empty() => {
                    target.ticket = Some(ticket);
                    self.list_all(&name);
                }
                Some(target) => {
                    target.ticket = None;
                    self.line.leave(Some(ticket));
                }
                None => self.line.leave(Some(ticket)),
            }
        }
    }

    /// True when somebody waits for a slot that is shared.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    fn remove(&mut self, name: &str) {
        let ticket = self.targets.get_mut(name).and_then(|target| target.ticket.take());
        self.line.leave(ticket);
        self.targets.remove(name);
    }

    /// How many slots are free, if nothing that could start waits for one.
    pub(super) fn free_slots(&self, concurrency: usize) -> usize {
        if self.listed > 0 { 0 } else { self.slots(concurrency) }
    }

    /// How many tasks may be started beside those that run and owe.
    fn slots(&self, concurrency: usize) -> usize {
        let most = concurrency.max(1);
        let may_owe = most.saturating_mul(OWED_PER_SLOT).saturating_sub(self.owing);
        most.saturating_sub(self.running).min(may_owe)
    }

    /// True when `target` may run one more.
    pub(super) fn has_room(&self, target: &str, room: &dyn Fn(&str) -> Room) -> bool {
        match room(target) {
            Room::AtOnce(most) => self.targets.get(target).is_none_or(|known| known.running < most.max(1)),
            Room::OneOfFew { is_free } => is_free,
            Room::NotBefore(_) => false,
        }
    }

    /// Lists the targets again that have rested until `now_ms`.
    pub(super) fn wake(&mut self, now_ms: i64) {
        while self.resting.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            if let Some((_, target)) = self.resting.pop_first() {
                self.list_all(&target);
            }
        }
    }

    /// Lists those again that needn't rest any longer: what they were waiting for was taken back.
    pub(super) fn wake_early(&mut self, may: &dyn Fn(&str) -> bool) {
        let awake = |(_, target): &&(i64, Arc<str>)| may(target);
        for entry in self.resting.iter().filter(awake).cloned().collect::<Vec<_>>() {
            self.resting.remove(&entry);
            self.list_all(&entry.1);
        }
    }

    /// The targets that rest, or stand in the line.
    pub(super) fn resting(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resting.iter().map(|(_, target)| target).chain(self.line.names())
    }

    /// When the first of the resting targets is listed again.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        self.resting.first().map(|(at_ms, _)| *at_ms)
    }

    /// Tasks that wait for `target` on `partition`.
    pub(super) fn waiting(&self, partition: i32, target: &str) -> usize {
        self.targets.get(target).and_then(|known| known.waiting.get(&partition)).copied().unwrap_or(0)
    }

    /// The targets for which tasks wait on `partition`, and how many: those with the most first.
    pub(super) fn busiest(&self, partition: i32) -> Vec<(usize, &Arc<str>)> {
        let waiting = self.targets.iter().filter_map(|(name, known)| {
            let count = known.waiting.get(&partition).copied()?;
            Some((count, name))
        });
        let mut busiest: Vec<(usize, &Arc<str>)> = waiting.collect();
        busiest.sort_unstable_by(|one, other| other.cmp(one));
        busiest
    }

    /// Follows a task of `target` from one standing to another.
    pub(super) fn shift(&mut self, partition: i32, name: &Arc<str>, before: Standing, after: Standing) {
        if (before.waits, before.runs, before.owes) == (after.waits, after.runs, after.owes) {
            return;
        }
        if before.owes != after.owes {
            self.owing = if after.owes { self.owing + 1 } else { self.owing - 1 };
        }
        let target = self.targets.get_or_make(name);
        if before.waits != after.waits {
            let waiting = target.waiting.entry(partition).or_default();
            if after.waits {
                *waiting += 1;
            } else {
                *waiting -= 1;
            }
            if *waiting == 0 {
                target.waiting.remove(&partition);
            }
        }
        if let (None, Some(class)) = (before.runs, after.runs) {
            target.running += 1;
            self.running += 1;
            self.running_retries += usize::from(class == Class::Retry);
        }
        if let (Some(class), None) = (before.runs, after.runs) {
            target.running -= 1;
            self.running -= 1;
            self.running_retries -= usize::from(class == Class::Retry);
        }
        let ended = before.runs.is_some() && after.runs.is_none();
        if target.is_idle() {
            self.remove(name);
        } else if ended && !target.lanes.is_empty() {
            self.list_all(name);
        }
    }

    /// Which level is served next: the best one, or now and then the one that waited longest. Retries take at
    /// most half the slots while fresh work is ready.
    fn choose(&self, concurrency: usize) -> Option<Level> {
        let fresh_waits =
            self.levels.iter().any(|((class, _), turns)| *class == Class::Fresh && !turns.targets.is_empty());
        let retries_full = fresh_waits && self.running_retries >= (concurrency / 2).max(1);
        let may_go = |class: Class| !(retries_full && class == Class::Retry);
        let open =
            self.levels.iter().filter(|((class, _), turns)| may_go(*class) && !turns.targets.is_empty());
        let start = self.starts + 1;
        if start.is_multiple_of(2 * FAIR_EVERY) {
            return open.max_by_key(|((_, priority), _)| *priority).map(|(level, _)| *level);
        }
        if start.is_multiple_of(FAIR_EVERY) {
            return open.min_by_key(|(level, turns)| (turns.served, level.1)).map(|(level, _)| *level);
        }
        // Among equals the older work goes first.
        open.map(|(level, _)| *level).min_by_key(|(class, priority)| (*priority, *class == Class::Fresh))
    }

    /// Lists a target at every level where lanes of it wait.
    fn list_all(&mut self, target: &Arc<str>) {
        let unlisted = |known: &Target| {
            let mut levels = known.lanes.keys();
            levels.find(|level| !known.listed.contains(level)).copied()
        };
        while let Some(level) = self.targets.get(target).and_then(unlisted) {
            self.list(target, level);
        }
    }

    fn list(&mut self, target: &Arc<str>, level: Level) {
        let Some(known) = self.targets.get_mut(target) else { return };
        if known.listed.insert(level) {
            let starts = self.starts;
            let turns =
                self.levels.entry(level).or_insert_with(|| Turns { served: starts, ..Turns::default() });
            turns.targets.push_back(Arc::clone(target));
            self.listed += 1;
        }
    }
}

#[cfg(test)]
impl Ready {
    /// True when nothing is remembered that belongs to a target.
    pub(super) fn is_empty(&self) -> bool {
        let idle = self.targets.iter().all(|(_, target)| target.is_idle());
        self.running + self.running_retries + self.owing + self.listed == 0 && idle && self.line.is_idle()
    }
}
