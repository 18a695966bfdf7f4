//! What every keeper of cursors must do; run over each of them.

use std::time::Duration;

use super::{
    Backfill, Claimed, CursorRow, CursorState, CursorStore, CursorWish, CursorWrite, Gap, Running,
    StoreAnswer, Wish,
};
use crate::runtime::outcome::Failure;
use crate::runtime::record::SourcePartition;

fn at(partition: i32) -> SourcePartition {
    SourcePartition { cluster_id: "c".into(), topic: "t".into(), topic_id: "t".into(), partition }
}

fn row(target: &str, next: i64, until: Option<i64>) -> CursorRow {
    let state = if until.is_some() { CursorState::Attached } else { CursorState::Held("paused".into()) };
    let backfill = until.is_some().then(|| Running {
        id: "b".into(),
        from: 1,
        to: 9,
        every: Some(Duration::from_millis(250)),
        newest_only: true,
        delivered: 3,
        set_aside: 1,
    });
    let done = format!("map of {next}");
    let places = vec![(next, next + 2), (next + 5, next + 6)];
    CursorRow { target: target.into(), next, done, until, state, resume: Some(3), backfill, places }
}

fn write(rows: &[CursorRow]) -> CursorWrite {
    CursorWrite { rows: rows.to_vec(), ..CursorWrite::default() }
}

fn ours(rows: &[CursorRow]) -> Result<Claimed, Failure> {
    Ok(Claimed::Ours(rows.to_vec()))
}

/// Runs all of it over `store`, which is empty.
pub(crate) async fn check(store: &dyn CursorStore) {
    what_is_written_is_there_for_the_next_owner_of_that_partition_alone(store).await;
    who_claimed_highest_writes_and_nobody_else(store).await;
    wishes_wait_in_order_until_they_are_granted(store).await;
}

async fn what_is_written_is_there_for_the_next_owner_of_that_partition_alone(store: &dyn CursorStore) {
    let (first, other) = (at(0), at(1));
    assert_eq!(store.claim(&first, 1).await, ours(&[]));
    let rows = [row("a", 5, None), row("b", 7, Some(9))];
    let gaps = vec![Gap { target: "a".into(), from: 1, to: 5 }];
    let both = CursorWrite { gaps, ..write(&rows) };
    assert_eq!(store.store(&first, 1, &both).await, Ok(StoreAnswer::Stored));
    let changed = CursorWrite { gone: vec!["b".into()], ..write(&[row("a", 6, None)]) };
    assert_eq!(store.store(&first, 1, &changed).await, Ok(StoreAnswer::Stored));
    assert_eq!(store.claim(&other, 1).await, ours(&[]));
    assert_eq!(store.claim(&first, 2).await, ours(&[row("a", 6, None)]));
}

async fn who_claimed_highest_writes_and_nobody_else(store: &dyn CursorStore) {
    let (at, zombie, owner) = (at(2), 3, 7);
    assert_eq!(store.claim(&at, zombie).await, ours(&[]));
    assert_eq!(store.claim(&at, owner).await, ours(&[]));
    // Also the first row of a target is refused: nobody had to be there before.
    let late = store.store(&at, zombie, &write(&[row("a", 1, None)])).await;
    assert_eq!(late, Ok(StoreAnswer::Lost));
    for late in [zombie, owner] {
        assert_eq!(store.claim(&at, late).await, Ok(Claimed::Above(owner)));
    }
    assert_eq!(store.store(&at, owner, &write(&[row("a", 2, None)])).await, Ok(StoreAnswer::Stored));
    let late = CursorWrite { gone: vec!["a".into()], ..CursorWrite::default() };
    assert_eq!(store.store(&at, zombie, &late).await, Ok(StoreAnswer::Lost));
    assert_eq!(store.claim(&at, owner + 1).await, ours(&[row("a", 2, None)]));
}

async fn wishes_wait_in_order_until_they_are_granted(store: &dyn CursorStore) {
    let at = at(3);
    let (every, id) = (Some(Duration::from_micros(1_500)), || "b".into());
    let asked = [
        Wish::Backfill(Backfill { id: id(), from: 0, to: Some(7), every, newest_only: true }),
        Wish::Backfill(Backfill { id: id(), from: 0, to: None, every: None, newest_only: false }),
        Wish::CancelBackfill(id()),
    ];
    let asked = asked.map(|wish| CursorWish { target: "a".into(), wish });
    for wish in &asked {
        store.ask(&at, wish).await.expect("there");
    }
    let wishes = store.wishes(&at).await.expect("there");
    assert_eq!(wishes.iter().map(|(_, wish)| wish.clone()).collect::<Vec<_>>(), asked);
    assert_eq!(store.claim(&at, 1).await, ours(&[]));
    let granted = CursorWrite { granted: vec![wishes[0].0, wishes[1].0], ..CursorWrite::default() };
    assert_eq!(store.store(&at, 1, &granted).await, Ok(StoreAnswer::Stored));
    assert_eq!(store.wishes(&at).await.expect("there"), wishes[2..]);
}
