//! Results as JSON (contracts: bench output) and as a table: the median of the repetitions, with minimum and maximum.

use serde::Serialize;
use serde_json::Value;

use super::machine::Machine;
use super::measure::Measured;

/// Everything that one bench says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    settings: Value,
    results: Vec<Figure>,
}

/// One system at one case.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    system: String,
    case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nanoseconds_per_operation: Option<f64>,
    minimum: f64,
    maximum: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds_per_million: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocations_per_record: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    runs: usize,
}

/// One repetition whose requests were answered.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) per_second: f64,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) peak_rss_bytes: u64,
    /// From the event to the receiver: the median, and what 99 of 100 stay below; where it was asked for.
    pub(super) latency_ms: Option<(f64, f64)>,
}

impl Report {
    pub(super) fn new(settings: Value, results: Vec<Figure>) -> Self {
        Self { machine: Machine::this(), settings, results }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} × {}, {} GiB, {}, librdkafka {}\n",
            machine.cores,
            machine.processor,
            machine.memory_bytes >> 30,
            machine.system,
            machine.librdkafka
        );
        text.push_str(&format!(
            "{:<22} {:<22} {:>12} {:>25} {:>9} {:>9} {:>11} {:>16}\n",
            "case",
            "system",
            "median",
            "minimum – maximum",
            "CPU s/M",
            "peak MiB",
            "allocations",
            "p50 / p99 ms"
        ));
        for figure in &self.results {
            text.push_str(&figure.row());
            text.push('\n');
        }
        text.pop();
        text
    }
}

impl Figure {
    /// The medians of `runs`.
    pub(super) fn records(system: &str, case: &str, runs: &[Measured]) -> Self {
        let rates: Vec<f64> = runs.iter().map(|run| run.records_per_second).collect();
        let cpu: Vec<f64> = runs.iter().map(|run| run.cpu_seconds_per_million).collect();
        let allocations: Vec<f64> = runs.iter().filter_map(|run| run.allocations_per_record).collect();
        Self {
            records_per_second: Some(median(&rates)),
            cpu_seconds_per_million: Some(median(&cpu)),
            peak_rss_bytes: runs.iter().map(|run| run.peak_rss_bytes).max(),
            allocations_per_record: (!allocations.is_empty()).then(|| median(&allocations)),
            ..Self::of(system, case, &rates)
        }
    }

    /// The medians of `runs`.
    pub(super) fn deliveries(system: &str, case: &str, runs: &[Run]) -> Self {
        let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
        let latency = |value: fn((f64, f64)) -> f64| {
            let found: Vec<f64> = runs.iter().filter_map(|run| run.latency_ms).map(value).collect();
            (!found.is_empty()).then(|| median(&found))
        };
        let rates = of(|run| run.per_second);
        Self {
            deliveries_per_second: Some(median(&rates)),
            cpu_seconds_per_million: Some(median(&of(|run| run.cpu_seconds_per_million))),
            peak_rss_bytes: runs.iter().map(|run| run.peak_rss_bytes).max(),
            p50_ms: latency(|(p50, _)| p50),
            p99_ms: latency(|(_, p99)| p99),
            ..Self::of(system, case, &rates)
        }
    }

    pub(super) fn deliveries_per_second(&self) -> Option<f64> {
        self.deliveries_per_second
    }

    /// Whether this is what `system` did at `case`.
    pub(super) fn is_of(&self, system: &str, case: &str) -> bool {
        self.system == system && self.case == case
    }

    /// The median of `runs`, in nanoseconds.
    pub(super) fn nanoseconds(system: &str, case: &str, runs: &[f64]) -> Self {
        Self { nanoseconds_per_operation: Some(median(runs)), ..Self::of(system, case, runs) }
    }

    fn of(system: &str, case: &str, values: &[f64]) -> Self {
        Self {
            system: system.to_owned(),
            case: case.to_owned(),
            records_per_second: None,
            deliveries_per_second: None,
            nanoseconds_per_operation: None,
            minimum: values.iter().copied().fold(f64::INFINITY, f64::min),
            maximum: values.iter().copied().fold(0.0, f64::max),
            cpu_seconds_per_million: None,
            peak_rss_bytes: None,
            allocations_per_record: None,
            p50_ms: None,
            p99_ms: None,
            runs: values.len(),
        }
    }

    pub(super) fn row(&self) -> String {
        let rate = self.records_per_second.or(self.deliveries_per_second);
        let (value, unit) = match (rate, self.nanoseconds_per_operation) {
            (Some(rate), _) => (rate, "/s"),
            (None, Some(nanoseconds)) => (nanoseconds, "ns"),
            (None, None) => (0.0, ""),
        };
        let or_dash = |number: Option<String>| number.unwrap_or_else(|| "–".to_owned());
        format!(
            "{:<22} {:<22} {:>10.0}{unit} {:>25} {:>9} {:>9} {:>11} {:>16}",
            self.case,
            self.system,
            value,
            format!("{:.0} – {:.0}", self.minimum, self.maximum),
            or_dash(self.cpu_seconds_per_million.map(|cpu| format!("{cpu:.2}"))),
            or_dash(self.peak_rss_bytes.map(|bytes| (bytes >> 20).to_string())),
            or_dash(self.allocations_per_record.map(|count| format!("{count:.3}"))),
            or_dash(self.p50_ms.zip(self.p99_ms).map(|(p50, p99)| format!("{p50:.1} / {p99:.1}"))),
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => 0.0,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
