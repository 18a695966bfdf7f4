//! The engine's port to stored cursors, over the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};

use super::gaps::GapNews;
use super::past::Archive;
use super::store_stage::place_of;
use crate::clock::Clock;
use crate::runtime::cursor::{
    Backfill, BackfillProgress, Claimed, CursorRow, CursorState, CursorStore, CursorWish, CursorWrite, Past,
    Running, StoreAnswer, Wish,
};
use crate::runtime::{ErrorClass, Failure, SourcePartition};
use crate::store::cursor_gaps::Gap;
use crate::store::positions::Place;
use crate::store::{StoreError, cursors};

/// The cursors of one stage, in the database, and the history of its source.
#[derive(Debug, Clone)]
pub(super) struct StoredCursors {
    archive: Archive,
    stage: Arc<str>,
    clock: Clock,
    /// Who tells of gaps, where somebody wants to know.
    news: Option<GapNews>,
}

impl StoredCursors {
    /// The cursors of the stage called `stage`.
    pub(super) fn new(archive: Archive, stage: &str, clock: Clock) -> Self {
        Self { archive, stage: stage.into(), clock, news: None }
    }

    /// The same, and `news` tells of gaps.
    pub(super) fn telling(self, news: Option<GapNews>) -> Self {
        Self { news, ..self }
    }

    fn place<'a>(&'a self, at: &'a SourcePartition) -> Place<'a> {
        place_of(&self.stage, at)
    }
}

impl CursorStore for StoredCursors {
    fn claim<'a>(&'a self, at: &'a SourcePartition, epoch: i64) -> BoxFuture<'a, Result<Claimed, Failure>> {
        async move {
            let claimed = cursors::claim(&self.archive.db, &self.place(at), epoch).await.map_err(away)?;
            Ok(match claimed {
                cursors::Claim::Ours(rows) => Claimed::Ours(rows.into_iter().map(row).collect()),
                cursors::Claim::Above(highest) => Claimed::Above(highest),
            })
        }
        .boxed()
    }

    fn store<'a>(
        &'a self,
        at: &'a SourcePartition,
        epoch: i64,
        write: &'a CursorWrite,
    ) -> BoxFuture<'a, Result<StoreAnswer, Failure>> {
        async move {
            let messages = match &self.news {
                Some(news) => news.events(&self.archive.db, at, &write.gaps).await?,
                None => Vec::new(),
            };
            let now_ms = self.clock.now_ms();
            let to_tell = self.news.is_some();
            let change = cursors::Change {
                messages,
                gone: write.gone.iter().map(|target| target.to_string()).collect(),
                cursors: write.rows.iter().map(cursor).collect(),
                gaps: write.gaps.iter().map(|one| gap(one, now_ms, to_tell)).collect(),
                backfills: write.backfills.iter().map(part).collect(),
                granted: write.granted.clone(),
            };
            let stored = cursors::store(&self.archive.db, &self.place(at), epoch, (&change, now_ms)).await;
            Ok(if stored.map_err(away)? { StoreAnswer::Stored } else { StoreAnswer::Lost })
        }
        .boxed()
    }

    fn wishes<'a>(
        &'a self,
        at: &'a SourcePartition,
    ) -> BoxFuture<'a, Result<Vec<(i64, CursorWish)>, Failure>> {
        async move {
            let wishes = cursors::wishes(&self.archive.db, &self.place(at)).await.map_err(away)?;
            // What a newer program asks and this one doesn't know waits for an owner that does.
            let known = wishes.into_iter().filter_map(|(id, asked)| {
                let wish = wish(&asked)?;
                Some((id, CursorWish { target: asked.target.into(), wish }))
            });
            Ok(known.collect())
        }
        .boxed()
    }

    fn ask<'a>(
        &'a self,
        at: &'a SourcePartition,
        wish: &'a CursorWish,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let asked = asked(wish);
            cursors::ask(&self.archive.db, &self.place(at), &asked).await.map_err(away)
        }
        .boxed()
    }

    fn past<'a>(
        &'a self,
        at: &'a SourcePartition,
        from: i64,
        to: i64,
    ) -> BoxFuture<'a, Result<Past, Failure>> {
        self.archive.read(at, from, to).boxed()
    }
}

fn wish(asked: &cursors::Wish) -> Option<Wish> {
    let id: Arc<str> = asked.backfill.as_deref()?.into();
    match asked.kind.as_str() {
        "backfill" => Some(Wish::Backfill(Backfill {
            id,
            from: asked.from?,
            to: asked.to,
            every: asked.every_micros.map(|micros| Duration::from_micros(micros.unsigned_abs())),
            newest_only: asked.newest_only,
        })),
        "cancel_backfill" => Some(Wish::CancelBackfill(id)),
        _ => None,
    }
}

fn asked(wish: &CursorWish) -> cursors::Wish {
    let (kind, id, backfill) = match &wish.wish {
        Wish::Backfill(backfill) => ("backfill", &backfill.id, Some(backfill)),
        Wish::CancelBackfill(id) => ("cancel_backfill", id, None),
    };
    cursors::Wish {
        target: wish.target.to_string(),
        kind: kind.to_owned(),
        from: backfill.map(|backfill| backfill.from),
        to: backfill.and_then(|backfill| backfill.to),
        backfill: Some(id.to_string()),
        every_micros: backfill.and_then(|backfill| backfill.every).map(micros),
        newest_only: backfill.is_some_and(|backfill| backfill.newest_only),
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn part(progress: &BackfillProgress) -> cursors::BackfillPart {
    let count = |events: u64| i64::try_from(events).unwrap_or(i64::MAX);
    cursors::BackfillPart {
        backfill: progress.id.to_string(),
        from: progress.from,
        at: progress.at,
        to: Some(progress.to),
        delivered: count(progress.delivered),
        set_aside: count(progress.set_aside),
        state: progress.state.as_str().to_owned(),
    }
}

/// A running backfill as it lies in the cursor's row.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    from: i64,
    to: i64,
    every_micros: Option<i64>,
    newest_only: bool,
    delivered: u64,
    set_aside: u64,
}

impl Kept {
    fn of(running: &Running) -> Self {
        Self {
            id: running.id.to_string(),
            from: running.from,
            to: running.to,
            every_micros: running.every.map(micros),
            newest_only: running.newest_only,
            delivered: running.delivered,
            set_aside: running.set_aside,
        }
    }

    fn running(self) -> Running {
        Running {
            id: self.id.into(),
            from: self.from,
            to: self.to,
            every: self.every_micros.map(|micros| Duration::from_micros(micros.unsigned_abs())),
            newest_only: self.newest_only,
            delivered: self.delivered,
            set_aside: self.set_aside,
        }
    }
}

fn away(error: StoreError) -> Failure {
    Failure::new(ErrorClass::Unavailable, error.to_string())
}

fn row(cursor: cursors::Cursor) -> CursorRow {
    CursorRow {
        target: cursor.target.into(),
        next: cursor.next,
        done: cursor.done,
        until: cursor.until,
        state: CursorState::parse(&cursor.state, cursor.reason.as_deref()),
        resume: cursor.resume,
        // Without it the stretch is delivered all the same, but nobody is told how far it is.
        backfill: cursor.backfill.and_then(|kept| Some(serde_json::from_str::<Kept>(&kept).ok()?.running())),
        // Without them tasks may be repeated, behind later ones: it is no loss.
        places: cursor.places.and_then(|runs| serde_json::from_str(&runs).ok()).unwrap_or_default(),
    }
}

fn cursor(row: &CursorRow) -> cursors::Cursor {
    let reason = match &row.state {
        CursorState::Held(why) => Some(why.to_string()),
        CursorState::Detached | CursorState::Attached => None,
    };
    cursors::Cursor {
        target: row.target.to_string(),
        next: row.next,
        done: row.done.clone(),
        until: row.until,
        state: row.state.as_str().to_owned(),
        reason,
        resume: row.resume,
        backfill: row.backfill.as_ref().map(|running| {
            serde_json::to_string(&Kept::of(running)).expect("texts and numbers are always JSON")
        }),
        places: (!row.places.is_empty())
            .then(|| serde_json::to_string(&row.places).expect("numbers are always JSON")),
    }
}

fn gap(gap: &crate::runtime::cursor::Gap, met_at: i64, to_tell: bool) -> Gap {
    Gap { target: gap.target.to_string(), from: gap.from, to: gap.to, met_at, to_tell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Vault;
    use crate::event::{Codec, RegistryOptions};
    use crate::runtime::cursor::suite;
    use crate::store::testing::each_engine;

    #[tokio::test]
    async fn the_database_keeps_cursors_as_the_port_asks() {
        each_engine(async |db| {
            let codec = Codec::new(&RegistryOptions::default()).unwrap();
            let archive = Archive { db, vault: Vault::ephemeral(), codec, keeper: None };
            suite::check(&StoredCursors::new(archive, "webhook", Clock::system())).await;
        })
        .await;
    }
}
