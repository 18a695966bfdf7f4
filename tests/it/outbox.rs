//! The outbox on real services: what can't be published holds up nothing but its own key.

use std::time::Duration;

use orderflow::runtime::Record;
use orderflow::stages::StageOptions;
use orderflow::store::outbox::{self, Message};
use uuid::Uuid;

use crate::harness::eventually;
use crate::harness::program::TestProgram;

const SOON: Duration = Duration::from_secs(30);
/// More than the relay takes at once.
const STUCK: usize = 700;
/// So many keys that some lie in the same bucket as the stuck ones.
const KEYS: usize = 200;

fn message(topic: &str, key: &str, number: usize) -> Message {
    Message {
        id: Uuid::now_v7(),
        tenant: "shop".to_owned(),
        topic: topic.to_owned(),
        partition: None,
        key: Some(key.as_bytes().to_vec()),
        kind: "test".to_owned(),
        payload: Some(number.to_string().into_bytes()),
        headers: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_missing_topic_hold_up_no_other_key() {
    let mut program = TestProgram::new("outbox", StageOptions::default()).await;
    let (missing, there) = (program.kafka.name("missing"), program.kafka.name("there"));
    program.kafka.create(std::slice::from_ref(&there), 3).await;
    let stuck = (0..STUCK).map(|number| message(&missing, "stuck", number));
    let others = (0..2 * KEYS).map(|number| message(&there, &format!("k-{}", number % KEYS), number));
    let messages: Vec<_> = stuck.chain(others).collect();
    let mut tx = program.parts.db.begin().await.expect("the store answers");
    outbox::append_all(&mut tx, &messages, 1).await.expect("written");
    tx.commit().await.expect("committed");

    program.start(&[]);
    let waiting = async || outbox::depth(&program.parts.db).await.expect("the store answers").0;
    eventually("all but the stuck ones have left", SOON, async || waiting().await == STUCK as i64).await;
    assert_eq!(program.kafka.all(&there).await.len(), 2 * KEYS);

    program.kafka.create(std::slice::from_ref(&missing), 1).await;
    eventually("the stuck ones follow", 4 * SOON, async || waiting().await == 0).await;
    let records = program.kafka.all(&missing).await;
    let numbers: Vec<_> = records.iter().map(crate::harness::kafka::text).collect();
    let expected: Vec<_> = (0..STUCK).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected, "each once, in order");
    program.end().await;
}

/// What the records of the key `bad` say, in their order; the first two come in any, as they are of two tenants.
fn of_bad(records: &[Record]) -> Vec<String> {
    let of_bad = records.iter().filter(|record| record.key.as_deref() == Some(b"bad"));
    let mut numbers: Vec<_> = of_bad.map(crate::harness::kafka::text).collect();
    numbers[..2].sort();
    numbers
}

/// Anybody may write into the table, so a row may hold anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_holds_up_its_key_alone_until_it_is_mended() {
    let mut program = TestProgram::new("outbox-bad", StageOptions::default()).await;
    let there = program.kafka.name("there");
    program.kafka.create(std::slice::from_ref(&there), 3).await;
    let bad = |number| message(&there, "bad", number);
    let others = (0..2 * KEYS).map(|number| message(&there, &format!("k-{}", number % KEYS), number));
    let theirs = Message { tenant: "other".to_owned(), ..bad(3) };
    let messages: Vec<_> = [bad(0), bad(1), bad(2), theirs].into_iter().chain(others).collect();
    let (id, db) = (messages[1].id.to_string(), program.parts.db.clone());
    let mut tx = db.begin().await.expect("the store answers");
    outbox::append_all(&mut tx, &messages, 1).await.expect("written");
    tx.execute("UPDATE outbox SET headers = 'none' WHERE id = $1", &[id.as_str().into()])
        .await
        .expect("written");
    tx.commit().await.expect("committed");

    program.start(&[]);
    let waiting = async || outbox::depth(&db).await.expect("the store answers").0;
    eventually("all but the bad one and what is behind it have left", SOON, async || waiting().await == 2)
        .await;
    assert_eq!(
        of_bad(&program.kafka.all(&there).await),
        ["0", "3"],
        "another tenant's equal key doesn't wait"
    );
    let mut tx = db.begin().await.expect("the store answers");
    tx.execute("UPDATE outbox SET headers = '[]' WHERE id = $1", &[id.as_str().into()])
        .await
        .expect("written");
    tx.commit().await.expect("committed");
    eventually("they follow", SOON, async || waiting().await == 0).await;
    let records = program.kafka.all(&there).await;
    assert_eq!(records.len(), 2 * KEYS + 4);
    assert_eq!(of_bad(&records), ["0", "3", "1", "2"], "each once, in order");
    program.end().await;
}
