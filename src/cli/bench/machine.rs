//! The machine that was measured on, as far as the operating system tells.

use serde::Serialize;

/// What stands beside every figure.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) system: String,
    pub(super) version: &'static str,
    pub(super) librdkafka: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let processor = line("/proc/cpuinfo", "model name").unwrap_or_default();
        let memory = line("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
            system: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| std::env::consts::OS.to_owned(), |text| format!("Linux {}", text.trim())),
            version: env!("CARGO_PKG_VERSION"),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
        }
    }
}

/// What follows the colon in the first line of `path` that begins with `name`.
fn line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let found = text.lines().find(|line| line.starts_with(name))?;
    Some(found.split_once(':')?.1.trim().to_owned())
}
