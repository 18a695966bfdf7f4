//! One small way to talk to either engine.
//!
//! Statements are written once, with `$1` placeholders and the SQL that PostgreSQL and SQLite share. Where
//! they must differ, a subject asks [`Database::engine`]. SQLite takes one writer at a time, so its write
//! transactions queue here, in order, instead of fighting for the file's lock.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sqlx::Connection as _;
use sqlx::postgres::{PgArguments, PgBindIterExt as _, PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Row, StoreError, Value, migrations};
use crate::crypto::Secret;
use crate::task::Home;

/// `[store]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// `postgres://user:password@host/database`, or `sqlite://path/to/file.db`. It holds a password.
    pub url: Secret<String>,
    /// How many connections at most.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as away.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Seals secrets and personal data: 32 bytes in base64.
    pub encryption_key: Option<Secret<String>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            url: Secret::new("sqlite://orderflow.db".to_owned()),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            encryption_key: None,
        }
    }
}

/// Which database is behind a [`Database`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL, for clusters.
    Postgres,
    /// SQLite, for one machine.
    Sqlite,
}

/// A pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    /// Where connections are opened: whoever needs one first may run on a thread that ends while others use it.
    home: Home,
}

#[derive(Debug, Clone)]
enum Pool {
    Postgres(PgPool),
    Sqlite { pool: SqlitePool, writer: Arc<Mutex<()>> },
}

impl Database {
    /// A pool for `options.url`. It connects when it is first used, so it can be made while the database is
    /// away.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when the URL can't be understood.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let url = options.url.expose();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let connect: PgConnectOptions = url.parse().map_err(bad_url)?;
            let pool = PgPoolOptions::new()
                .max_connections(options.max_connections)
                .acquire_timeout(options.acquire_timeout)
                .connect_lazy_with(connect.application_name("orderflow"));
            return Ok(Self { pool: Pool::Postgres(pool), home: Home::here() });
        }
        if url.starts_with("sqlite:") {
            let connect = url
                .parse::<SqliteConnectOptions>()
                .map_err(bad_url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(10));
            let pool = SqlitePoolOptions::new()
                .max_connections(options.max_connections)
                .acquire_timeout(options.acquire_timeout)
                // SQLite itself rolls back when the disk is full. sqlx's own rollback then fails, and the connection
                // counts as within a transaction for ever: no other could begin on it.
                .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
                .connect_lazy_with(connect);
            let pool = Pool::Sqlite { pool, writer: Arc::default() };
            return Ok(Self { pool, home: Home::here() });
        }
        Err(StoreError::Settings("must begin with postgres:// or sqlite://".to_owned()))
    }

    /// Which database this is.
    pub fn engine(&self) -> Engine {
        match &self.pool {
            Pool::Postgres(_) => Engine::Postgres,
            Pool::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// Brings the schema up to date. Safe to call from many processes at once.
    ///
    /// # Errors
    /// When the database is away, or holds a schema of a newer program.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.pool {
            Pool::Postgres(pool) => migrations::postgres().run(pool).await?,
            Pool::Sqlite { pool, .. } => migrations::sqlite().run(pool).await?,
        }
        Ok(())
    }

    /// Asks for an answer, nothing more: is the database there?
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it isn't.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.row("SELECT 1 AS one", &[]).await.map(drop)
    }

    /// Begins a transaction that may write. Dropping it rolls back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection is to be had in time.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => {
                let pool = pool.clone();
                let begun =
                    self.home.run("begin a transaction", Box::pin(async move { pool.begin().await })).await;
                Transaction(Open::Postgres(begun.ok_or_else(ended)??))
            }
            Pool::Sqlite { pool, writer } => {
                let turn = Arc::clone(writer).lock_owned().await;
                Transaction(Open::Sqlite { inner: pool.begin_with("BEGIN IMMEDIATE").await?, _turn: turn })
            }
        })
    }

    /// All rows that `sql` finds, outside a transaction.
    ///
    /// # Errors
    /// As the database says; see [`StoreError`].
    pub async fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => {
                let arguments = postgres_arguments(values)?;
                let connected = self.home.run("get a connection", Box::pin(pool.acquire())).await;
                let mut connection = connected.ok_or_else(ended)??;
                let rows = sqlx::query_with(sql, arguments).fetch_all(&mut *connection).await?;
                rows.into_iter().map(Row::from).collect()
            }
            Pool::Sqlite { pool, .. } => {
                let rows = sqlx::query_with(sql, sqlite_arguments(values)?).fetch_all(pool).await?;
                rows.into_iter().map(Row::from).collect()
            }
        })
    }

    /// The first row that `sql` finds, outside a transaction.
    ///
    /// # Errors
    /// As the database says; see [`StoreError`].
    pub async fn row(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Closes the pool; what is in use ends first.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite { pool, .. } => pool.close().await,
        }
    }
}

/// Work that takes effect as a whole or not at all. Dropped without [`Transaction::commit`], it is undone.
#[derive(Debug)]
pub struct Transaction(Open);

#[derive(Debug)]
enum Open {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Sqlite { inner: sqlx::Transaction<'static, sqlx::Sqlite>, _turn: OwnedMutexGuard<()> },
}

impl Transaction {
    /// Which database this is.
    pub fn engine(&self) -> Engine {
        match &self.0 {
            Open::Postgres(_) => Engine::Postgres,
            Open::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// Runs `sql` and gives how many rows it touched.
    ///
    /// # Errors
    /// As the database says; see [`StoreError`].
    pub async fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        Ok(match &mut self.0 {
            Open::Postgres(tx) => {
                sqlx::query_with(sql, postgres_arguments(values)?).execute(&mut **tx).await?.rows_affected()
            }
            Open::Sqlite { inner, .. } => {
                sqlx::query_with(sql, sqlite_arguments(values)?).execute(&mut **inner).await?.rows_affected()
            }
        })
    }

    /// All rows that `sql` finds or returns.
    ///
    /// # Errors
    /// As the database says; see [`StoreError`].
    pub async fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        Ok(match &mut self.0 {
            Open::Postgres(tx) => {
                let rows = sqlx::query_with(sql, postgres_arguments(values)?).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::from).collect()
            }
            Open::Sqlite { inner, .. } => {
                let rows = sqlx::query_with(sql, sqlite_arguments(values)?).fetch_all(&mut **inner).await?;
                rows.into_iter().map(Row::from).collect()
            }
        })
    }

    /// The first row that `sql` finds or returns.
    ///
    /// # Errors
    /// As the database says; see [`StoreError`].
    pub async fn row(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Makes it last.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the answer is lost: it may or may not have taken effect.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0 {
            Open::Postgres(tx) => tx.commit().await?,
            Open::Sqlite { inner, _turn } => inner.commit().await?,
        }
        Ok(())
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the program ends".to_owned())
}

fn bad_url(error: sqlx::Error) -> StoreError {
    StoreError::Settings(format!("can't be understood: {error}"))
}

fn postgres_arguments(values: &[Value<'_>]) -> Result<PgArguments, StoreError> {
    use sqlx::Arguments as _;
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value.as_deref()),
            Value::Bytes(value) => arguments.add(value.as_deref()),
            Value::Ints(values) => arguments.add(values),
            Value::Texts(values) => arguments.add(values),
            Value::Blobs(values) => arguments.add(values.iter().map(Option::as_deref).bind_iter()),
        };
        added.map_err(|error| StoreError::Data(error.to_string()))?;
    }
    Ok(arguments)
}

fn sqlite_arguments(values: &[Value<'_>]) -> Result<SqliteArguments, StoreError> {
    use sqlx::Arguments as _;
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value.as_deref()),
            Value::Bytes(value) => arguments.add(value.as_deref()),
            Value::Ints(_) | Value::Texts(_) | Value::Blobs(_) => {
                return Err(StoreError::Data("SQLite has no arrays".to_owned()));
            }
        };
        added.map_err(|error| StoreError::Data(error.to_string()))?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use crate::store::Engine;
    use crate::store::testing::each_engine;
    use crate::task::on_own_thread;

    /// A stage that ends, or starts again, takes nobody's connection with it.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_opened_for_a_thread_that_ended_is_used_by_others() {
        each_engine(async |db| {
            let there = db.clone();
            let asks = move || async move {
                let (one, other, tx) = tokio::join!(there.ping(), there.ping(), there.begin());
                one.and(other).unwrap();
                tx.unwrap().commit().await.unwrap();
            };
            on_own_thread("asks".to_owned(), asks).await.unwrap();
            for _ in 0..5 {
                let (one, other, tx) = tokio::join!(db.ping(), db.ping(), db.begin());
                one.and(other).unwrap();
                tx.unwrap().commit().await.unwrap();
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_that_the_database_rolled_back_itself_spoils_no_connection() {
        each_engine(async |db| {
            for _ in 0..10 {
                let mut tx = db.begin().await.unwrap();
                // What SQLite does when it finds no room.
                if db.engine() == Engine::Sqlite {
                    tx.execute("ROLLBACK", &[]).await.unwrap();
                }
                drop(tx);
            }
            let mut tx = db.begin().await.unwrap();
            tx.row("SELECT 1 AS one", &[]).await.unwrap();
            tx.commit().await.unwrap();
        })
        .await;
    }
}
