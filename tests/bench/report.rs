//! Figures, printed as they come and written at the end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// One line of `target/bench.json`; what does not apply is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_s: Option<f64>,
    /// CPU milliseconds of this process, its children and the NATS server, for one operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mb: Option<f64>,
}

impl Figure {
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Percentiles of single operations.
    pub(crate) fn times(mut self, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index of a list of thousands"
            )]
            let index = ((times.len() - 1) as f64 * share) as usize;
            times[index].as_secs_f64() * 1000.0
        };
        if !times.is_empty() {
            self.p50_ms = Some(at(0.50));
            self.p99_ms = Some(at(0.99));
        }
        self
    }

    /// Many operations in so long a time.
    pub(crate) fn rate(mut self, count: u32, took: Duration) -> Self {
        self.per_s = Some(f64::from(count) / took.as_secs_f64());
        self
    }

    /// CPU time that `count` operations took.
    pub(crate) fn cpu(mut self, count: u32, cpu: Duration) -> Self {
        self.cpu_ms = Some(cpu.as_secs_f64() * 1000.0 / f64::from(count));
        self
    }
}

/// All figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figure>);

impl Report {
    /// Prints a figure and keeps it.
    pub(crate) fn add(&mut self, figure: Figure) {
        let mut line = format!("{:<34}", figure.name);
        let all = [
            (figure.p50_ms, "p50", "ms"),
            (figure.p99_ms, "p99", "ms"),
            (figure.per_s, "", "/s"),
            (figure.cpu_ms, "cpu", "ms"),
            (figure.s, "", "s"),
            (figure.mb, "", "MB"),
        ];
        for (value, what, unit) in all {
            if let Some(value) = value {
                let digits = if value >= 100.0 { 0 } else { 3 };
                line = format!("{line}  {what} {value:.digits$} {unit}");
            }
        }
        harness::say(&line);
        self.0.push(figure);
    }

    /// Writes `target/bench.json`; figures of an earlier run that this one has not, stay.
    pub(crate) fn write(self) -> Result<()> {
        let file = target().join("bench.json");
        let mut all: Vec<serde_json::Value> = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        for figure in &self.0 {
            all.retain(|old| old["name"] != figure.name.as_str());
            all.push(serde_json::to_value(figure)?);
        }
        std::fs::write(&file, serde_json::to_vec_pretty(&all)?)?;
        harness::say(&format!("written to {}", file.display()));
        Ok(())
    }
}

fn target() -> PathBuf {
    harness::process::repository().join("target")
}
