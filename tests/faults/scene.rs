//! A run's stage: broker, members, the outside, the proxies between them, traffic, and what happened in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orderflow::runtime::StageSpec;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::checks::Window;
use crate::harness::kafka::TestKafka;
use crate::member::{Member, Orders, Status};
use crate::outside::{Outside, PARTITIONS, task_name};
use crate::plan::StoreKind;
use crate::proxy::Proxy;
use crate::store_part::StorePart;
use crate::traffic::Traffic;

/// Everything that a run needs, and everything that is known of it afterwards.
pub(crate) struct Scene<'a> {
    pub(crate) seed: u64,
    pub(crate) broker: &'a mut Broker,
    pub(crate) kafka: TestKafka,
    pub(crate) spec: StageSpec,
    pub(crate) outside: Outside,
    /// Between members and the outside.
    pub(crate) receiver: Proxy,
    pub(crate) store: StorePart,
    pub(crate) members: Vec<Member>,
    pub(crate) session: Duration,
    /// Whether members have names that outlive their connections (`group.instance.id`).
    pub(crate) is_static: bool,
    /// Tasks that a member runs at once.
    pub(crate) concurrency: usize,
    /// How long a member waits for an answer of the outside: longer than for anything that is merely slow.
    pub(crate) patience: Duration,
    /// Whether commits carry the map of completed runs.
    pub(crate) with_map: bool,
    pub(crate) windows: Vec<Window>,
    /// Fault, and how many milliseconds later every partition had gone on.
    pub(crate) resumed: Vec<(String, u64)>,
    pub(crate) problems: Vec<String>,
    pub(crate) timeline: Vec<String>,
    pub(crate) folder: TempDir,
    traffic: Option<Traffic>,
    next_member: u32,
}

impl<'a> Scene<'a> {
    /// Topics, a database and an outside world; nobody is there yet and nothing is sent.
    pub(crate) async fn open(broker: &'a mut Broker, seed: u64, kind: StoreKind, session: Duration) -> Self {
        let kafka = TestKafka::at("faults", broker.direct.clone());
        let spec = kafka.stage("courier", PARTITIONS.cast_signed(), true).await;
        let store = StorePart::new(kind, &kafka).await;
        let outside = Outside::start(seed).await;
        let receiver = Proxy::before(&outside.address.to_string()).await;
        Self {
            seed,
            broker,
            kafka,
            spec,
            outside,
            receiver,
            store,
            members: Vec::new(),
            session,
            is_static: false,
            concurrency: 100,
            patience: Duration::from_secs(4),
            with_map: true,
            windows: Vec::new(),
            resumed: Vec::new(),
            problems: Vec::new(),
            timeline: Vec::new(),
            folder: tempfile::tempdir().expect("a folder"),
            traffic: None,
            next_member: 0,
        }
    }

    /// Notes what happens, with the time.
    pub(crate) fn tell(&mut self, what: impl AsRef<str>) {
        self.timeline.push(format!("{:>6} ms  {}", self.outside.now_ms(), what.as_ref()));
    }

    /// Notes what should not have happened.
    pub(crate) fn complain(&mut self, what: String) {
        self.tell(format!("FAULT FOUND: {what}"));
        self.problems.push(what);
    }

    /// Starts another member, or the first one again.
    pub(crate) fn join(&mut self, takes_the_first_ones_place: bool) {
        let id = self.next_member;
        self.next_member += 1;
        let orders = Orders {
            member: id,
            servers: self.broker.proxy_of(id).address.to_string(),
            session_timeout_ms: u64::try_from(self.session.as_millis()).expect("short"),
            instance: self.is_static.then(|| format!("member-{id}")),
            concurrency: self.concurrency,
            patience_ms: u64::try_from(self.patience.as_millis()).expect("short"),
            completed_runs_map: self.with_map,
            outside: self.receiver.address.to_string(),
            group: self.spec.group.clone(),
            source: self.spec.source.clone(),
            retry: self.spec.retry.clone().expect("set"),
            dead_letters: self.spec.dead_letters.clone(),
            store: self.store.orders(id == 0 || takes_the_first_ones_place),
        };
        let member = Member::start(&orders, self.folder.path());
        if takes_the_first_ones_place {
            self.members.insert(0, member);
        } else {
            self.members.push(member);
        }
        self.tell(format!("member {id} starts"));
    }

    pub(crate) fn start_traffic(&mut self) {
        let publisher = Some(self.store.publisher.clone());
        let producer = self.kafka.producer.clone();
        self.traffic = Some(Traffic::start(self.seed, &self.spec.source, producer, publisher));
    }

    /// Waits until every partition went on after `since_ms`, and notes how long that took from then.
    pub(crate) async fn resumes(&mut self, after: &str, since_ms: u64, within: Duration) {
        self.resumes_without(None, after, since_ms, within).await;
    }

    /// The same, not counting what this member began before then: what it had sent before it was killed or frozen may
    /// still arrive.
    pub(crate) async fn resumes_without(
        &mut self,
        without: Option<(u32, u64)>,
        after: &str,
        since_ms: u64,
        within: Duration,
    ) {
        let patience = within + Duration::from_secs(10);
        let deadline = Instant::now() + patience;
        let took = loop {
            if let Some(took) = self.outside.resumed_after(since_ms, without) {
                break Some(took);
            }
            if Instant::now() > deadline {
                break None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let Some(took) = took else {
            self.complain(format!("no progress on every partition {patience:?} after {after}"));
            return;
        };
        self.tell(format!("every partition went on {took} ms after {after}"));
        if u128::from(took) > within.as_millis() {
            self.complain(format!("progress resumed {took} ms after {after}, not within {within:?}"));
        }
        self.resumed.push((after.to_owned(), took));
    }

    /// Stops the traffic; gives how many records of each lane were sent.
    pub(crate) async fn stop_traffic(&mut self) -> BTreeMap<u32, u32> {
        self.traffic.take().expect("it was started").stop().await
    }

    /// Stops the traffic and waits until everything that was sent is done; gives how many of each lane there were.
    pub(crate) async fn settle(&mut self, within: Duration) -> BTreeMap<u32, u32> {
        let sent = self.stop_traffic().await;
        let total: usize = sent.values().map(|count| *count as usize).sum();
        self.tell(format!("no more traffic: {total} records were sent, {} ended", self.outside.ended()));
        let deadline = Instant::now() + within;
        let mut rows = (usize::MAX, 0);
        while Instant::now() < deadline {
            self.look_after_members();
            if self.outside.ended() >= total && self.is_caught_up() {
                rows = self.store.differences().await;
                if rows.0 == 0 {
                    self.tell("everything ended and everything is kept");
                    return sent;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let states: Vec<Status> = self.members.iter().map(|member| member.status.borrow().clone()).collect();
        let ended = self.outside.ended();
        self.complain(format!("not settled: {ended} of {total} ended, rows {rows:?}, members {states:?}"));
        sent
    }

    /// All partitions are owned, nothing is parked or in flight.
    fn is_caught_up(&self) -> bool {
        let states: Vec<Status> = self.members.iter().map(|member| member.status.borrow().clone()).collect();
        let owned: usize = states.iter().map(|state| state.partitions).sum();
        owned == PARTITIONS as usize && states.iter().all(|state| state.partitions == 0 || state.is_caught_up)
    }

    /// Finds members that ended though nobody asked them to.
    pub(crate) fn look_after_members(&mut self) {
        let gone: Vec<usize> =
            (0..self.members.len()).rev().filter(|at| self.members[*at].is_gone()).collect();
        for at in gone {
            let member = self.members.remove(at);
            self.keep_word_of(&member);
            let log = std::fs::read_to_string(&member.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(8).collect();
            self.complain(format!("member {} ended by itself: {last:?}", member.id));
            self.join(at == 0);
        }
    }

    /// Notes balances of a member that didn't hold.
    pub(crate) fn keep_word_of(&mut self, member: &Member) {
        let broken = member.broken.lock().expect("no panic").clone();
        if let Some(first) = broken.first() {
            self.complain(format!("member {}: the balance doesn't hold: {first}", member.id));
        }
    }

    /// Waits for a member that was asked to leave.
    pub(crate) async fn leaves(&mut self, member: Member) {
        let (id, broken) = (member.id, Arc::clone(&member.broken));
        match member.left().await {
            Ok(status) => {
                self.tell(format!("member {id} left; drained: {:?}", status.drained));
                if !status.balance_holds || !broken.lock().expect("no panic").is_empty() {
                    self.complain(format!("member {id}: the balance doesn't hold: {}", status.balances));
                }
                if !status.faults.is_empty() {
                    self.complain(format!("member {id}: stopped partitions: {:?}", status.faults));
                }
            }
            Err(why) => self.complain(why),
        }
    }

    /// Asks every member to leave and waits for them.
    pub(crate) async fn end_members(&mut self) {
        self.look_after_members();
        self.members.iter().for_each(Member::ask_to_leave);
        for member in std::mem::take(&mut self.members) {
            self.leaves(member).await;
        }
    }

    /// The tasks in the dead-letter topic.
    pub(crate) async fn dead_letters(&self) -> Vec<(u32, u32)> {
        let records = self.kafka.all(&self.spec.dead_letters).await;
        records.iter().filter_map(|record| task_name(record.payload.as_deref()?)).collect()
    }
}
