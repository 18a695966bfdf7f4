//! Histograms of seconds that take equal values together.
//!
//! The engine completes records by the million, thousands of them in the same millisecond. The histograms of the
//! `prometheus` crate take one value at a time, which costs more than everything else that is done with a record whose
//! handler has nothing to do. What is exported is the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// Upper bounds of the buckets, in seconds: from half a millisecond to a minute.
pub(super) const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How many durations lie in which bucket, and their sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seconds {
    /// The last one is for what is above all bounds.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Seconds {
    /// Counts a duration that was seen so many times.
    pub fn add(&mut self, seconds: f64, times: u64) {
        self.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += times;
        self.sum += seconds * times as f64;
    }
}

/// One series of a histogram; clones share it.
#[derive(Debug, Clone, Default)]
pub struct DurationSeries(Arc<Mutex<Seconds>>);

impl DurationSeries {
    /// Counts one duration.
    pub fn observe(&self, seconds: f64) {
        self.lock().add(seconds, 1);
    }

    /// Takes over what was counted elsewhere, which is empty then.
    pub fn take(&self, counted: &mut Seconds) {
        let mut known = self.lock();
        for (sum, more) in known.buckets.iter_mut().zip(counted.buckets) {
            *sum += more;
        }
        known.sum += counted.sum;
        *counted = Seconds::default();
    }

    fn lock(&self) -> MutexGuard<'_, Seconds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A histogram with labels; clones share it.
#[derive(Debug, Clone)]
pub struct Durations {
    desc: Desc,
    series: Arc<Mutex<BTreeMap<Vec<String>, DurationSeries>>>,
}

impl Durations {
    pub(super) fn new(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())?;
        Ok(Self { desc, series: Arc::default() })
    }

    /// The series with these labels' values, in the order in which the labels were declared.
    pub fn with_label_values(&self, values: &[&str]) -> DurationSeries {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.lock().entry(values).or_default().clone()
    }

    fn metric(&self, values: &[String], counted: &Seconds) -> proto::Metric {
        let mut pairs: Vec<_> = self.desc.variable_labels.iter().zip(values).collect();
        // The format wants labels by name.
        pairs.sort();
        let label = |(name, value): (&String, &String)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.clone());
            pair
        };
        let mut below = 0;
        let bucket = |(bound, count): (&f64, &u64)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(BOUNDS.iter().zip(&counted.buckets).map(bucket).collect());
        histogram.set_sample_count(counted.buckets.iter().sum());
        histogram.set_sample_sum(counted.sum);
        let mut metric = proto::Metric::from_label(pairs.into_iter().map(label).collect());
        metric.set_histogram(histogram);
        metric
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, DurationSeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        let series = self.lock();
        family.set_metric(
            series.iter().map(|(values, counted)| self.metric(values, &counted.lock())).collect(),
        );
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, HistogramOpts, HistogramVec, Registry, TextEncoder};

    use super::*;

    fn text(collector: impl Collector + 'static) -> String {
        let registry = Registry::new();
        registry.register(Box::new(collector)).expect("one name");
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).expect("memory");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn the_export_is_that_of_an_ordinary_histogram() {
        let labels = ["type", "stage"];
        let ours = Durations::new("seconds", "Some seconds.", &labels).expect("good names");
        let options = HistogramOpts::new("seconds", "Some seconds.").buckets(BOUNDS.to_vec());
        let theirs = HistogramVec::new(options, &labels).expect("good names");
        // Powers of two add up to the same sum in any order.
        for (values, seconds, times) in [
            (["paid", "webhook"], 0.0005, 3),
            (["paid", "webhook"], 0.25, 2),
            (["paid", "webhook"], 64.0, 2),
            (["late", "history"], 0.0, 1),
        ] {
            let mut counted = Seconds::default();
            counted.add(seconds, times - 1);
            let series = ours.with_label_values(&values);
            series.take(&mut counted);
            assert_eq!(counted, Seconds::default());
            series.observe(seconds);
            (0..times).for_each(|_| theirs.with_label_values(&values).observe(seconds));
        }
        assert_eq!(text(ours), text(theirs));
    }
}
