//! A Kafka of this binary's own, started as `ops/dev/services` does, that may be killed, restarted and frozen. Members
//! reach it through a proxy, everything else directly. The shared services are never touched.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use orderflow::runtime::{KafkaOptions, Role};
use rand::Rng as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::service;
use crate::proxy::Proxy;

/// A broker that hasn't answered after this long won't.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A real broker process; gone with this value.
pub(crate) struct Broker {
    /// Where the test reaches it.
    pub(crate) direct: String,
    /// Before the ports that members use, each of which has one of its own.
    pub(crate) proxies: Vec<Proxy>,
    folder: TempDir,
    command: Vec<String>,
    pid: String,
    /// The process, once it was started again by us.
    child: Option<Child>,
}

impl Broker {
    /// Starts it and waits until it answers.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [port, behind @ ..] = free_ports();
        let (mut proxies, mut pairs) = (Vec::new(), Vec::new());
        for behind in behind {
            let proxy = Proxy::before(&format!("127.0.0.1:{behind}")).await;
            pairs.push(format!("{behind}:{}", proxy.address.port()));
            proxies.push(proxy);
        }
        let mut up = services(&folder);
        up.arg("up").env("ORDERFLOW_DEV_PORT_KAFKA", port.to_string());
        up.env("ORDERFLOW_DEV_KAFKA_PROXIED", pairs.join(" "));
        let told = tokio::task::spawn_blocking(move || up.output()).await.expect("no panic");
        let told = told.expect("ops/dev/services runs");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let pid = std::fs::read_to_string(folder.path().join("kafka/pid")).expect("it notes its process");
        let pid = pid.trim().to_owned();
        // A controller that was killed takes its broker for alive until the session ends: 9 s, unless told otherwise.
        let settings =
            std::fs::OpenOptions::new().append(true).open(folder.path().join("kafka/server.properties"));
        writeln!(
            settings.expect("its settings"),
            "broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500"
        )
        .expect("they can be written");
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
        let command = String::from_utf8(command).expect("text");
        let command = command.split_terminator('\0').map(str::to_owned).collect();
        Self { direct: format!("127.0.0.1:{port}"), proxies, folder, command, pid, child: None }
    }

    /// The proxy of a member. More members than proxies share them.
    pub(crate) fn proxy_of(&self, member: u32) -> &Proxy {
        &self.proxies[member as usize % self.proxies.len()]
    }

    /// Ends its process: at once, or as an operator would.
    pub(crate) async fn end(&mut self, at_once: bool) {
        signal(if at_once { "-KILL" } else { "-TERM" }, &self.pid);
        let deadline = Instant::now() + ANSWERS_WITHIN;
        // A process that nobody waits for keeps its number, but not its command line.
        while std::fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < deadline, "the broker doesn't end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(mut child) = self.child.take() {
            child.wait().expect("it was ours");
        }
    }

    /// Starts it again on the same data and ports, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.path().join("kafka/log"));
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            // What starts quickly matters here, not what runs fast after minutes.
            .env("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("its log"))
            .spawn()
            .expect("java runs");
        self.pid = child.id().to_string();
        self.child = Some(child);
        // By this note `ops/dev/services down` finds it.
        std::fs::write(self.folder.path().join("kafka/pid"), &self.pid).expect("its folder is there");
        self.answers().await;
    }

    /// Waits until it answers on its own port.
    pub(crate) async fn answers(&self) {
        let options = KafkaOptions { bootstrap_servers: self.direct.clone(), ..KafkaOptions::default() };
        let deadline = std::time::Instant::now() + ANSWERS_WITHIN;
        let asking = move || {
            let client: BaseConsumer =
                options.client_config(Role::Reader).create().expect("settings are accepted");
            while client.fetch_metadata(None, Duration::from_millis(500)).is_err() {
                assert!(std::time::Instant::now() < deadline, "the broker does not answer");
            }
        };
        tokio::task::spawn_blocking(asking).await.expect("it answers");
    }

    /// Stops its process where it is: it accepts and says nothing.
    pub(crate) fn freeze(&self) {
        signal("-STOP", &self.pid);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        signal("-CONT", &self.pid);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.pid]).status();
        // Its data go with the folder.
        let _ = Command::new("kill").args(["-KILL", &self.pid]).status();
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, pid]).status().expect("kill runs");
    assert!(sent.success(), "process {pid} is gone");
}

/// The broker's own port (its controller takes the one behind it) and four for members. They lie below those that the
/// system gives to outgoing connections, one of which might take them before the broker does, or while it is down.
fn free_ports() -> [u16; 5] {
    let mut random = rand::rng();
    loop {
        let first: u16 = random.random_range(20_000..32_000);
        if (first..first + 6).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return [first, first + 2, first + 3, first + 4, first + 5];
        }
    }
}

/// The script that starts services, told to start no other than a broker.
fn services(folder: &TempDir) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/dev/services"));
    command
        .env_remove("ORDERFLOW_TEST_KAFKA")
        .env("ORDERFLOW_TEST_REGISTRY", service("ORDERFLOW_TEST_REGISTRY"))
        .env("ORDERFLOW_TEST_POSTGRES", service("ORDERFLOW_TEST_POSTGRES"))
        .env("ORDERFLOW_DEV_DIR", folder.path())
        .env("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
        .env("ORDERFLOW_DEV_KAFKA_HEAP", "384m")
        .env("ORDERFLOW_DEV_ENGINE", "none");
    command
}
