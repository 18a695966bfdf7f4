//! What the table says of a target as it is detached, read, taken back and stored.

use super::*;

#[test]
fn nothing_of_a_target_starts_beyond_the_place_that_the_reader_got_to() {
    let (target, mut cursors): (Arc<str>, _) = ("a".into(), Cursors::default());
    let from = Detached {
        admitted: 10,
        open: BTreeSet::from([4, 7]),
        waiting: BTreeSet::from([4]),
        ..Detached::default()
    };
    cursors.detach(&target, &from, None);
    assert_eq!(cursors.gate("a"), Some(4));
    assert!(cursors.dispatch("a", 4));
    assert_eq!(cursors.gate("a"), Some(5));
    cursors.reach("a", 4, 10, 10);
    assert_eq!(cursors.gate("a"), Some(10));
    let held = Some(Arc::from("paused"));
    cursors.detach(&target, &Detached { admitted: 10, ..Detached::default() }, held);
    assert_eq!(cursors.gate("a"), Some(i64::MIN));
}

/// A task that is parked counts as finished; taken back it is the cursor's only once the store says so, and neither what
/// the store holds already says that, nor a write that was under way.
#[test]
fn what_is_taken_back_completes_nothing_before_the_store_knows_of_it() {
    let (target, mut cursors): (Arc<str>, _) = ("a".into(), Cursors::default());
    let from = Detached { admitted: 10, ..Detached::default() };
    cursors.detach(&target, &from, None);
    assert!(cursors.dispatch("a", 10));
    cursors.finish("a", 10);
    let write = cursors.send();
    cursors.stored(write);
    assert!(cursors.is_stored_over("a", 12));
    cursors.reach("a", 11, 12, 12);
    let under_way = cursors.send();
    cursors.take_back("a", 10);
    assert!(!cursors.is_stored_over("a", 10), "the store says that it is finished");
    cursors.stored(under_way);
    assert!(!cursors.is_stored_over("a", 10), "still");
    assert!(cursors.dispatch("a", 10), "the reader brings it again");
    cursors.finish("a", 10);
    assert!(cursors.send().rows.is_empty(), "what the store holds is true again");
    assert!(cursors.is_stored_over("a", 10));
}
