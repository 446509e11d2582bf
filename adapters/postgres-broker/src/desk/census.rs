//! What the desk tells of itself: health and metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::Desk;
use crate::answer::Answer;
use crate::metrics::{Histogram, Page};
use crate::record::{BindingStage, Instance, OperationKind};

/// What is counted of operations that have ended, since the start.
#[derive(Debug, Default)]
pub(super) struct Ended(BTreeMap<(OperationKind, &'static str), Histogram>);

impl Ended {
    /// Counts one that has succeeded, failed, or was halted by a delete.
    pub(super) fn add(&mut self, kind: OperationKind, result: &'static str, took: Duration) {
        self.0.entry((kind, result)).or_default().observe(took);
    }
}

impl Desk {
    pub(super) fn health(&self) -> Answer {
        let body = json!({
            "status": "ok",
            "instances": self.instances().count(),
            "operations": self.running.len(),
        });
        Answer::new(StatusCode::OK, body)
    }

    pub(super) fn metrics(&self) -> Page {
        let mut page = Page::default();
        let name = "operations_in_progress";
        page.family(name, "gauge", "Operations that run or wait for their turn.");
        for kind in OperationKind::ALL {
            let count = self.running.values().filter(|job| job.kind == kind).count();
            page.sample(name, &[("operation", kind.name())], count);
        }
        let name = "operation_duration_seconds";
        let help = "From the start of an operation's work to its end.";
        page.family(name, "histogram", help);
        for ((kind, result), took) in &self.ended.0 {
            let labels = [("operation", kind.name()), ("result", *result)];
            page.histogram(name, &labels, took);
        }
        let name = "instances";
        page.family(name, "gauge", "Service instances that are not deleted.");
        page.sample(name, &[], self.instances().count());
        let name = "bindings";
        page.family(name, "gauge", "Service bindings that are not deleted.");
        let gone = |stage| matches!(stage, BindingStage::Gone { .. });
        let bindings = self
            .instances()
            .flat_map(|record| record.bindings.values())
            .filter(|binding| !gone(binding.stage));
        page.sample(name, &[], bindings.count());
        page
    }

    fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.records.values().filter(|record| !record.is_gone())
    }
}
