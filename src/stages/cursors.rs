//! The engine's port to stored cursors, over the store.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::store_stage::place_of;
use crate::runtime::cursor::{
    Claimed, CursorRow, CursorState, CursorStore, CursorWish, CursorWrite, StoreAnswer, Wish,
};
use crate::runtime::{ErrorClass, Failure, SourcePartition};
use crate::store::positions::Place;
use crate::store::{Database, StoreError, cursors};

/// The cursors of one stage, in the database.
#[derive(Debug, Clone)]
pub(super) struct StoredCursors {
    db: Database,
    stage: Arc<str>,
}

impl StoredCursors {
    /// The cursors of the stage called `stage`.
    pub(super) fn new(db: Database, stage: &str) -> Self {
        Self { db, stage: stage.into() }
    }

    fn place<'a>(&'a self, at: &'a SourcePartition) -> Place<'a> {
        place_of(&self.stage, at)
    }
}

impl CursorStore for StoredCursors {
    fn claim<'a>(&'a self, at: &'a SourcePartition) -> BoxFuture<'a, Result<Claimed, Failure>> {
        async move {
            let (epoch, rows) = cursors::claim(&self.db, &self.place(at)).await.map_err(away)?;
            Ok(Claimed { epoch, rows: rows.into_iter().map(row).collect() })
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
            let change = cursors::Change {
                gone: write.gone.iter().map(|target| target.to_string()).collect(),
                cursors: write.rows.iter().map(cursor).collect(),
                gaps: write.gaps.iter().map(gap).collect(),
                granted: write.granted.clone(),
            };
            let stored = cursors::store(&self.db, &self.place(at), epoch, &change).await.map_err(away)?;
            Ok(if stored { StoreAnswer::Stored } else { StoreAnswer::Lost })
        }
        .boxed()
    }

    fn wishes<'a>(
        &'a self,
        at: &'a SourcePartition,
    ) -> BoxFuture<'a, Result<Vec<(i64, CursorWish)>, Failure>> {
        async move {
            let wishes = cursors::wishes(&self.db, &self.place(at)).await.map_err(away)?;
            // What a newer program asks and this one doesn't know waits for an owner that does.
            let known = wishes.into_iter().filter_map(|(id, wish)| {
                let what = Wish::parse(&wish.kind, wish.from)?;
                Some((id, CursorWish { target: wish.target.into(), wish: what }))
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
            let asked = cursors::Wish {
                target: wish.target.to_string(),
                kind: wish.wish.as_str().to_owned(),
                from: wish.wish.offset(),
            };
            cursors::ask(&self.db, &self.place(at), &asked).await.map_err(away)
        }
        .boxed()
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
    }
}

fn gap(gap: &crate::runtime::cursor::Gap) -> cursors::Gap {
    cursors::Gap { target: gap.target.to_string(), from: gap.from, to: gap.to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cursor::suite;
    use crate::store::testing::each_engine;

    #[tokio::test]
    async fn the_database_keeps_cursors_as_the_port_asks() {
        each_engine(async |db| suite::check(&StoredCursors::new(db, "webhook")).await).await;
    }
}
