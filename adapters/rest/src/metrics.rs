//! Counters of what was asked and what came of it, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use http::{Method, StatusCode};

/// Method, route and status: all three from closed sets, so that clients cannot make it grow.
type Label = (&'static str, String, u16);

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<Label, Count>>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    requests: u64,
    seconds: f64,
}

impl Metrics {
    /// Counts an answered request. `route` is a path of the table.
    pub(crate) fn count(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let label = (word(method), route.to_owned(), status.as_u16());
        let mut counts = self.0.lock().expect("no holder panics");
        let count = counts.entry(label).or_default();
        count.requests += 1;
        count.seconds += took.as_secs_f64();
    }

    /// The counters in the Prometheus text format.
    pub(crate) fn render(&self, under_way: usize) -> String {
        let counts = self.0.lock().expect("no holder panics").clone();
        let mut text = String::new();
        let mut family = |name: &str, help: &str, value: &dyn Fn(&Count) -> String| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for ((method, route, status), count) in &counts {
                let value = value(count);
                let _ = writeln!(
                    text,
                    "{name}{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {value}"
                );
            }
        };
        let requests = |count: &Count| count.requests.to_string();
        family(
            "dispatch_rest_requests_total",
            "Requests answered.",
            &requests,
        );
        let seconds = |count: &Count| format!("{:.6}", count.seconds);
        family(
            "dispatch_rest_request_seconds_total",
            "Time spent on them.",
            &seconds,
        );
        let gauge = "dispatch_rest_requests_under_way";
        let _ = writeln!(
            text,
            "# HELP {gauge} Requests being handled.\n# TYPE {gauge} gauge"
        );
        let _ = writeln!(text, "{gauge} {under_way}");
        text
    }
}

fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
