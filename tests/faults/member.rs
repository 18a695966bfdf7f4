//! A member as the test sees it: a process of its own that says how it is and can be killed, frozen and stopped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::task;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::broker::signal;
use crate::member_process;

/// A member that takes longer than this to leave hangs.
const LEAVES_WITHIN: Duration = Duration::from_secs(25);

/// What a member has to know; it travels in a variable of its environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) member: u32,
    pub(crate) servers: String,
    pub(crate) session_timeout_ms: u64,
    pub(crate) instance: Option<String>,
    pub(crate) concurrency: usize,
    pub(crate) patience_ms: u64,
    pub(crate) completed_runs_map: bool,
    pub(crate) outside: String,
    pub(crate) group: String,
    pub(crate) source: String,
    pub(crate) retry: String,
    pub(crate) dead_letters: String,
    pub(crate) store: Option<StoreOrders>,
}

/// The same for the store stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoreOrders {
    pub(crate) database: String,
    pub(crate) registry: String,
    pub(crate) topic_prefix: String,
}

/// What a member says of itself, as one line whenever it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Source partitions of the effect stage.
    pub(crate) partitions: usize,
    pub(crate) is_caught_up: bool,
    pub(crate) parked: u64,
    /// Invariant 7 (balance), of every stage.
    pub(crate) balance_holds: bool,
    pub(crate) balances: String,
    pub(crate) faults: Vec<String>,
    /// Whether all was drained and committed, once it left.
    pub(crate) drained: Option<bool>,
}

pub(crate) struct Member {
    pub(crate) id: u32,
    pub(crate) status: watch::Receiver<Status>,
    /// Balances that didn't hold, at any moment.
    pub(crate) broken: Arc<Mutex<Vec<String>>>,
    pub(crate) log: PathBuf,
    child: Child,
    pid: String,
    /// It ends when this does; waiting for the child would close what the child holds itself.
    _tie: Option<ChildStdin>,
}

impl Member {
    /// Starts the process; what it logs goes to a file in `folder`.
    pub(crate) fn start(orders: &Orders, folder: &Path) -> Self {
        let log = folder.join(format!("member-{}.log", orders.member));
        let file = std::fs::File::create(&log).expect("a log");
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([member_process::TEST, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(member_process::VARIABLE, serde_json::to_string(orders).expect("JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let (sender, status) = watch::channel(Status { balance_holds: true, ..Status::default() });
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let broken: Arc<Mutex<Vec<String>>> = Arc::default();
        let breaks = Arc::clone(&broken);
        task::spawn("a member's words", async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // The first word of a line may be the test runner's.
                let Some(at) = line.find('{') else { continue };
                let Ok(status) = serde_json::from_str::<Status>(&line[at..]) else { continue };
                if !status.balance_holds {
                    breaks.lock().expect("no panic").push(status.balances.clone());
                }
                sender.send_replace(status);
            }
        });
        let pid = child.id().expect("it runs").to_string();
        let _tie = child.stdin.take();
        Self { id: orders.member, status, broken, log, child, pid, _tie }
    }

    /// Waits until it has said something: before, it can't be asked to leave.
    pub(crate) async fn is_up(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(10), self.status.changed()).await;
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    pub(crate) fn freeze(&self) {
        signal("-STOP", &self.pid);
    }

    pub(crate) fn thaw(&self) {
        signal("-CONT", &self.pid);
    }

    /// SIGTERM.
    pub(crate) fn ask_to_leave(&self) {
        signal("-TERM", &self.pid);
    }

    /// Waits until it has left; what it said last.
    pub(crate) async fn left(mut self) -> Result<Status, String> {
        let Ok(ended) = tokio::time::timeout(LEAVES_WITHIN, self.child.wait()).await else {
            let status = self.status.borrow().clone();
            return Err(format!("member {} does not leave: {status:?}", self.id));
        };
        let code = ended.expect("it ran").code();
        // What it said last is still on its way.
        let mut status = self.status.clone();
        let _ =
            tokio::time::timeout(Duration::from_secs(5), status.wait_for(|now| now.drained.is_some())).await;
        let last = self.status.borrow().clone();
        if code == Some(0) {
            Ok(last)
        } else {
            Err(format!("member {} ended with {code:?}: {last:?}", self.id))
        }
    }

    /// True when the process ended though nobody asked it to.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.child.try_wait().expect("it ran").is_some()
    }
}
