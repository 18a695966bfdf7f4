//! The real binary, run as a user runs it: arguments, environment, standard input; exit code and what it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::database::Schema;

/// What seals in the tests' databases.
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A command that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A folder and an environment of its own, with names on Kafka that no other test uses.
pub(crate) struct Cli {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    pub(crate) prefix: String,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cli {
    /// A user who has set nothing.
    pub(crate) fn bare() -> Self {
        let prefix = format!("t.cli.{}.", uuid::Uuid::now_v7().simple());
        Self { folder: tempfile::tempdir().expect("a folder"), variables: BTreeMap::new(), prefix }
    }

    /// A user of the real Kafka and registry, with a prefix and three partitions.
    pub(crate) fn on_services() -> Self {
        let mut cli = Self::bare();
        let overlay = cli.file("test.yaml", "defaults: { partitions: 3, replication: 1 }\n");
        cli.set("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", &super::service("ORDERFLOW_TEST_KAFKA"));
        cli.set("ORDERFLOW_REGISTRY__URL", &super::service("ORDERFLOW_TEST_REGISTRY"));
        cli.set("ORDERFLOW_REGISTRY__AUTO_REGISTER", "true");
        cli.set("ORDERFLOW_TOPOLOGY__OVERLAYS", &overlay.display().to_string());
        let prefix = cli.prefix.clone();
        cli.set("ORDERFLOW_TOPOLOGY__TOPIC_PREFIX", &prefix);
        cli
    }

    /// The same with a database of its own, webhooks to receivers on this machine, topics, schemas and tables made, and `more`
    /// set.
    pub(crate) async fn for_webhooks(schema: &Schema, more: &[(&str, &str)]) -> Self {
        let mut cli = Self::on_services();
        let own = [
            ("ORDERFLOW_STORE__URL", schema.url()),
            ("ORDERFLOW_STORE__ENCRYPTION_KEY", KEY),
            ("ORDERFLOW_WEBHOOK__ALLOW_HTTP", "true"),
            ("ORDERFLOW_WEBHOOK__ALLOW_PRIVATE_NETWORKS", "true"),
        ];
        own.iter().chain(more).for_each(|(variable, value)| cli.set(variable, value));
        for command in [["topology", "apply"], ["schemas", "register"], ["db", "migrate"]] {
            cli.fine(&command).await;
        }
        cli
    }

    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.variables.insert(variable.to_owned(), value.to_owned());
    }

    /// Writes a file into the user's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(&self.variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts a command that goes on until it is told to stop.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }

    /// Starts a command that goes on until it is told to stop, with what it prints going to the file `log`.
    pub(crate) fn start_logged(&self, arguments: &[&str], log: &str) -> Child {
        let open =
            || std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(log));
        let (out, err) = (open().expect("a log"), open().expect("a log"));
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the program starts")
    }

    /// What a started command has printed so far.
    pub(crate) fn log(&self, log: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default()
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "").await
    }

    /// Runs a command to its end, with `input` on its standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        let writing = async move {
            // A program that has read enough closes its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let running = async { tokio::join!(writing, child.wait_with_output()).1 };
        let output = tokio::time::timeout(HANGS, running).await.expect("the command hangs").expect("it ran");
        Ran {
            code: output.status.code().expect("it ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) async fn fine(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }
}
