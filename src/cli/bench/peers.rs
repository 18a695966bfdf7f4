//! Other products at the same cases, on the same topic and in the same run: scripts in a folder that is named.
//!
//! `DIR/<name>/run BOOTSTRAP TOPIC RECORDS CONCURRENCY SLEEP_MS` handles the first records of the topic in order by key
//! and prints one line of JSON at the end: records per second, processor time and memory.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

use super::cases::{Case, Values};
use super::measure::Measured;
use crate::cli::exit::Fault;
use crate::runtime::KafkaOptions;

/// How long a peer may take for one repetition, what it builds or fetches at first included.
const WITHIN: Duration = Duration::from_secs(900);

/// One product.
#[derive(Debug)]
pub(super) struct Peer {
    /// As in the results: the name of its folder.
    pub(super) name: String,
    script: PathBuf,
}

/// What a script prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said {
    records_per_second: f64,
    cpu_seconds_per_million: f64,
    peak_rss_bytes: u64,
}

/// The peers of a folder, by name.
pub(super) fn find(folder: &Path) -> Result<Vec<Peer>, Fault> {
    let unreadable = |error| Fault::usage(format!("--peers {}: {error}", folder.display()));
    let mut peers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let script = entry.path().join("run");
        if script.is_file() {
            peers.push(Peer { name: entry.file_name().to_string_lossy().into_owned(), script });
        }
    }
    if peers.is_empty() {
        return Err(Fault::usage(format!(
            "--peers {}: no folder in it has a script `run`",
            folder.display()
        )));
    }
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(peers)
}

impl Peer {
    /// Whether the case is one that every peer can take part in: a handler that does nothing, or waits.
    pub(super) fn can(case: &Case) -> bool {
        case.values == Values::Text && !case.parked && case.backlog.is_none()
    }

    /// One repetition.
    pub(super) async fn measure(
        &self,
        kafka: &KafkaOptions,
        case: &Case,
        topic: &str,
    ) -> Result<Measured, Fault> {
        let failed = |why: String| Fault::failures(format!("{} of {}: {why}", case.name, self.name));
        let numbers = [u128::from(case.records), case.concurrency as u128, case.wait.as_millis()]
            .map(|n| n.to_string());
        let script = tokio::process::Command::new(&self.script)
            .arg(&kafka.bootstrap_servers)
            .arg(topic)
            .args(numbers)
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(WITHIN, script).await;
        let ended = ended.map_err(|_elapsed| failed(format!("not done within {WITHIN:?}")))?;
        let ended = ended.map_err(|error| failed(format!("{}: {error}", self.script.display())))?;
        let said = String::from_utf8_lossy(&ended.stdout);
        let last = said.lines().last().filter(|_| ended.status.success());
        let last = last.ok_or_else(|| failed(ended.status.to_string()))?;
        let said: Said = serde_json::from_str(last).map_err(|error| failed(format!("{last}: {error}")))?;
        Ok(Measured {
            began_ms: 0,
            ended_ms: 0,
            records: case.records,
            records_per_second: said.records_per_second,
            cpu_seconds_per_million: said.cpu_seconds_per_million,
            peak_rss_bytes: said.peak_rss_bytes,
            allocations_per_record: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::bench::cases::cases;

    /// A folder with one peer that prints `line`.
    fn folder(line: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let peer = folder.path().join("other");
        std::fs::create_dir(&peer).expect("made");
        let script = peer.join("run");
        std::fs::write(&script, format!("#!/bin/sh\necho some words\necho '{line}'\n")).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
        std::fs::create_dir(folder.path().join("no-peer")).expect("made");
        folder
    }

    #[tokio::test]
    async fn a_peer_is_a_folder_with_a_script_whose_last_line_counts() {
        let (kafka, case) = (KafkaOptions::default(), &cases(false)[0]);
        let said = r#"{"recordsPerSecond":5.5}"#;
        let whole = said.replace('}', r#","cpuSecondsPerMillion":2,"peakRssBytes":9}"#);
        let one = folder(&whole);
        let peers = find(one.path()).expect("one");
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["other"], "what has no script is none");
        let measured = peers[0].measure(&kafka, case, "t").await.expect("it ran");
        assert_eq!((measured.peak_rss_bytes, measured.records), (9, case.records));
        assert!((measured.records_per_second - 5.5).abs() < f64::EPSILON);
        let lacking = folder(said);
        let refused = find(lacking.path()).expect("one")[0].measure(&kafka, case, "t").await;
        assert!(refused.expect_err("it said too little").sentence.contains("cpuSecondsPerMillion"));
        assert!(find(&one.path().join("no-peer")).is_err(), "a folder without any is a mistake");
    }
}
