//! Brings each fault about, and waits until the run has gone on from it.

use std::time::Duration;

use crate::checks::Window;
use crate::member::Member;
use crate::outside::Mood;
use crate::plan::{Fault, Link};
use crate::proxy::Weather;
use crate::scene::Scene;
use crate::store_part::Place;

/// How long after a fault of anything but a member every partition has to go on.
const SOON: Duration = Duration::from_secs(5);
/// After Kafka is back a member may need this long to connect, commit or find out that it lost its partitions.
const REJOINING: u64 = 3_000;
/// After a member was thawed, or the outside came back, what had begun before may still end.
const CATCHING_UP: u64 = 1_000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}

impl Scene<'_> {
    /// One fault, from its beginning until every partition went on.
    pub(crate) async fn inject(&mut self, fault: &Fault) {
        let name = format!("{fault:?}");
        self.tell(&name);
        let from = self.outside.now_ms();
        match *fault {
            Fault::KillMember { which, away } => self.kill_member(name, which, away).await,
            Fault::FreezeMember { which, lasts } => self.freeze_member(name, which, lasts).await,
            Fault::Isolate { which, weather, lasts } => self.isolate(name, which, weather, lasts).await,
            Fault::StopMember { which, away } => {
                let at = which % self.members.len();
                let member = self.members.remove(at);
                member.ask_to_leave();
                self.leaves(member).await;
                tokio::time::sleep(away).await;
                self.join(at == 0);
                self.resumes(&name, from, self.session + SOON).await;
            }
            Fault::Storm { members } => {
                for _ in 0..members {
                    self.join(false);
                    let newest = self.members.last_mut().expect("just joined");
                    newest.is_up().await;
                }
                // The first stays: it may be the one with the store stage.
                let going: Vec<Member> = self.members.drain(1..=members).collect();
                going.iter().for_each(Member::ask_to_leave);
                for member in going {
                    self.leaves(member).await;
                }
                self.resumes(&name, from, self.session + SOON).await;
            }
            Fault::KillBroker { away } => {
                self.broker.end(true).await;
                self.tell("the broker is gone");
                tokio::time::sleep(away).await;
                self.broker.start_again().await;
                self.over(name, from, REJOINING).await;
            }
            Fault::RestartBroker => {
                self.broker.end(false).await;
                self.broker.start_again().await;
                self.over(name, from, REJOINING).await;
            }
            Fault::FreezeBroker { lasts } => {
                self.broker.freeze();
                tokio::time::sleep(lasts).await;
                self.broker.thaw();
                self.broker.answers().await;
                self.over(name, from, REJOINING).await;
            }
            Fault::Weather { link, weather, lasts } => self.weather(name, link, weather, lasts).await,
            Fault::Mood { mood, lasts } => {
                self.outside.set(mood);
                tokio::time::sleep(lasts).await;
                self.outside.set(Mood::Fine);
                let back = self.outside.now_ms();
                self.resumes(&name, back, SOON).await;
            }
            Fault::FullDisk { lasts } => self.full_disk(name, lasts).await,
        }
        self.look_after_members();
    }

    async fn kill_member(&mut self, name: String, which: usize, away: Duration) {
        let at = which % self.members.len();
        let (id, now) = self.kill_in_silence(at).await;
        tokio::time::sleep(away).await;
        self.join(at == 0);
        self.resumes_without(Some((id, u64::MAX)), &name, now, self.session + SOON).await;
    }

    /// SIGKILL, and nobody in its place; gives whom and when.
    pub(crate) async fn kill_in_silence(&mut self, at: usize) -> (u32, u64) {
        let mut member = self.members.remove(at);
        let running = self.outside.running(member.id);
        member.kill().await;
        let now = self.outside.now_ms();
        self.tell(format!("member {} was killed with {running} requests under way", member.id));
        self.keep_word_of(&member);
        self.windows.push(Window { of: Some(member.id), from_ms: now, until_ms: now });
        (member.id, now)
    }

    async fn freeze_member(&mut self, name: String, which: usize, lasts: Duration) {
        let at = which % self.members.len();
        let id = self.members[at].id;
        self.members[at].freeze();
        let from = self.outside.now_ms();
        self.tell(format!("member {id} is frozen with {} requests under way", self.outside.running(id)));
        tokio::time::sleep(lasts).await;
        self.members[at].thaw();
        let thawed = self.outside.now_ms();
        self.windows.push(Window { of: Some(id), from_ms: from, until_ms: thawed + CATCHING_UP });
        self.resumes_without(Some((id, thawed)), &name, from, self.session + SOON).await;
    }

    async fn isolate(&mut self, name: String, which: usize, weather: Weather, lasts: Duration) {
        let id = self.members[which % self.members.len()].id;
        self.tell(format!("member {id} alone is cut off"));
        let from = self.outside.now_ms();
        self.broker.proxy_of(id).set(weather);
        tokio::time::sleep(lasts).await;
        self.broker.proxy_of(id).set(Weather::Open);
        let back = self.outside.now_ms();
        self.windows.push(Window { of: Some(id), from_ms: from, until_ms: back + REJOINING });
        // As when it is frozen; but it works on until it finds out.
        self.resumes_without(Some((id, back)), &name, from, self.session + SOON).await;
    }

    async fn weather(&mut self, name: String, link: Link, weather: Weather, lasts: Duration) {
        let from = self.outside.now_ms();
        for now in [weather, Weather::Open] {
            match link {
                Link::Kafka => self.broker.proxies.iter().for_each(|proxy| proxy.set(now)),
                Link::Outside => self.receiver.set(now),
                Link::Database => self.store.database.set(now),
                Link::Registry => self.store.registry.set(now),
            }
            if now == weather {
                tokio::time::sleep(lasts).await;
            }
        }
        match link {
            Link::Kafka => self.over(name, from, REJOINING).await,
            Link::Outside => self.over(name, from, CATCHING_UP).await,
            // Of no concern to the effects: nothing may be repeated because of it.
            Link::Database | Link::Registry => {
                let back = self.outside.now_ms();
                self.resumes(&name, back, SOON).await;
            }
        }
    }

    async fn full_disk(&mut self, name: String, lasts: Duration) {
        let Place::Disk(disk) = &self.store.place else {
            self.tell("no disk can be mounted here");
            return;
        };
        disk.fill();
        tokio::time::sleep(lasts).await;
        disk.make_room();
        let back = self.outside.now_ms();
        self.resumes(&name, back, SOON).await;
    }

    /// A fault that concerned every member is over: from here on the time until progress counts.
    async fn over(&mut self, name: String, from_ms: u64, settling_ms: u64) {
        let back = self.outside.now_ms();
        self.tell("it is over");
        self.windows.push(Window { of: None, from_ms, until_ms: back + settling_ms });
        // Members that heard nothing for longer than a session join as new ones, and the group waits for the old ones; a
        // broker that was frozen may let in first whom nobody waits for any more, and wait for those too.
        let was_long = back - from_ms >= millis(self.session);
        let within = if was_long { self.session * 2 + SOON } else { SOON };
        self.resumes(&name, back, within).await;
    }
}
