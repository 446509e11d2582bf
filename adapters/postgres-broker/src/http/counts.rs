//! What is counted of requests: how many, by operation and status, and how long they took.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Method;

use crate::metrics::{Histogram, Page};

/// Counts of all requests since the start. The lock is held for a few additions.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, OfOperation>>);

#[derive(Debug, Default)]
struct OfOperation {
    by_status: BTreeMap<u16, u64>,
    took: Histogram,
}

impl Counts {
    pub(super) fn add(&self, operation: &'static str, status: u16, took: Duration) {
        let mut all = self.lock();
        let of_operation = all.entry(operation).or_default();
        *of_operation.by_status.entry(status).or_default() += 1;
        of_operation.took.observe(took);
    }

    pub(super) fn write(&self, page: &mut Page) {
        let all = self.lock();
        let name = "requests_total";
        page.family(name, "counter", "Requests answered.");
        for (operation, counts) in all.iter() {
            for (status, count) in &counts.by_status {
                let labels = [("operation", *operation), ("status", &status.to_string())];
                page.sample(name, &labels, count);
            }
        }
        let name = "request_duration_seconds";
        page.family(name, "histogram", "From a request's head to its answer.");
        for (operation, counts) in all.iter() {
            page.histogram(name, &[("operation", operation)], &counts.took);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, OfOperation>> {
        // Counts are right after every single addition, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request is counted as.
pub(super) fn operation(method: &Method, path: &str) -> &'static str {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        (_, ["healthz"]) => "get_health",
        (_, ["metrics"]) => "get_metrics",
        (_, ["v2", "catalog"]) => "get_catalog",
        (method, ["v2", "service_instances", _, rest @ ..]) => match (method, rest) {
            ("PUT", []) => "provision",
            ("PATCH", []) => "update",
            ("DELETE", []) => "deprovision",
            ("GET", []) => "get_instance",
            ("GET", ["last_operation"]) => "poll_instance",
            ("PUT", ["service_bindings", _]) => "bind",
            ("DELETE", ["service_bindings", _]) => "unbind",
            ("GET", ["service_bindings", _]) => "get_binding",
            ("GET", ["service_bindings", _, "last_operation"]) => "poll_binding",
            _ => "other",
        },
        _ => "other",
    }
}
