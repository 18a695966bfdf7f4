//! Compares what was published with what the store, the partners and the mailbox hold, and writes the ledger.
//!
//! It asks those who suffered the effects, not those who caused them: rows, partners' books, mails. The one
//! number of the sender's, the attempt log, is set against the partners' own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::embedded::ledger::{Disputes, Ledger, Notifications, Webhooks};
use crate::embedded::mailbox::Mailbox;
use crate::embedded::partners::Partner;
use crate::embedded::traffic::Expectation;
use crate::event::{Event, EventType};
use crate::runtime::{KafkaOptions, ReadError, ReadFrom, Record, TopicReader};
use crate::store::overview::{self, KeptEvent};
use crate::store::{Database, StoreError, conversations, disputes, notifications};
use crate::topology::{Purpose, Topology};

mod people;

/// How many findings are put into words; all are counted.
const FINDINGS_IN_WORDS: usize = 20;

/// Why no ledger could be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store didn't answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A topic couldn't be read.
    #[error("a topic can't be read back: {0}")]
    Read(#[from] ReadError),
}

/// What was published, and what must follow from it.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Per tenant and order.
    pub expectation: Expectation,
    /// Who must have got a mail that confirms which order: (address, order number).
    confirmations: Vec<(String, i64)>,
}

impl Published {
    /// Adds one event that Kafka acknowledged.
    pub fn add(&mut self, event: &Event) {
        self.expectation.add(event);
        if let Event::OrderCreated(created) = event
            && let Some(address) = &created.buyer.email
        {
            self.confirmations.push((address.clone(), created.order_number));
        }
    }
}

/// Everybody who can bear witness.
#[derive(Debug)]
pub struct Witnesses<'a> {
    /// The store.
    pub db: &'a Database,
    /// Who received webhooks.
    pub partners: &'a [Partner],
    /// Who received mail.
    pub mailbox: &'a Mailbox,
    /// Where the topics are.
    pub kafka: &'a KafkaOptions,
    /// Which topics there are.
    pub topology: &'a Topology,
}

/// The ledger, and what is wrong with it in words.
#[derive(Debug)]
pub struct Audit {
    /// The sums.
    pub ledger: Ledger,
    /// The first findings, each naming its order.
    pub findings: Vec<String>,
}

/// What was found wrong, counted by kind.
#[derive(Debug, Default)]
struct Findings {
    lost: u64,
    duplicates: u64,
    violations: u64,
    words: Vec<String>,
}

impl Findings {
    fn say(&mut self, words: impl FnOnce() -> String) {
        if self.words.len() < FINDINGS_IN_WORDS {
            self.words.push(words());
        }
    }

    fn duplicate(&mut self, words: impl FnOnce() -> String) {
        self.duplicates += 1;
        self.say(words);
    }

    fn lost(&mut self, words: impl FnOnce() -> String) {
        self.lost += 1;
        self.say(words);
    }

    fn violation(&mut self, words: impl FnOnce() -> String) {
        self.violations += 1;
        self.say(words);
    }
}

/// Writes the ledger. Everything must have settled before.
///
/// # Errors
/// When store or broker don't answer.
pub async fn audit(of: &Witnesses<'_>, published: &Published, elapsed_ms: u64) -> Result<Audit, AuditError> {
    let mut findings = Findings::default();
    let history = overview::history(of.db).await?;
    compare_history(&history, published, &mut findings);
    people::compare(of, published, &mut findings).await?;
    let exhausted = read(of, "webhooks.exhausted").await?;
    compare_partners(of.partners, &history, exhausted.len(), &mut findings);

    let mut events_by_type = BTreeMap::new();
    for kept in &history {
        *events_by_type.entry(kept.kind.clone()).or_default() += 1;
    }
    let orders: HashSet<_> = history.iter().map(|kept| (&kept.tenant, &kept.order)).collect();
    let (told, disputed) = (notifications::count(of.db).await?, disputes::count(of.db).await?);
    let ledger = Ledger {
        orders: orders.len() as u64,
        events_in: history.len() as u64,
        events_by_type,
        messages: conversations::count_messages(of.db).await?.unsigned_abs(),
        notifications: Notifications {
            sent: told.sent.unsigned_abs(),
            failed: told.failed.unsigned_abs(),
            suppressed: told.suppressed.unsigned_abs(),
        },
        disputes: Disputes {
            opened: disputed.opened.unsigned_abs(),
            escalated: disputed.escalated.unsigned_abs(),
            resolved: disputed.resolved.unsigned_abs(),
        },
        webhooks: webhooks(of, exhausted.len()).await?,
        dead_letters: dead_letters(of).await?,
        duplicates: findings.duplicates,
        late: 0,
        lost: findings.lost,
        order_violations: findings.violations,
        elapsed_ms,
    };
    Ok(Audit { ledger, findings: findings.words })
}

/// Every published event is in the history once, each order's in the order of publishing and of the log; and
/// every dispute and order led to the events that the program itself adds.
fn compare_history(history: &[KeptEvent], published: &Published, findings: &mut Findings) {
    let mut kept: HashMap<(&str, &str), Vec<&KeptEvent>> = HashMap::new();
    for event in history {
        kept.entry((&event.tenant, &event.order)).or_default().push(event);
    }
    for (tenant, orders) in &published.expectation.tenants {
        for (order, expected) in orders {
            let found = kept.get(&(tenant.as_str(), order.as_str())).map_or(&[][..], Vec::as_slice);
            let places: HashMap<&str, usize> =
                found.iter().enumerate().map(|(place, event)| (event.id.as_str(), place)).collect();
            let mut last = None;
            for told in &expected.history {
                match places.get(told.id.as_str()) {
                    None => findings.lost(|| format!("{order}: {} is not in the history", told.event_type)),
                    Some(place) if Some(place) < last => {
                        findings.violation(|| {
                            format!("{order}: {} is in the history too early", told.event_type)
                        });
                    }
                    place => last = place,
                }
            }
            if found.windows(2).any(|pair| pair[1].offset <= pair[0].offset) {
                findings.violation(|| format!("{order}: the history is not in the order of the log"));
            }
            let count = |kind: EventType| found.iter().filter(|event| event.kind == kind.as_str()).count();
            for (cause, effect) in [
                (EventType::DisputeInitiated, EventType::DisputeAssigned),
                (EventType::OrderCreated, EventType::OrderConfirmationSent),
            ] {
                let (causes, effects) = (count(cause), count(effect));
                if effects < causes {
                    findings.lost(|| format!("{order}: {cause} led to no {effect}"));
                } else if effects > causes {
                    findings.duplicate(|| format!("{order}: {causes} {cause} led to {effects} {effect}"));
                }
            }
        }
    }
}

/// Every event in the history that a partner asked for was accepted by it, unless it was given up.
fn compare_partners(partners: &[Partner], history: &[KeptEvent], exhausted: usize, findings: &mut Findings) {
    let mut missing = Vec::new();
    for partner in partners {
        let book = partner.book();
        let wanted = history.iter().filter(|kept| partner.takes(&kept.kind));
        let lacks = wanted.filter(|kept| !book.has_accepted(&kept.order, &format!("evt_{}", kept.id)));
        missing.extend(
            lacks.map(|kept| format!("{}: {} did not reach {}", kept.order, kept.kind, partner.name())),
        );
        let counts = book.counts();
        findings.duplicates += counts.duplicates;
        findings.violations += counts.violations;
        if counts.duplicates + counts.violations + counts.refused > 0 {
            findings.say(|| format!("{}'s books: {counts:?}", partner.name()));
        }
    }
    findings.lost += missing.len().saturating_sub(exhausted) as u64;
    if missing.len() > exhausted {
        missing.into_iter().for_each(|words| findings.say(|| words));
    }
}

async fn webhooks(of: &Witnesses<'_>, exhausted: usize) -> Result<Webhooks, StoreError> {
    let (deliveries, first_try) = overview::deliveries(of.db).await?;
    Ok(Webhooks {
        deliveries,
        first_try,
        after_retry: deliveries - first_try,
        exhausted: exhausted as u64,
        verified_by_receiver: of.partners.iter().map(|partner| partner.book().counts().accepted).sum(),
    })
}

/// How many distinct source records lie in dead-letter topics.
async fn dead_letters(of: &Witnesses<'_>) -> Result<u64, ReadError> {
    let mut sources = BTreeSet::new();
    for topic in of.topology.topics().filter(|topic| topic.purpose == Purpose::DeadLetters) {
        for record in read(of, &topic.id).await? {
            let header = |name| record.headers.text(name).unwrap_or_default().to_owned();
            sources.insert((
                header("of-source-topic"),
                header("of-source-partition"),
                header("of-source-offset"),
            ));
        }
    }
    Ok(sources.len() as u64)
}

/// All records of the topic called `id` in the topology.
async fn read(of: &Witnesses<'_>, id: &str) -> Result<Vec<Record>, ReadError> {
    let Some(topic) = of.topology.topic(id) else { return Err(ReadError::TopicMissing(id.to_owned())) };
    let mut reader = TopicReader::open(of.kafka, &topic.name, None, ReadFrom::Earliest).await?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_to_end().await {
        records.push(record);
    }
    Ok(records)
}
