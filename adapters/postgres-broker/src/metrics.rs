//! Metrics in the text format of Prometheus. Labels are words of the protocol and numbers: no id, no
//! name and nothing secret is ever one.

use std::fmt::{Display, Write};
use std::time::Duration;

/// What every name begins with.
const PREFIX: &str = "postgres_broker_";
/// The media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upper bounds of histograms in seconds, from what an answer takes that needs no work to the time
/// after which an operation has failed.
const BOUNDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 180.0,
];

/// How long something took, each time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(crate) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// A page of metrics as it is written.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Begins a family. Its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {PREFIX}{name} {help}"));
        self.line(format_args!("# TYPE {PREFIX}{name} {kind}"));
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = in_braces(labels, None);
        self.line(format_args!("{PREFIX}{name}{labels} {value}"));
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], values: &Histogram) {
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&values.buckets) {
            below += count;
            let labels = in_braces(labels, Some(&bound.to_string()));
            self.line(format_args!("{PREFIX}{name}_bucket{labels} {below}"));
        }
        let all = in_braces(labels, Some("+Inf"));
        self.line(format_args!("{PREFIX}{name}_bucket{all} {}", values.count));
        self.sample(&format!("{name}_sum"), labels, values.sum);
        self.sample(&format!("{name}_count"), labels, values.count);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes what is written to it");
    }
}

/// Labels as they follow a name. Values here need no escaping: they are words and numbers.
fn in_braces(labels: &[(&str, &str)], bound: Option<&str>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .copied()
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_one_holds_all() {
        let mut took = Histogram::default();
        for ms in [3, 3, 40, 999_000] {
            took.observe(Duration::from_millis(ms));
        }
        let mut page = Page::default();
        page.histogram("x_seconds", &[("operation", "bind")], &took);
        let text = page.into_text();
        for line in [
            "postgres_broker_x_seconds_bucket{operation=\"bind\",le=\"0.001\"} 0",
            "postgres_broker_x_seconds_bucket{operation=\"bind\",le=\"0.005\"} 2",
            "postgres_broker_x_seconds_bucket{operation=\"bind\",le=\"0.05\"} 3",
            "postgres_broker_x_seconds_bucket{operation=\"bind\",le=\"180\"} 3",
            "postgres_broker_x_seconds_bucket{operation=\"bind\",le=\"+Inf\"} 4",
            "postgres_broker_x_seconds_count{operation=\"bind\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
