//! A member's process: this binary again, as one ignored test that does nothing unless it is given its orders.
//!
//! It runs the effect stage `courier` and, if it is told to, the program's own `history` stage; says on standard output
//! how it is; leaves on SIGTERM; and ends when its parent is gone.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::clock::Clock;
use orderflow::crypto::{Secret, Vault};
use orderflow::event::{Codec, RegistryOptions};
use orderflow::runtime::{
    Answered, EffectStage, Environment, ErrorClass, Failure, Intake, KafkaOptions, Outcome, Owed, Producer,
    Progress, Record, RuntimeOptions, SkipReason, StageHandle, StageSpec, StartAt, Task, Tasks, cluster_id,
    start_effect_stage,
};
use orderflow::stages::{self, Parts, StageOptions};
use orderflow::store::{Database, StoreOptions};
use orderflow::telemetry::Metrics;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::member::{Orders, Status, StoreOrders};
use crate::store_part::topology;

/// The variable that holds a member's orders.
pub(crate) const VARIABLE: &str = "ORDERFLOW_FAULTS_MEMBER";
/// The name of the test that is a member.
pub(crate) const TEST: &str = "member_process::this_process_is_a_member";
/// What every member of a run seals with: 32 bytes of nought.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// How often positions are committed.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a member's process, which the other tests start"]
async fn this_process_is_a_member() {
    let Ok(orders) = std::env::var(VARIABLE) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders");
    let filter = tracing_subscriber::EnvFilter::new("warn,orderflow=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let kafka = KafkaOptions {
        bootstrap_servers: orders.servers.clone(),
        session_timeout: Duration::from_millis(orders.session_timeout_ms),
        heartbeat_interval: Duration::from_millis(300),
        group_instance_id: orders.instance.clone(),
        ..KafkaOptions::default()
    };
    let env = Environment {
        producer: Producer::new(&kafka).expect("settings are accepted"),
        kafka,
        metrics: Metrics::new(),
        clock: Clock::system(),
    };
    let stop = CancellationToken::new();
    let courier = Courier {
        outside: orders.outside.clone(),
        member: orders.member,
        concurrency: orders.concurrency,
        patience: Duration::from_millis(orders.patience_ms),
        idle: Mutex::default(),
    };
    let mut handles = vec![start_effect_stage(spec(&orders), Arc::new(courier), env.clone(), stop.clone())];
    if let Some(store) = &orders.store {
        handles.extend(start_history(store, env, &stop).await);
    }
    let mut terminated = signal(SignalKind::terminate()).expect("a signal handler");
    // A thread of its own: one that waits for input would hold up the end of the async runtime.
    orderflow::task::spawn_thread("parent", || {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3)
    })
    .expect("a thread");
    let mut said = Status::default();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = terminated.recv() => break,
            _ = tick.tick() => say(&mut said, &handles, None),
        }
        assert!(!handles.iter().any(|handle| handle.join.is_finished()), "a stage ended by itself");
    }
    stop.cancel();
    let mut drained = true;
    for handle in &mut handles {
        drained &= (&mut handle.join).await.expect("no panic").expect("no error").drained;
    }
    say(&mut said, &handles, Some(drained));
}

/// Says how this member is, if that is news.
fn say(said: &mut Status, handles: &[StageHandle], drained: Option<bool>) {
    let all: Vec<Progress> = handles.iter().map(|handle| handle.progress.borrow().clone()).collect();
    let status = Status {
        partitions: all[0].partitions.len(),
        is_caught_up: all[0].is_caught_up(),
        parked: all[0].balance.parked,
        balance_holds: all.iter().all(|progress| progress.balance.holds()),
        balances: all.iter().map(|progress| format!("{:?}", progress.balance)).collect::<Vec<_>>().join(" "),
        faults: all.iter().flat_map(|progress| progress.faults()).map(ToString::to_string).collect(),
        drained,
    };
    if status != *said {
        let mut line = serde_json::to_vec(&status).expect("JSON");
        line.push(b'\n');
        // A parent that is gone is noticed elsewhere.
        let _ = std::io::stdout().write_all(&line);
        *said = status;
    }
}

fn spec(orders: &Orders) -> StageSpec {
    StageSpec {
        stage: "courier".to_owned(),
        group: orders.group.clone(),
        source: orders.source.clone(),
        retry: Some(orders.retry.clone()),
        dead_letters: orders.dead_letters.clone(),
        start: StartAt::Earliest,
        control: Default::default(),
        cursors: None,
        options: RuntimeOptions {
            concurrency: orders.concurrency,
            completed_runs_map: orders.completed_runs_map,
            commit_interval: COMMIT_INTERVAL,
            in_place_limit: Duration::from_millis(50),
            revoke_drain: Duration::from_secs(1),
            shutdown_drain: Duration::from_secs(5),
            ..RuntimeOptions::default()
        },
    }
}

async fn start_history(orders: &StoreOrders, env: Environment, stop: &CancellationToken) -> Vec<StageHandle> {
    let store = StoreOptions {
        url: Secret::new(orders.database.clone()),
        acquire_timeout: Duration::from_secs(2),
        ..StoreOptions::default()
    };
    let registry = RegistryOptions {
        url: orders.registry.clone(),
        timeout: Duration::from_secs(2),
        ..RegistryOptions::default()
    };
    let cluster_id = cluster_id(&env.kafka, None, &env.clock, stop).await.expect("no time is set");
    let parts = Parts {
        env,
        cluster_id: cluster_id.expect("nobody stopped"),
        db: Database::open(&store).expect("a valid URL"),
        vault: Vault::from_base64(&Secret::new(KEY.to_owned())).expect("32 bytes"),
        codec: Codec::new(&registry).expect("settings are accepted"),
        topology: Arc::new(topology(&orders.topic_prefix)),
        options: Arc::new(StageOptions {
            runtime: RuntimeOptions {
                batch_records: 20,
                commit_interval: COMMIT_INTERVAL,
                ..RuntimeOptions::default()
            },
            ..StageOptions::default()
        }),
        traffic: stages::webhook::Traffic::default(),
    };
    stages::start(&parts, &["history".to_owned()], stop).expect("it is declared")
}

/// Records are `lane number`; each opens one task, whose effect is a request to the outside.
struct Courier {
    outside: String,
    member: u32,
    concurrency: usize,
    patience: Duration,
    /// Connections that wait for the next request.
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Courier {
    async fn ask(&self, lane: &str, number: u32, attempt: u32) -> std::io::Result<Outcome> {
        let idle = self.idle.lock().expect("no panic").pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect(&self.outside).await?;
                connection.set_nodelay(true)?;
                BufReader::new(connection)
            }
        };
        let request = format!("{} {lane} {number} {attempt}\n", self.member);
        connection.get_mut().write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        let outcome = match answer.trim_end().split_once(' ') {
            None if answer == "done\n" => Outcome::Done,
            None if answer == "dead\n" => {
                Outcome::Dead(Failure::new(ErrorClass::Rejected, "refused for good"))
            }
            Some(("retry", after)) => come_back(after.parse().map_err(std::io::Error::other)?),
            Some(_) | None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
        self.idle.lock().expect("no panic").push(connection);
        Ok(outcome)
    }
}

fn come_back(after_ms: u64) -> Outcome {
    Outcome::Retry {
        after: Duration::from_millis(after_ms),
        why: Failure::new(ErrorClass::Unavailable, "come back later"),
    }
}

impl EffectStage for Courier {
    type Input = (String, u32);

    fn name(&self) -> &str {
        "courier"
    }

    async fn decode(&self, record: &Record) -> Intake<Self::Input> {
        let Some(payload) = &record.payload else { return Intake::Skipped(SkipReason::Tombstone) };
        let text = std::str::from_utf8(payload).ok().and_then(|text| text.split_once(' '));
        match text.and_then(|(lane, number)| Some((lane.to_owned(), number.parse().ok()?))) {
            Some(input) => Intake::Ready(input),
            None => Intake::Dead(Failure::new(ErrorClass::Decode, "not a lane and a number")),
        }
    }

    async fn open(&self, _record: &Record, (lane, _): &Self::Input, tasks: &mut Tasks) -> Intake<()> {
        let target = if lane.len().is_multiple_of(2) { "even" } else { "odd" };
        tasks.push(lane, &target.into(), 100);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<Self::Input>) -> Outcome {
        let (lane, number) = &*task.input;
        match tokio::time::timeout(self.patience, self.ask(lane, *number, task.attempt)).await {
            Ok(Ok(outcome)) => outcome,
            // In place for a while, then parked.
            Ok(Err(_)) | Err(_) => come_back(if task.attempt < 3 { 40 } else { 400 }),
        }
    }

    /// Every third attempt holds only once it is on record, which takes up to a fiftieth of a second.
    async fn answer(&self, task: &Task<Self::Input>) -> Answered {
        let (outcome, (_, number)) = (self.run(task).await, &*task.input);
        let takes = Duration::from_millis(u64::from(number % 20));
        let owed = number.is_multiple_of(3).then(|| -> Owed {
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                Ok(())
            })
        });
        Answered { outcome, owed }
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        self.concurrency
    }
}
