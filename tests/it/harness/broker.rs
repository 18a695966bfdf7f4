//! A Kafka of a test's own, from the same packages as the shared one, which the test may freeze.

use std::process::Command;

use tempfile::TempDir;

/// A real broker process in a folder of its own; gone with this value.
pub(crate) struct OwnBroker {
    pub(crate) bootstrap_servers: String,
    folder: TempDir,
    pid: String,
}

impl OwnBroker {
    /// Starts it and waits until it answers. Blocks for some seconds.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let up = services(&folder).args(["up", "--free-ports"]).output().expect("ops/dev/services runs");
        let told = String::from_utf8_lossy(&up.stdout).into_owned();
        assert!(up.status.success(), "{told}{}", String::from_utf8_lossy(&up.stderr));
        let servers = told
            .lines()
            .find_map(|line| line.strip_prefix("export ORDERFLOW_TEST_KAFKA="))
            .expect("it tells the address");
        let pid = std::fs::read_to_string(folder.path().join("kafka/pid")).expect("it notes its process");
        Self { bootstrap_servers: servers.trim_matches('\'').to_owned(), folder, pid: pid.trim().to_owned() }
    }

    /// Stops its process where it is: it accepts and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid]).status().expect("kill runs");
        assert!(sent.success(), "the broker's process is gone");
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.pid]).status();
        let _ = services(&self.folder).arg("down").status();
    }
}

/// The script that starts services, told to start no other than a broker.
fn services(folder: &TempDir) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ops/dev/services"));
    command
        .env_remove("ORDERFLOW_TEST_KAFKA")
        .env("ORDERFLOW_TEST_REGISTRY", super::service("ORDERFLOW_TEST_REGISTRY"))
        .env("ORDERFLOW_TEST_POSTGRES", super::service("ORDERFLOW_TEST_POSTGRES"))
        .env("ORDERFLOW_DEV_DIR", folder.path())
        .env("ORDERFLOW_DEV_ENGINE", "none");
    command
}
