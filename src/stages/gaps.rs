//! Tells owners of webhook endpoints what they never got: an event on `webhooks.endpoints` for every gap, written with it, and a
//! mail to the endpoint's contact for all gaps that are met close in time.
//!
//! An endpoint that comes back too late finds gaps in many partitions, met by several members. They wait in the store until no
//! further one came for a while; whichever process sees that first tells of them, and notes it in the same transaction.

use std::time::Duration;

use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::owner_mail::{self, Scribe};
use crate::clock::Clock;
use crate::event::WebhookEndpointChanged;
use crate::runtime::cursor::Gap;
use crate::runtime::{ErrorClass, Failure, SourcePartition};
use crate::store::cursor_gaps::{self, Untold};
use crate::store::outbox::{self, Message};
use crate::store::{Database, webhooks};

/// How often it is looked whether there is something to tell, at most.
const EVERY: Duration = Duration::from_secs(5);
/// Gaps that keep coming are told when the first has waited so many times as long as the last has to.
const LONGEST: u32 = 10;
/// Endpoints that are looked for at once.
const ENDPOINTS: i64 = 100;
/// Gaps that one mail tells of; the others are told by the next.
const GAPS: i64 = 500;
/// Stretches that a mail names; of the others it says how many they are.
const NAMED: usize = 20;

/// Who tells in the name of the effects' ids.
const NAME: &str = "gaps";

/// What telling of gaps needs.
#[derive(Debug, Clone)]
pub(super) struct GapNews {
    pub(super) scribe: Scribe,
    pub(super) clock: Clock,
}

impl GapNews {
    /// The events that tell of `gaps`. An endpoint that is gone has nobody to be told.
    ///
    /// # Errors
    /// When the store or the registry is away.
    pub(super) async fn events(
        &self,
        db: &Database,
        at: &SourcePartition,
        gaps: &[Gap],
    ) -> Result<Vec<Message>, Failure> {
        let mut messages = Vec::new();
        for gap in gaps {
            let found = webhooks::of_any_tenant(db, &gap.target).await;
            let Some(endpoint) = found.map_err(|error| away(&error))? else { continue };
            let (topic, partition, from, last) = (&at.topic, at.partition, gap.from, gap.to - 1);
            // Told again after a write that was lost, it is the same.
            let name = format!("gap/{}/{topic}/{partition}/{from}/{last}/{}", at.cluster_id, endpoint.id);
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
            let cluster = &at.cluster_id;
            let stretch = Stretch { cluster, topic, partition: partition.into(), from, last };
            let news = WebhookEndpointChanged {
                change_id: id.to_string(),
                tenant_id: endpoint.tenant,
                endpoint_id: endpoint.id,
                owner: endpoint.owner,
                url: endpoint.url,
                change: "gap".to_owned(),
                reason: reason(&[stretch]),
                failing_since: None,
                changed_at: self.clock.now_ms(),
            };
            messages.push(self.scribe.event(id, &news).await.map_err(|error| away(&error))?);
        }
        Ok(messages)
    }
}

/// Writes the mails.
#[derive(Debug)]
pub(super) struct GapMail {
    pub(super) db: Database,
    pub(super) news: GapNews,
    /// How long a gap waits for further ones.
    pub(super) after: Duration,
}

impl GapMail {
    /// Tells until `stop`. What is left then is told by whoever starts next.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut complained = false;
        loop {
            // What is told is told in one transaction, so that it can be left at any time.
            let ended = tokio::select! {
                ended = self.round() => ended,
                () = stop.cancelled() => return,
            };
            match ended {
                Ok(()) => complained = false,
                Err(why) if complained => tracing::debug!(%why, "owners still can't be told of gaps"),
                Err(why) => {
                    tracing::warn!(%why, "owners of webhooks can't be told of gaps yet; trying again");
                    complained = true;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.news.clock.sleep(EVERY.min(self.after)) => {}
            }
        }
    }

    /// Tells everybody whose gaps have waited long enough. Those who can't be told keep nobody else waiting, however many.
    async fn round(&self) -> Result<(), Failure> {
        let now_ms = self.news.clock.now_ms();
        let before =
            |time: Duration| now_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let since = (before(self.after), before(self.after.saturating_mul(LONGEST)));
        let (mut behind, mut failed) = (String::new(), None);
        loop {
            let due = cursor_gaps::due(&self.db, since, &behind, ENDPOINTS).await;
            let due = due.map_err(|error| away(&error))?;
            let Some(last) = due.last() else { break };
            behind.clone_from(last);
            for target in &due {
                if let Err(why) = self.tell(target, now_ms).await {
                    failed.get_or_insert(why);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn tell(&self, target: &str, now_ms: i64) -> Result<(), Failure> {
        let gaps = cursor_gaps::untold(&self.db, target, GAPS).await.map_err(|error| away(&error))?;
        let Some(at_ms) = gaps.iter().map(|gap| gap.since).max() else { return Ok(()) };
        let found = webhooks::of_any_tenant(&self.db, target).await.map_err(|error| away(&error))?;
        let mail = match found {
            None => None,
            Some(endpoint) => {
                let reason = reason(&stretches(&gaps));
                let (id, more) = (name(target, &gaps), Json::Null);
                let news =
                    owner_mail::News { template: "webhook.gap", id, by: NAME, at_ms, reason: &reason, more };
                self.news.scribe.mail(&endpoint, news).await.map_err(|error| away(&error))?
            }
        };
        let mut tx = self.db.begin().await.map_err(|error| away(&error))?;
        // Somebody else was faster, or it has grown: the next round sees.
        if !cursor_gaps::tell(&mut tx, target, &gaps).await.map_err(|error| away(&error))? {
            return Ok(());
        }
        if let Some(mail) = mail {
            outbox::append(&mut tx, &mail, now_ms).await.map_err(|error| away(&error))?;
        }
        tx.commit().await.map_err(|error| away(&error))
    }
}

/// Names a mail after what it tells: told again after a write that was lost, it is the same.
fn name(target: &str, gaps: &[Untold]) -> Uuid {
    let place = |gap: &Untold| {
        let Untold { stage, cluster_id, topic_id, partition, from, to, since: _ } = gap;
        format!("/{stage}/{cluster_id}/{topic_id}/{partition}/{from}/{to}")
    };
    let name = format!("gaps/{target}{}", gaps.iter().map(place).collect::<String>());
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// Offsets in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch<'a> {
    cluster: &'a str,
    topic: &'a str,
    partition: i64,
    from: i64,
    last: i64,
}

impl<'a> Stretch<'a> {
    /// Where offsets follow on each other.
    fn log(&self) -> (&'a str, &'a str, i64) {
        (self.cluster, self.topic, self.partition)
    }
}

/// Gaps as stretches: what borders on each other, or was met by several groups, is one.
fn stretches(gaps: &[Untold]) -> Vec<Stretch<'_>> {
    let mut all: Vec<_> = gaps
        .iter()
        .map(|&Untold { ref cluster_id, ref topic_id, partition, from, to, .. }| Stretch {
            cluster: cluster_id,
            topic: topic_id,
            partition,
            from,
            last: to - 1,
        })
        .collect();
    all.sort_by_key(|stretch| (stretch.log(), stretch.from));
    all.dedup_by(|next, before| {
        let joins = next.log() == before.log() && next.from <= before.last + 1;
        before.last = if joins { before.last.max(next.last) } else { before.last };
        joins
    });
    all
}

/// Offsets say nothing without their Kafka cluster; its name is spared the reader where there is one only.
fn reason(stretches: &[Stretch<'_>]) -> String {
    let is_one_cluster = stretches.iter().all(|stretch| stretch.cluster == stretches[0].cluster);
    let named = stretches.iter().take(NAMED).map(|Stretch { cluster, topic, partition, from, last }| {
        let of = if is_one_cluster { String::new() } else { format!(" of cluster {cluster}") };
        format!("at the offsets {from} to {last} of partition {partition} of {topic}{of}")
    });
    let mut places = named.collect::<Vec<_>>().join(", ");
    if let more @ 1.. = stretches.len().saturating_sub(NAMED) {
        places.push_str(&format!(", and in {more} further stretches"));
    }
    format!("what lay {places} is kept nowhere any more and was not delivered")
}

fn away(why: &impl std::fmt::Display) -> Failure {
    Failure::new(ErrorClass::Unavailable, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Subject, Vault};
    use crate::store::Value;
    use crate::store::testing::each_engine;

    fn gap(partition: i64, from: i64, to: i64) -> Untold {
        let [stage, cluster_id, topic_id] = ["webhook", "c", "orders.events"].map(str::to_owned);
        Untold { stage, cluster_id, topic_id, partition, from, to, since: 1 }
    }

    #[test]
    fn a_mail_names_stretches_and_counts_what_it_does_not_name() {
        let told =
            reason(&stretches(&[gap(1, 7, 9), gap(0, 2, 4), gap(0, 4, 6), gap(0, 8, 9), gap(1, 7, 9)]));
        assert_eq!(
            told,
            "what lay at the offsets 2 to 5 of partition 0 of orders.events, at the offsets 8 to 8 of partition 0 of \
             orders.events, at the offsets 7 to 8 of partition 1 of orders.events is kept nowhere any more and was not \
             delivered"
        );
        let elsewhere = |gap: Untold| Untold { cluster_id: "d".to_owned(), ..gap };
        let told = reason(&stretches(&[gap(0, 2, 4), elsewhere(gap(0, 3, 6)), gap(0, 4, 5)]));
        assert_eq!(
            told,
            "what lay at the offsets 2 to 4 of partition 0 of orders.events of cluster c, at the offsets 3 to 5 of \
             partition 0 of orders.events of cluster d is kept nowhere any more and was not delivered"
        );
        let many: Vec<_> = (0..500).map(|nth| gap(nth % 12, nth * 10, nth * 10 + 1)).collect();
        let told = reason(&stretches(&many));
        assert!(told.contains("and in 480 further stretches") && told.len() < 4_000, "{told}");
    }

    #[tokio::test]
    async fn those_who_cannot_be_told_hold_up_nobody_else() {
        each_engine(async |db| {
            let vault = Vault::ephemeral();
            let contact = vault.seal(Subject::Person { tenant: "shop", person: "p-1" }, b"ops@partner.example").unwrap();
            let mut tx = db.begin().await.unwrap();
            for nth in 0..ENDPOINTS {
                let sql = "INSERT INTO webhook_endpoints (tenant_id, id, url, events, timeout_ms, secrets, state, created_at,
                     updated_at, owner, contact)
                     VALUES ('shop', $1, 'https://example.com/', '*', 1000, $2, 'enabled', 1, 1, 'p-1', $2)";
                let sealed = Value::from(&contact);
                tx.execute(sql, &[format!("wh_{nth:03}").as_str().into(), sealed]).await.unwrap();
            }
            // The last one's endpoint is gone, so that nothing has to be written to anybody.
            for nth in 0..=ENDPOINTS {
                let sql = "INSERT INTO cursor_gaps (stage, cluster_id, topic_id, partition, target, from_offset, to_offset,
                     met_at, untold_since) VALUES ('webhook', 'c', 'orders.events', 0, $1, 1, 2, 1, 1)";
                tx.execute(sql, &[format!("wh_{nth:03}").as_str().into()]).await.unwrap();
            }
            tx.commit().await.unwrap();
            let clock = Clock::manual(1_000_000);
            let news = GapNews { scribe: Scribe::without_registry(vault), clock };
            let mail = GapMail { db, news, after: Duration::from_secs(1) };
            mail.round().await.unwrap_err();
            let untold = cursor_gaps::due(&mail.db, (1, 1), "", ENDPOINTS + 1).await.unwrap();
            assert_eq!((untold.len() as i64, untold.contains(&"wh_100".to_owned())), (ENDPOINTS, false));
        })
        .await;
    }

    #[test]
    fn a_mail_is_named_after_all_that_it_tells() {
        let gaps = [gap(0, 2, 4), gap(1, 7, 9)];
        assert_eq!(name("wh_1", &gaps), name("wh_1", &[gap(0, 2, 4), Untold { since: 9, ..gap(1, 7, 9) }]));
        for other in
            [name("wh_2", &gaps), name("wh_1", &gaps[..1]), name("wh_1", &[gap(0, 2, 4), gap(1, 7, 8)])]
        {
            assert_ne!(name("wh_1", &gaps), other);
        }
    }
}
