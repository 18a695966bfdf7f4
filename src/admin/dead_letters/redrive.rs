//! Takes dead letters back to their stage, lane by lane in source order, each at most once.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::pace::Pace;
use super::{DeadLetterError, DeadLetters, Filter, Found, Tools};
use crate::runtime::inspect;
use crate::runtime::redrive::DeadLetter;
use crate::store::redrives::{self, Claim, Claimed, Redrive};

/// Lanes that are appended side by side.
const LANES: usize = 16;

/// What is to be redriven, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Which dead letters.
    pub filter: Filter,
    /// How many at most.
    pub limit: usize,
    /// How many a second at most.
    pub rate: Option<f64>,
    /// Letters that were redriven this often are refused.
    pub most_redrives: u32,
}

/// What a redrive did, or (`dryRun`) would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    /// The redrive's id; absent when nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The stage.
    pub stage: String,
    /// Nothing was done.
    pub dry_run: bool,
    /// Letters that the filter wants.
    pub matched: u64,
    /// Those by cause.
    pub causes: BTreeMap<String, u64>,
    /// In how many lanes they are.
    pub lanes: u64,
    /// Letters appended (dry run: that would be).
    pub sent: u64,
    /// Letters of a task that was dead-lettered again later: only its newest letter is appended.
    pub superseded: u64,
    /// Letters refused because they were redriven too often already.
    pub refused: u64,
    /// Letters that another redrive took up meanwhile.
    pub elsewhere: u64,
    /// Letters that a run of this redrive claimed before it was cut off: continue it once they may be taken over.
    pub unfinished: u64,
    /// There are more than the limit allowed.
    pub more: bool,
}

/// Letters of one lane in source order; those of one task beside each other, the newest last.
struct Lane {
    name: String,
    letters: Vec<DeadLetter>,
}

/// A run of a redrive.
pub(super) struct Run<'a> {
    pub(super) id: &'a str,
    pub(super) runner: String,
    /// Ends of the partitions that are appended to, from before the first append.
    pub(super) ends: BTreeMap<i32, (i64, i64)>,
    pub(super) pace: Pace,
}

impl DeadLetters<'_> {
    /// Says what [`DeadLetters::redrive`] would do, and does nothing.
    ///
    /// # Errors
    /// When Kafka or the store is away.
    pub async fn redrive_dry(&self, wanted: &Wanted) -> Result<Redriven, DeadLetterError> {
        let found = self.find(&wanted.filter, wanted.limit).await?;
        let (told, lanes) = self.sort(found, wanted);
        let sent = lanes.iter().map(|lane| tasks(&lane.letters) as u64).sum();
        Ok(Redriven { dry_run: true, sent, ..told })
    }

    /// Takes the wanted letters back to the stage. Each is claimed in the store first, so that two redrives at once
    /// append it once; both are in the audit.
    ///
    /// # Errors
    /// When Kafka or the store is away, or a record isn't taken: what was claimed is finished by
    /// [`DeadLetters::resume`].
    pub async fn redrive(&self, wanted: &Wanted, tools: &Tools<'_>) -> Result<Redriven, DeadLetterError> {
        let id = Uuid::now_v7().to_string();
        self.begin(&id, wanted, tools, "dlq.redrive").await?;
        let run = self.run(&id, wanted).await?;
        self.carry_out(wanted, tools, &run).await
    }

    pub(super) async fn begin(
        &self,
        id: &str,
        wanted: &Wanted,
        tools: &Tools<'_>,
        action: &str,
    ) -> Result<(), DeadLetterError> {
        let redrive = Redrive {
            id: id.to_owned(),
            stage: self.of.stage.name.clone(),
            wanted: json!(wanted).to_string(),
            ended_at_ms: None,
        };
        let detail = json!({ "redrive": id, "wanted": wanted });
        let audited = tools.by.entry(self.of.clock, action, &self.of.stage.name, &detail);
        Ok(redrives::begin(self.of.db, &redrive, &audited).await?)
    }

    pub(super) async fn run<'a>(&self, id: &'a str, wanted: &Wanted) -> Result<Run<'a>, DeadLetterError> {
        let ends = inspect::ends(self.of.kafka, self.target()).await?;
        Ok(Run { id, runner: Uuid::now_v7().to_string(), ends, pace: Pace::new(wanted.rate) })
    }

    pub(super) async fn carry_out(
        &self,
        wanted: &Wanted,
        tools: &Tools<'_>,
        run: &Run<'_>,
    ) -> Result<Redriven, DeadLetterError> {
        let found = self.find(&wanted.filter, wanted.limit).await?;
        let (mut told, lanes) = self.sort(found, wanted);
        let jobs = stream::iter(lanes).map(|lane| self.lane(lane, tools, run));
        let ended: Vec<(u64, u64)> = jobs.buffer_unordered(LANES).try_collect().await?;
        told.sent = ended.iter().map(|(sent, _)| sent).sum();
        told.elsewhere = ended.iter().map(|(_, elsewhere)| elsewhere).sum();
        told.id = Some(run.id.to_owned());
        told.unfinished = redrives::unsent(self.of.db, run.id).await?;
        let audited = tools.by.entry(self.of.clock, "dlq.redriven", &self.of.stage.name, &json!(told));
        redrives::end(self.of.db, run.id, &audited).await?;
        Ok(told)
    }

    /// Puts what was found into lanes, and counts.
    fn sort(&self, found: Found, wanted: &Wanted) -> (Redriven, Vec<Lane>) {
        let mut told = Redriven {
            stage: self.of.stage.name.clone(),
            matched: found.letters.len() as u64,
            more: found.more,
            ..Redriven::default()
        };
        let mut lanes: BTreeMap<(i32, String), Vec<DeadLetter>> = BTreeMap::new();
        for letter in found.letters {
            *told.causes.entry(letter.cause().as_str().to_owned()).or_default() += 1;
            if letter.redrives() >= wanted.most_redrives {
                told.refused += 1;
                continue;
            }
            lanes.entry((letter.mark.source.partition, letter.lane())).or_default().push(letter);
        }
        told.lanes = lanes.len() as u64;
        let lanes: Vec<Lane> = lanes
            .into_iter()
            .map(|((_, name), mut letters)| {
                letters.sort_by(|a, b| (identity(a), a.record.offset).cmp(&(identity(b), b.record.offset)));
                told.superseded += (letters.len() - tasks(&letters)) as u64;
                Lane { name, letters }
            })
            .collect();
        (told, lanes)
    }

    /// Claims and appends one lane. Gives how many letters were appended, and how many others had.
    async fn lane(
        &self,
        lane: Lane,
        tools: &Tools<'_>,
        run: &Run<'_>,
    ) -> Result<(u64, u64), DeadLetterError> {
        let places: Vec<(i32, i64)> = lane.letters.iter().map(place).collect();
        let partition = lane.letters.first().map_or(0, |letter| letter.mark.source.partition);
        let claim = Claim {
            redrive: run.id,
            runner: &run.runner,
            lane: &lane.name,
            letters: &places,
            target_end: run.ends.get(&partition).map_or(0, |(_, high)| *high),
            now_ms: self.of.clock.now_ms(),
        };
        let ours: BTreeSet<(i32, i64)> = match redrives::claim(self.of.db, self.shelf(), &claim).await? {
            Claimed::Ours(ours) => ours.into_iter().collect(),
            Claimed::Busy => return Ok((0, tasks(&lane.letters) as u64)),
        };
        let elsewhere = tasks(&lane.letters);
        let letters: Vec<DeadLetter> =
            lane.letters.into_iter().filter(|letter| ours.contains(&place(letter))).collect();
        let sent = self.append(&letters, tools, run).await?;
        Ok((sent, elsewhere as u64 - sent))
    }

    /// Appends claimed letters of one lane, of each task the newest, and marks all of them as sent.
    pub(super) async fn append(
        &self,
        letters: &[DeadLetter],
        tools: &Tools<'_>,
        run: &Run<'_>,
    ) -> Result<u64, DeadLetterError> {
        let mut sent = 0;
        for (at, letter) in letters.iter().enumerate() {
            let superseded = letters.get(at + 1).is_some_and(|next| identity(next) == identity(letter));
            if superseded {
                continue;
            }
            run.pace.turn().await;
            tools.producer.send(self.out(letter, run.id)).await.map_err(|why| DeadLetterError::Send {
                place: format!("{}@{}", letter.record.partition, letter.record.offset),
                topic: self.target().to_string(),
                redrive: run.id.to_owned(),
                why,
            })?;
            sent += 1;
        }
        let places: Vec<(i32, i64)> = letters.iter().map(place).collect();
        redrives::sent(self.of.db, self.shelf(), &places, self.of.clock.now_ms()).await?;
        Ok(sent)
    }
}

pub(super) fn place(letter: &DeadLetter) -> (i32, i64) {
    (letter.record.partition, letter.record.offset)
}

/// What makes two letters of a lane the same task: the source record, and which of its tasks.
pub(super) fn identity(letter: &DeadLetter) -> (i64, Option<&str>) {
    (letter.mark.source.offset, letter.mark.task.as_ref().map(|task| &*task.target))
}

/// How many tasks sorted letters stand for.
fn tasks(letters: &[DeadLetter]) -> usize {
    letters.chunk_by(|a, b| identity(a) == identity(b)).count()
}
