//! One order's story, told line by line while it unfolds: what the stages made of it, and what the outside saw.
//!
//! It only looks. The store is asked a few times a second about one order, the outside tells through the feed.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::embedded::feed::{Feed, Happening};
use crate::event::{Event, EventType};
use crate::store::overview::{self, OrderStory};
use crate::store::{Database, StoreError};

/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// The order whose story is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub order_id: String,
    /// The number that people know it by.
    pub order_number: i64,
    /// Where its buyer and seller get mail.
    pub addresses: Vec<String>,
}

/// One line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who did or saw it.
    pub by: String,
    /// What happened.
    pub what: String,
}

/// The order with the most to tell: the first that is disputed and has an event for which `trouble` answers
/// true; else the first that is disputed; else the first.
pub fn choose(events: impl Iterator<Item = Event>, trouble: impl Fn(&Event) -> bool) -> Option<Sample> {
    let (mut created, mut troubled) = (Vec::new(), HashSet::new());
    let mut disputed = Vec::new();
    for event in events {
        let id = event.meta().order_id.clone();
        if trouble(&event) {
            troubled.insert(id.clone());
        }
        if event.event_type() == EventType::DisputeInitiated {
            disputed.push(id);
        }
        created.extend(sample(&event));
    }
    let best = disputed.iter().find(|id| troubled.contains(*id)).or(disputed.first());
    let at = best.and_then(|id| created.iter().position(|sample| sample.order_id == *id)).unwrap_or(0);
    (at < created.len()).then(|| created.swap_remove(at))
}

fn sample(event: &Event) -> Option<Sample> {
    let Event::OrderCreated(created) = event else { return None };
    let addresses = [&created.buyer, &created.seller].into_iter().filter_map(|party| party.email.clone());
    Some(Sample {
        tenant: created.meta.tenant_id.clone(),
        order_id: created.meta.order_id.clone(),
        order_number: created.order_number,
        addresses: addresses.collect(),
    })
}

/// Tells until `stop`. Who doesn't take the lines in time holds up nothing but the story.
pub async fn tell(
    sample: Sample,
    db: Database,
    feed: Feed,
    lines: mpsc::Sender<Line>,
    stop: CancellationToken,
) {
    let mut outside = feed.listen();
    let mut told = Told::default();
    // Not a sleep: what the outside tells would begin it anew each time.
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        let new = tokio::select! {
            () = stop.cancelled() => return,
            heard = outside.recv() => match heard {
                Ok(happening) => from_outside(&sample, happening).into_iter().collect(),
                Err(RecvError::Lagged(_)) => Vec::new(),
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => told.look(&sample, &db).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the story can't be read");
                Vec::new()
            }),
        };
        for line in new {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    }
}

/// The line for something the outside saw, if it is about this order. Mails name the order in their subject.
fn from_outside(sample: &Sample, happening: Happening) -> Option<Line> {
    let number = sample.order_number.to_string();
    let is_mail = sample.addresses.contains(&happening.about) && happening.what.contains(&number);
    (is_mail || happening.about == sample.order_id).then_some(Line { by: happening.by, what: happening.what })
}

/// What was told before.
#[derive(Debug, Default)]
struct Told {
    keys: HashSet<String>,
}

impl Told {
    /// What is new in the store.
    async fn look(&mut self, sample: &Sample, db: &Database) -> Result<Vec<Line>, StoreError> {
        let OrderStory { events, people, messages, disputes } =
            overview::story(db, &sample.tenant, &sample.order_id).await?;
        let mut lines = Vec::new();
        for (version, kind) in events {
            self.once(&mut lines, format!("v{version}"), "history", || {
                format!("{kind} kept as version {version}")
            });
        }
        for (role, user) in people {
            self.once(&mut lines, format!("{role} {user}"), "conversation", || {
                format!("{user} joins as {role}")
            });
        }
        for (id, kind) in messages {
            self.once(&mut lines, id, "conversation", || format!("message about {kind}"));
        }
        for (id, stage, status, moderator) in disputes {
            let moderator = moderator.map(|name| format!(", moderator {name}")).unwrap_or_default();
            let what = format!("{id}: {stage}, {status}{moderator}");
            self.once(&mut lines, what.clone(), "dispute", || what);
        }
        Ok(lines)
    }

    fn once(&mut self, lines: &mut Vec<Line>, key: String, by: &str, what: impl FnOnce() -> String) {
        if self.keys.insert(key) {
            lines.push(Line { by: by.to_owned(), what: what() });
        }
    }
}
