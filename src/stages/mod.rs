//! What happens because of an event: one folder a stage, and one table that lists them.
//!
//! A stage is a consumer group of its own over the engine in [`crate::runtime`]. A **store stage** writes rows
//! (history, notification, dispute, attempts): it is a [`store_stage::StoreHandler`], and everything around it is the
//! same for all. An **effect stage** reaches outside (webhook, delivery): it is a
//! [`EffectStage`](crate::runtime::EffectStage). A new stage is a folder and a row in [`TABLE`], and its groups and
//! topics are declared in `topology/`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::cursors::StoredCursors;
use self::gaps::{GapMail, GapNews};
use self::owner_mail::Scribe;
use self::past::Archive;
use crate::crypto::Vault;
use crate::event::{Codec, EventType};
use crate::runtime::cursor::CursorStore;
use crate::runtime::retry::Schedule;
use crate::runtime::{
    Environment, ErrorClass, RuntimeOptions, StageControl, StageHandle, StageSpec, StartAt,
};
use crate::store::Database;
use crate::task;
use crate::topology::{self, Topology};

pub mod attempts;
pub mod control;
mod cursors;
pub mod delivery;
pub mod dispute;
mod gaps;
pub mod history;
pub mod intake;
pub mod live_feed;
pub mod notification;
mod owner_mail;
pub mod past;
pub mod store_stage;
pub mod webhook;

/// What stages are made of; one per process, cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Kafka, the producer, metrics and the clock.
    pub env: Environment,
    /// The Kafka cluster's id: part of the identity of records that have no event id.
    pub cluster_id: Arc<str>,
    /// The store.
    pub db: Database,
    /// Seals secrets and personal data.
    pub vault: Vault,
    /// Reads and writes events.
    pub codec: Codec,
    /// Topics, groups and policies.
    pub topology: Arc<Topology>,
    /// The stages' own settings.
    pub options: Arc<StageOptions>,
    /// What this process knows of webhook endpoints: the groups that tell them keep one rate and one breaker.
    pub traffic: webhook::Traffic,
}

/// The settings of all stages, from their sections of the configuration.
#[derive(Debug, Clone, Default)]
pub struct StageOptions {
    /// `[runtime]`: bounds and times of the engine.
    pub runtime: RuntimeOptions,
    /// What messages are made from; `[notification]` may name a folder of own ones.
    pub templates: notification::templates::Templates,
    /// `[dispute]`: who may be given one.
    pub dispute: dispute::DisputeOptions,
    /// `[smtp]`: the mail server.
    pub mail: delivery::email::MailServer,
    /// `[webhook]`: where requests may go, and their bounds.
    pub webhook: webhook::WebhookOptions,
}

impl Parts {
    /// The broker's name of the topic called `id` in the topology.
    pub fn topic(&self, id: &str) -> Arc<str> {
        self.topology.topic(id).map_or_else(|| Arc::from(id), |topic| Arc::clone(&topic.name))
    }

    /// Reads the source of the stage called `name`: the event types and tenants that the topology lets it take, under its
    /// conditions.
    pub fn reader(&self, name: &str) -> intake::Reader {
        let (takes, tenants, conditions) = match self.topology.stage(name) {
            Some(stage) => (stage.takes.clone(), stage.tenants.clone(), stage.conditions.clone()),
            None => Default::default(),
        };
        let metrics = Arc::clone(&self.env.metrics);
        intake::Reader::new(self.codec.clone(), Arc::clone(&self.cluster_id), takes, metrics)
            .for_tenants(tenants)
            .under(conditions)
    }
}

/// The event types that the topology lets stages take that run the one called `runs`, together.
pub fn taken_by(topology: &Topology, runs: &str) -> BTreeSet<EventType> {
    topology.stages().filter(|stage| stage.runs == runs).flat_map(|stage| stage.takes.clone()).collect()
}

/// When failed work of a stage is tried again: the topology's policy.
pub fn schedule_of(stage: &topology::Stage) -> Schedule {
    stage.retry.as_ref().map_or_else(Schedule::default, |retry| Schedule {
        attempts: retry.attempts,
        delays: retry.delays.clone(),
        // A share between 0 and 1, as the topology's own checks see to.
        jitter_percent: (retry.jitter * 100.0).round() as u32,
    })
}

/// A stage that the program has.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, as in the topology, in topics and in metrics.
    pub name: &'static str,
    /// Starts one member of its group, or of a further group that runs it.
    pub start: fn(&Parts, &topology::Stage, StageSpec, CancellationToken) -> StageHandle,
}

/// Every stage there is.
pub const TABLE: &[Row] = &[
    Row { name: history::NAME, start: history::start },
    Row { name: notification::NAME, start: notification::start },
    Row { name: webhook::NAME, start: webhook::start },
    Row { name: attempts::NAME, start: attempts::start },
    Row { name: dispute::NAME, start: dispute::start },
    Row { name: delivery::NAME, start: delivery::start },
];

/// Why a stage can't be started.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StartError {
    /// No such stage.
    #[error("the topology declares no stage {name:?}; it declares: {known}")]
    NotDeclared {
        /// What was asked for.
        name: String,
        /// The stages that are declared.
        known: String,
    },
    /// The topology declares what the program doesn't have.
    #[error(
        "stage {stage:?} runs {runs:?}, which this program doesn't have; it has: {known} (set the stage's `runs`)"
    )]
    NotThere {
        /// The stage.
        stage: String,
        /// What it is to run.
        runs: String,
        /// What the program has.
        known: String,
    },
    /// Failures are to be given up at once that can't happen.
    #[error(
        "stage {stage:?} gives up on failures of a class that there isn't (retry.not_retryable); there are: {known}"
    )]
    NoSuchClass {
        /// The stage.
        stage: String,
        /// Every class.
        known: String,
    },
}

/// The names of the stages called `names`; `all` is every one that the topology declares.
///
/// # Errors
/// [`StartError`] names the first that can't be started.
pub fn select(topology: &Topology, names: &[String]) -> Result<Vec<String>, StartError> {
    let names = match names.iter().any(|name| name == "all") {
        true => topology.stages().map(|stage| stage.name.clone()).collect(),
        false => names.to_vec(),
    };
    names.iter().try_for_each(|name| find(topology, name).map(drop))?;
    Ok(names)
}

/// A stage of the topology, and what runs it.
fn find<'t>(topology: &'t Topology, name: &str) -> Result<(&'t topology::Stage, &'static Row), StartError> {
    let Some(stage) = topology.stage(name) else {
        let known = topology.stages().map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(StartError::NotDeclared { name: name.to_owned(), known });
    };
    let row = TABLE.iter().find(|row| row.name == stage.runs).ok_or_else(|| StartError::NotThere {
        stage: name.to_owned(),
        runs: stage.runs.clone(),
        known: TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
    })?;
    if not_retryable(stage).any(|class| class.is_none()) {
        let known = ErrorClass::ALL.map(ErrorClass::as_str).join(", ");
        return Err(StartError::NoSuchClass { stage: name.to_owned(), known });
    }
    Ok((stage, row))
}

/// What the topology says is given up at once; `None` is a class that there isn't.
fn not_retryable(stage: &topology::Stage) -> impl Iterator<Item = Option<ErrorClass>> {
    stage.retry.iter().flat_map(|retry| &retry.not_retryable).map(|name| ErrorClass::parse(name))
}

/// Starts one member of each stage called `names`; they end after `stop`.
///
/// # Errors
/// [`StartError`] names the first that can't be started; nothing is started then.
pub fn start(
    parts: &Parts,
    names: &[String],
    stop: &CancellationToken,
) -> Result<Vec<StageHandle>, StartError> {
    let found = names.iter().map(|name| find(&parts.topology, name)).collect::<Result<Vec<_>, _>>()?;
    // One task for all of them, like the control: it ends with `stop`.
    if let Some(news) = found.iter().find_map(|(stage, _)| gap_news(parts, stage)) {
        let mail = GapMail { db: parts.db.clone(), news, after: parts.options.webhook.gap_mail_after };
        drop(task::spawn("gap mail", mail.run(stop.clone())));
    }
    let specs = found.into_iter().map(|(stage, row)| ((stage, row), spec(stage, parts))).collect();
    let specs = control::take_charge(parts, specs, stop);
    let start =
        |((stage, row), spec): ((&topology::Stage, &Row), _)| (row.start)(parts, stage, spec, stop.clone());
    Ok(specs.into_iter().map(start).collect())
}

/// The history of a stage's source.
fn archive(parts: &Parts, stage: &topology::Stage) -> Archive {
    let keeper = history_for(&parts.topology, stage);
    Archive { db: parts.db.clone(), vault: parts.vault.clone(), codec: parts.codec.clone(), keeper }
}

/// Who tells of gaps: endpoints have owners, other targets don't.
fn gap_news(parts: &Parts, stage: &topology::Stage) -> Option<GapNews> {
    (stage.runs == webhook::NAME)
        .then(|| GapNews { scribe: Scribe::new(parts), clock: parts.env.clock.clone() })
}

/// The stage that keeps the history of all that `stage` takes of its source. One that takes less is none: what it doesn't
/// hold would be taken for nobody's event.
pub fn history_for(topology: &Topology, stage: &topology::Stage) -> Option<Arc<str>> {
    let takes_as_much = |keeper: &topology::Stage| {
        let tenants = keeper.tenants.is_empty()
            || (!stage.tenants.is_empty() && stage.tenants.is_subset(&keeper.tenants));
        let conditions = keeper.conditions.iter().all(|condition| stage.conditions.contains(condition));
        stage.takes.is_subset(&keeper.takes) && tenants && conditions
    };
    let mut keepers = topology.stages().filter(|keeper| {
        keeper.runs == history::NAME && keeper.source == stage.source && takes_as_much(keeper)
    });
    keepers.next().map(|keeper| keeper.name.as_str().into())
}

/// What the engine has to know of a stage that the topology declares.
fn spec(stage: &topology::Stage, parts: &Parts) -> StageSpec {
    let options = &parts.options.runtime;
    // A stage that retries has targets outside, which may fall behind.
    let cursors = stage.retry_topic.as_ref().map(|_| -> Arc<dyn CursorStore> {
        let cursors = StoredCursors::new(archive(parts, stage), &stage.name, parts.env.clock.clone());
        Arc::new(cursors.telling(gap_news(parts, stage)))
    });
    StageSpec {
        stage: stage.name.clone(),
        group: stage.group.to_string(),
        source: stage.source.to_string(),
        retry: stage.retry_topic.as_ref().map(ToString::to_string),
        dead_letters: stage.dead_letters.to_string(),
        start: match stage.start {
            topology::StartAt::Earliest => StartAt::Earliest,
            topology::StartAt::Latest => StartAt::Latest,
        },
        control: StageControl::default(),
        cursors,
        options: RuntimeOptions {
            concurrency: stage.concurrency,
            timeout: stage.timeout,
            background: stage.background,
            // Jitter takes no delay to the retry topic.
            in_place_limit: (stage.retry.as_ref())
                .map_or(options.in_place_limit, |retry| retry.in_place.mul_f64(1.0 + retry.jitter)),
            age_limit: stage.retry.as_ref().and_then(|retry| retry.age_limit),
            not_retryable: not_retryable(stage).flatten().collect(),
            holds_lanes: stage
                .retry
                .as_ref()
                .is_some_and(|retry| retry.after_last == topology::AfterLast::Hold),
            ..options.clone()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_the_table_is_declared_in_the_built_in_topology() {
        let topology = Topology::built_in().unwrap();
        for row in TABLE {
            assert!(topology.stage(row.name).is_some(), "{} is not declared", row.name);
        }
        let names = select(&topology, &["all".to_owned()]).expect("each is there");
        assert_eq!(names.len(), topology.stages().count());
    }

    #[test]
    fn a_history_that_takes_less_than_a_stage_is_not_its_past() {
        let of_webhook = |overlay: &str| {
            let layers = [("the built-in topology", topology::BUILT_IN), ("overlay", overlay)];
            let topology = Topology::from_yaml(&layers).unwrap();
            history_for(&topology, topology.stage("webhook").expect("it is declared"))
        };
        assert_eq!(of_webhook("{}").as_deref(), Some("history"));
        assert_eq!(of_webhook("stages: { history: { takes: [order.paid] } }"), None);
        assert_eq!(of_webhook("stages: { history: { tenants: [shop] } }"), None);
        let both = "stages: { history: { tenants: [shop, other] }, webhook: { tenants: [shop] } }";
        assert_eq!(of_webhook(both).as_deref(), Some("history"));
        assert_eq!(of_webhook("stages: { webhook: { takes: [order.paid] } }").as_deref(), Some("history"));
    }

    #[test]
    fn what_is_not_declared_or_not_there_is_named() {
        let topology = Topology::built_in().unwrap();
        let error = select(&topology, &["histroy".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("histroy") && error.contains("history"), "{error}");
        let overlay = "stages: { bulk: { about: x, kind: store, runs: histori, source: orders.events, takes: ['*'], \
                       objective: { within: 1s, lag: 1s } } }";
        let layers = [("the built-in topology", topology::BUILT_IN), ("overlay", overlay)];
        let topology = Topology::from_yaml(&layers).unwrap();
        let error = select(&topology, &["all".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"bulk\"") && error.contains("\"histori\""), "{error}");

        let given_up = |class: &str| {
            let overlay = format!("stages: {{ webhook: {{ retry: {{ not_retryable: [{class}] }} }} }}");
            let layers = [("the built-in topology", topology::BUILT_IN), ("overlay", overlay.as_str())];
            let topology = Topology::from_yaml(&layers).unwrap();
            select(&topology, &["webhook".to_owned()]).map_err(|error| error.to_string())
        };
        assert_eq!(given_up("rejected"), Ok(vec!["webhook".to_owned()]));
        let error = given_up("refused").unwrap_err();
        assert!(error.contains("webhook") && error.contains("rejected"), "{error}");
    }
}
