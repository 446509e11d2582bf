//! What a whole Dispatch takes of memory when nothing is asked of it.

use anyhow::Result;
use harness::process::Dispatch;

use crate::report::{Figure, Report};

/// Time to settle: caches fill and start-up memory is given back.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(3);

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let dispatch = Dispatch::up();
    std::thread::sleep(SETTLE);
    let mut processes = harness::descendants(dispatch.id());
    processes.push(dispatch.id());
    let kilobytes: f64 = processes.into_iter().map(resident_kb).sum();
    report.add(Figure {
        mb: Some(kilobytes / 1024.0),
        ..Figure::named("idle_rss")
    });
    let own = resident_kb(dispatch.id()) / 1024.0;
    report.add(Figure {
        mb: Some(own),
        ..Figure::named("idle_rss_engine")
    });
    Ok(())
}

/// `VmRSS` of a process.
fn resident_kb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
