//! Looks over the idle workers now and then: those idle for too long are ended, and those in whose
//! sandbox something still runs are replaced; and sees to it that there are as many as always are to be.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::workers::floor::Floor;
use crate::workers::pool::{Idle, Pool};

/// How often. A process left behind by a run burns no more than this much of a processor.
const EVERY: Duration = Duration::from_secs(1);
const PAGE_BYTES: u64 = 4096;

/// Starts sweeping, until the floor closes.
pub(crate) fn start(floor: &Arc<Floor>) {
    let (weak, closing) = (Arc::downgrade(floor), floor.closing.clone());
    floor.tasks.spawn(async move {
        loop {
            let tick = closing.run_until_cancelled(tokio::time::sleep(EVERY)).await;
            let (Some(()), Some(floor)) = (tick, weak.upgrade()) else {
                return;
            };
            let pools: Vec<Arc<Pool>> = floor.pools().values().cloned().collect();
            let idle: Vec<Idle> = pools.iter().flat_map(|pool| pool.idle()).collect();
            // Many small files of the kernel's: neither on a thread that serves calls, nor while a
            // pool is held.
            let looked = tokio::task::spawn_blocking(move || {
                let tainted = |idle: &Idle| processes(idle.pid).len() > 2;
                idle.into_iter().filter(tainted).collect::<HashSet<_>>()
            });
            let tainted = looked.await.unwrap_or_default();
            for pool in pools {
                pool.sweep(&tainted);
            }
        }
    });
}

/// The processes of a sandbox: its first, the interpreter, and whatever the function started.
fn processes(init: u32) -> Vec<u32> {
    let mut found = vec![init];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    found
}

/// The memory of a sandbox's processes that is theirs alone.
pub(crate) fn resident_bytes(init: u32) -> u64 {
    processes(init).into_iter().map(private_bytes).sum()
}

/// Resident less shared pages, of `/proc/<pid>/statm`.
fn private_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: Vec<u64> = statm
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    match pages[..] {
        [_, resident, shared, ..] => resident.saturating_sub(shared) * PAGE_BYTES,
        _ => 0,
    }
}
