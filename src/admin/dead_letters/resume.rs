//! Takes up a redrive whose process went away: first what it had claimed, then the rest of what it was asked for.
//!
//! Between the append of a record and its mark in the store lies a crash: what was claimed and not marked is looked for
//! behind the end that the partition had before, by the coordinates that every redriven record carries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::redrive::{Redriven, Run, Wanted, identity, place};
use super::{DeadLetterError, DeadLetters, Tools};
use crate::runtime::redrive::{DeadLetter, origin};
use crate::runtime::{ReadFrom, TopicReader};
use crate::store::redrives::{self, Unsent};

/// A claim that is younger may still be worked on: longer than the producer tries to send.
pub(super) const LEASE: Duration = Duration::from_secs(180);

impl DeadLetters<'_> {
    /// Goes on with the redrive called `id`.
    ///
    /// # Errors
    /// [`DeadLetterError::NotContinued`] when it is unknown or has ended; otherwise as for a redrive.
    pub async fn resume(&self, id: &str, tools: &Tools<'_>) -> Result<Redriven, DeadLetterError> {
        let refuse = |why: &str| DeadLetterError::NotContinued { id: id.to_owned(), why: why.to_owned() };
        let known =
            redrives::find(self.of.db, id).await?.ok_or_else(|| refuse("there is none of this id"))?;
        if known.stage != self.of.stage.name {
            return Err(refuse(&format!("it is one of stage {}", known.stage)));
        }
        if known.ended_at_ms.is_some() {
            return Err(refuse("it came to its end"));
        }
        let wanted: Wanted =
            serde_json::from_str(&known.wanted).map_err(|_| refuse("what it was asked for can't be read"))?;
        self.begin(id, &wanted, tools, "dlq.redrive.continue").await?;
        let run = self.run(id, &wanted).await?;
        let now = self.of.clock.now_ms();
        let before = now - i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let unsent = redrives::take_over(self.of.db, self.shelf(), id, &run.runner, before, now).await?;
        let finished = self.finish(unsent, tools, &run).await?;
        let told = self.carry_out(&wanted, tools, &run).await?;
        Ok(Redriven { sent: told.sent + finished, ..told })
    }

    /// Appends what was claimed and isn't there. Gives how many.
    async fn finish(
        &self,
        unsent: Vec<Unsent>,
        tools: &Tools<'_>,
        run: &Run<'_>,
    ) -> Result<u64, DeadLetterError> {
        let mut lanes: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
        // Partition to be appended to → where to look from.
        let mut look_from: BTreeMap<i32, i64> = BTreeMap::new();
        for claimed in unsent {
            let letter = self.at(claimed.partition, claimed.offset).await?;
            let from = look_from.entry(letter.mark.source.partition).or_insert(claimed.target_end);
            *from = (*from).min(claimed.target_end);
            lanes.entry(claimed.lane).or_default().push(letter);
        }
        let mut there = BTreeSet::new();
        for (partition, from) in look_from {
            let (low, _) = run.ends.get(&partition).copied().unwrap_or_default();
            let from = ReadFrom::Offset(from.max(low));
            let mut reader = TopicReader::open(self.of.kafka, self.target(), Some(partition), from).await?;
            while let Some(record) = reader.next_to_end().await {
                if let Some((redrive, partition, offset)) = origin(&record)
                    && redrive == run.id
                {
                    there.insert((partition, offset));
                }
            }
        }
        let mut finished = 0;
        for (_, mut letters) in lanes {
            letters.sort_by(|a, b| (identity(a), a.record.offset).cmp(&(identity(b), b.record.offset)));
            // Of a task's letters only the newest is appended: it stands for all of them.
            let (mut done, mut open) = (Vec::new(), Vec::new());
            for task in letters.chunk_by(|a, b| identity(a) == identity(b)) {
                let is_there = task.iter().any(|letter| there.contains(&place(letter)));
                if is_there { &mut done } else { &mut open }.extend_from_slice(task);
            }
            let done: Vec<(i32, i64)> = done.iter().map(place).collect();
            redrives::sent(self.of.db, self.shelf(), &done, self.of.clock.now_ms()).await?;
            finished += self.append(&open, tools, run).await?;
        }
        Ok(finished)
    }
}
