//! The results file: one JSON line a run, appended. The last line of a seed counts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use orderflow::clock::{Clock, rfc3339};
use serde::Serialize;
use serde_json::Value;

/// Where results are kept; `ORDERFLOW_FAULTS_RESULTS` names another file.
fn path() -> PathBuf {
    std::env::var_os("ORDERFLOW_FAULTS_RESULTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/results/faults.jsonl")),
        PathBuf::from,
    )
}

/// Seeds whose last run was without a fault.
pub(crate) fn passed() -> Vec<u64> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let mut verdicts = BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let Some(seed) = line["seed"].as_u64() {
            verdicts.insert(seed, line["verdict"] == "ok");
        }
    }
    verdicts.into_iter().filter(|(_, ok)| *ok).map(|(seed, _)| seed).collect()
}

/// Appends one line: `what`, when, and of which commit.
pub(crate) fn append(what: &impl Serialize) {
    let mut line = serde_json::to_value(what).expect("JSON");
    line["at"] = rfc3339(Clock::system().now_ms()).into();
    line["commit"] = commit().into();
    let path = path();
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("it can be written");
    writeln!(file, "{line}").expect("it can be written");
}

/// What is being run. Asked once, at the start: the files may change while a long set goes on.
pub(crate) fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let mut describe = Command::new("git");
        describe.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        describe
            .output()
            .map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned())
            .unwrap_or_default()
    })
}
