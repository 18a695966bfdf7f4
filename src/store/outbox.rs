//! Messages that leave with the effects they tell of: written in the same transaction, published later.
//!
//! The order of a key is the order of `sequence` within it, which holds because writers of one order work
//! one after another (a partition has one owner, and what else writes for an order locks its row first).
//! Publishing is `crate::outbox`'s business; this file stores, claims and deletes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::{Database, Engine, Row, StoreError, Transaction, Value, batch};

/// Keys are spread over this many buckets; each is relayed by one process at a time.
pub const BUCKETS: i64 = 16;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names the message: the event id, or for other messages an id made from what they tell of.
    pub id: Uuid,
    /// The tenant it is about.
    pub tenant: String,
    /// The topic (Debezium: `aggregatetype`).
    pub topic: String,
    /// The partition, where it matters (a dead letter stays in its partition); else the key decides.
    pub partition: Option<i32>,
    /// The record's key (Debezium: `aggregateid`); `None` is a record without one.
    pub key: Option<Vec<u8>>,
    /// The CloudEvents type, for readers of the table.
    pub kind: String,
    /// The record's value as it goes over the wire; `None` is a null value.
    pub payload: Option<Vec<u8>>,
    /// The record's headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the order of its key.
    pub sequence: i64,
    /// When it was written, epoch milliseconds.
    pub created_at: i64,
    /// The message.
    pub message: Message,
}

/// Adds `message` to what the transaction does. A message whose id is still waiting is not added twice.
///
/// # Errors
/// As the database says.
pub async fn append(tx: &mut Transaction, message: &Message, now_ms: i64) -> Result<(), StoreError> {
    append_all(tx, std::slice::from_ref(message), now_ms).await
}

macro_rules! append_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO outbox (id, tenant_id, aggregatetype, aggregateid, type, payload, partition, headers, bucket,
                                 created_at, exact_key) ",
            $rows,
            " ON CONFLICT (tenant_id, id) DO NOTHING"
        )
    };
}

/// Adds `messages`, in this order, to what the transaction does; otherwise as [`append`].
///
/// # Errors
/// As the database says.
pub async fn append_all(tx: &mut Transaction, messages: &[Message], now_ms: i64) -> Result<(), StoreError> {
    batch::write(
        tx,
        append_sql!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"),
        append_sql!(
            "SELECT id, tenant_id, topic, key, type, payload, partition, headers, bucket, created_at, exact_key
             FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BYTEA[], $7::BIGINT[],
                 $8::TEXT[], $9::BIGINT[], $10::BIGINT[], $11::BYTEA[]) WITH ORDINALITY
                 AS given (id, tenant_id, topic, key, type, payload, partition, headers, bucket, created_at,
                           exact_key, place)
             ORDER BY place"
        ),
        messages.iter().map(|message| message_values(message, now_ms)).collect::<Result<_, _>>()?,
    )
    .await
}

/// A row that holds no message: others write into the table, too. Its key can't go on before it is mended or deleted.
#[derive(Debug)]
pub struct Unreadable {
    /// Its place in the order of its key.
    pub sequence: i64,
    /// The topic.
    pub topic: String,
    /// The tenant.
    pub tenant: String,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// What is wrong with it.
    pub why: StoreError,
}

/// A bucket's oldest messages, and the right to publish them.
#[derive(Debug)]
pub struct Claim {
    /// In the order of `sequence`.
    pub messages: Vec<Stored>,
    /// Rows among them that hold none, in the same order.
    pub unreadable: Vec<Unreadable>,
    /// PostgreSQL: holds the bucket's row lock. SQLite serves one process, which has one relay.
    lock: Option<Transaction>,
}

/// The buckets that hold messages.
///
/// # Errors
/// As the database says.
pub async fn waiting_buckets(db: &Database) -> Result<Vec<i64>, StoreError> {
    let rows = db.rows("SELECT DISTINCT bucket FROM outbox", &[]).await?;
    rows.iter().map(|row| row.int("bucket")).collect()
}

/// Claims up to `limit` of the oldest messages of `bucket` whose sequence is above `last`; `None` when another process has it.
///
/// # Errors
/// As the database says.
pub async fn claim(db: &Database, bucket: i64, last: i64, limit: i64) -> Result<Option<Claim>, StoreError> {
    const OLDEST: &str =
        "SELECT * FROM outbox WHERE bucket = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
    let values: [Value<'_>; 3] = [bucket.into(), last.into(), limit.into()];
    let (rows, lock) = match db.engine() {
        Engine::Sqlite => (db.rows(OLDEST, &values).await?, None),
        Engine::Postgres => {
            let mut tx = db.begin().await?;
            let locked = tx
                .row(
                    "SELECT bucket FROM outbox_buckets WHERE bucket = $1 FOR UPDATE SKIP LOCKED",
                    &values[..1],
                )
                .await?;
            if locked.is_none() {
                return Ok(None);
            }
            (tx.rows(OLDEST, &values).await?, Some(tx))
        }
    };
    let (mut messages, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        match stored(row) {
            Ok(stored) => messages.push(stored),
            Err(why) => unreadable.push(Unreadable {
                sequence: row.int("sequence")?,
                topic: row.text("aggregatetype")?,
                tenant: row.text("tenant_id")?,
                key: key_of(row.text("aggregateid")?, row.opt_bytes("exact_key")?),
                why,
            }),
        }
    }
    Ok(Some(Claim { messages, unreadable, lock }))
}

impl Claim {
    /// Forgets the messages that Kafka acknowledged and gives the bucket back.
    ///
    /// # Errors
    /// As the database says; the messages are then published again, under the same ids.
    pub async fn finish(self, db: &Database, published: &[i64]) -> Result<(), StoreError> {
        let mut tx = match self.lock {
            Some(tx) => tx,
            None if published.is_empty() => return Ok(()),
            None => db.begin().await?,
        };
        delete(&mut tx, published).await?;
        tx.commit().await
    }
}

/// Forgets messages that Kafka acknowledged after their claim was given back.
///
/// # Errors
/// As the database says.
pub async fn forget(db: &Database, published: &[i64]) -> Result<(), StoreError> {
    if published.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    delete(&mut tx, published).await?;
    tx.commit().await
}

async fn delete(tx: &mut Transaction, published: &[i64]) -> Result<(), StoreError> {
    match tx.engine() {
        Engine::Postgres => {
            let sequences = Value::Ints(published.iter().copied().map(Some).collect());
            tx.execute("DELETE FROM outbox WHERE sequence = ANY($1::BIGINT[])", &[sequences]).await?;
        }
        Engine::Sqlite => {
            let sequences = serde_json::json!(published).to_string();
            tx.execute(
                "DELETE FROM outbox WHERE sequence IN (SELECT value FROM json_each($1))",
                &[sequences.into()],
            )
            .await?;
        }
    }
    Ok(())
}

/// How many messages wait, and since when the oldest does (epoch milliseconds).
///
/// # Errors
/// As the database says.
pub async fn depth(db: &Database) -> Result<(i64, Option<i64>), StoreError> {
    let row = db.row("SELECT COUNT(*) AS depth, MIN(created_at) AS oldest FROM outbox", &[]).await?;
    row.map_or(Ok((0, None)), |row| Ok((row.int("depth")?, row.opt_int("oldest")?)))
}

fn message_values(message: &Message, now_ms: i64) -> Result<[Value<'_>; 11], StoreError> {
    let headers: Vec<(&str, String)> =
        message.headers.iter().map(|(name, value)| (name.as_str(), STANDARD.encode(value))).collect();
    let headers = serde_json::to_string(&headers).map_err(|error| StoreError::Data(error.to_string()))?;
    let (text_key, exact_key) = columns_of(message.key.as_deref());
    let bucket = bucket(&message.topic, &text_key);
    Ok([
        message.id.into(),
        message.tenant.as_str().into(),
        message.topic.as_str().into(),
        text_key.into(),
        message.kind.as_str().into(),
        message.payload.as_deref().into(),
        message.partition.map(i64::from).into(),
        headers.into(),
        bucket.into(),
        now_ms.into(),
        exact_key.into(),
    ])
}

/// The columns of a key: its text, and its bytes where the text doesn't tell them.
fn columns_of(key: Option<&[u8]>) -> (String, Option<Vec<u8>>) {
    match key.map(|key| (key, std::str::from_utf8(key))) {
        None => (String::new(), None),
        Some((_, Ok(text))) if !text.is_empty() && !text.contains('\0') => (text.to_owned(), None),
        Some((key, _)) => (String::from_utf8_lossy(key).replace('\0', "\u{fffd}"), Some(key.to_vec())),
    }
}

/// What [`columns_of`] wrote.
fn key_of(text: String, exact: Option<Vec<u8>>) -> Option<Vec<u8>> {
    exact.or_else(|| (!text.is_empty()).then(|| text.into_bytes()))
}

/// The bucket of a key: FNV-1a over topic and key, the same in every process and version.
fn bucket(topic: &str, key: &str) -> i64 {
    let hash = topic.bytes().chain([0]).chain(key.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash % BUCKETS.unsigned_abs()).cast_signed()
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    let corrupt = |column: &str, reason: String| StoreError::Corrupt { column: column.to_owned(), reason };
    let id = row.text("id")?;
    let headers: Vec<(String, String)> =
        serde_json::from_str(&row.text("headers")?).map_err(|error| corrupt("headers", error.to_string()))?;
    let headers = headers
        .into_iter()
        .map(|(name, value)| STANDARD.decode(value).map(|value| (name, value)))
        .collect::<Result<_, _>>()
        .map_err(|error| corrupt("headers", error.to_string()))?;
    let partition = row.opt_int("partition")?;
    Ok(Stored {
        sequence: row.int("sequence")?,
        created_at: row.int("created_at")?,
        message: Message {
            id: id.parse().map_err(|_| corrupt("id", format!("{id} isn't a UUID")))?,
            tenant: row.text("tenant_id")?,
            topic: row.text("aggregatetype")?,
            partition: partition
                .map(i32::try_from)
                .transpose()
                .map_err(|error| corrupt("partition", error.to_string()))?,
            key: key_of(row.text("aggregateid")?, row.opt_bytes("exact_key")?),
            kind: row.text("type")?,
            payload: row.opt_bytes("payload")?,
            headers,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn message(key: &str, kind: &str) -> Message {
        Message {
            id: Uuid::new_v4(),
            tenant: "shop".to_owned(),
            topic: "orders.events".to_owned(),
            partition: Some(4),
            key: Some(key.as_bytes().to_vec()),
            kind: kind.to_owned(),
            payload: Some(vec![0, 1, 255]),
            headers: vec![("ce_id".to_owned(), b"x".to_vec()), ("raw".to_owned(), vec![0, 255])],
        }
    }

    #[tokio::test]
    async fn messages_come_back_whole_and_in_order_until_they_are_published() {
        each_engine(async |db| {
            let (first, second) = (message("o-1", "a"), message("o-1", "b"));
            let mut tx = db.begin().await.unwrap();
            append(&mut tx, &first, 5).await.unwrap();
            append(&mut tx, &second, 6).await.unwrap();
            append(&mut tx, &second, 7).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(depth(&db).await.unwrap(), (2, Some(5)));

            let bucket = bucket("orders.events", "o-1");
            let claimed = claim(&db, bucket, 0, 10).await.unwrap().unwrap();
            let found: Vec<_> = claimed.messages.iter().map(|stored| stored.message.clone()).collect();
            assert_eq!(found, [first, second.clone()]);
            let done = [claimed.messages[0].sequence];
            claimed.finish(&db, &done).await.unwrap();

            let rest = claim(&db, bucket, 0, 10).await.unwrap().unwrap();
            assert_eq!(rest.messages.iter().map(|stored| &stored.message).collect::<Vec<_>>(), [&second]);
            assert_eq!(rest.messages[0].created_at, 6, "the repeat changed nothing");
        })
        .await;
    }

    #[tokio::test]
    async fn a_row_that_holds_no_message_is_told_apart_from_those_that_do() {
        each_engine(async |db| {
            let mut tx = db.begin().await.unwrap();
            append_all(&mut tx, &[message("o-1", "a"), message("o-1", "b")], 5).await.unwrap();
            tx.execute("UPDATE outbox SET headers = 'content-type: application/avro' WHERE type = 'a'", &[])
                .await
                .unwrap();
            tx.commit().await.unwrap();
            let claimed = claim(&db, bucket("orders.events", "o-1"), 0, 10).await.unwrap().unwrap();
            let [bad] = &claimed.unreadable[..] else { panic!("{claimed:?}") };
            assert_eq!((bad.topic.as_str(), bad.key.as_deref()), ("orders.events", Some(&b"o-1"[..])));
            assert!(bad.why.to_string().contains("headers"), "{}", bad.why);
            assert_eq!(claimed.messages.len(), 1);
            assert!(claimed.messages[0].sequence > bad.sequence);
        })
        .await;
    }

    #[tokio::test]
    async fn equal_ids_of_two_tenants_are_two_messages() {
        each_engine(async |db| {
            let ours = message("o-1", "a");
            let theirs = Message { tenant: "other".to_owned(), ..ours.clone() };
            let mut tx = db.begin().await.unwrap();
            append_all(&mut tx, &[ours, theirs], 5).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(depth(&db).await.unwrap().0, 2);
        })
        .await;
    }

    #[test]
    fn every_key_comes_back_byte_for_byte() {
        let keys: [Option<&[u8]>; 6] =
            [None, Some(b""), Some(b"o-1"), Some("ö".as_bytes()), Some(b"a\0b"), Some(&[0xff, 0])];
        for key in keys {
            let (text, exact) = columns_of(key);
            assert!(!text.contains('\0'), "PostgreSQL's text holds no NUL");
            assert_eq!(key_of(text, exact).as_deref(), key);
        }
    }

    #[tokio::test]
    async fn a_bucket_is_claimed_by_one_process_at_a_time() {
        each_engine(async |db| {
            let held = claim(&db, 0, 0, 10).await.unwrap().unwrap();
            if db.engine() == Engine::Postgres {
                assert!(claim(&db, 0, 0, 10).await.unwrap().is_none());
                assert!(claim(&db, 1, 0, 10).await.unwrap().is_some());
            }
            held.finish(&db, &[]).await.unwrap();
            assert!(claim(&db, 0, 0, 10).await.unwrap().is_some());
        })
        .await;
    }
}
