//! What a sandbox may use up, and what happens when it wants more.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use adapter_sandbox::{Cgroup, Limit};

use crate::support::{count_marked, finish, launcher, marker, printed, python, run, wait_until};

#[test]
fn a_memory_bomb_ends_alone() {
    let other = launcher()
        .spawn(&python("import time; time.sleep(100)"))
        .unwrap();
    let mut spec = python("blocks = []\nwhile True: blocks.append(bytearray(1 << 20))");
    spec.limits.memory_bytes = Some(64 << 20);
    spec.limits.address_space_bytes = Some(256 << 20);
    let output = run(&spec);
    if launcher().capabilities().cgroup.bounds_memory() {
        assert!(output.exit.oom, "{output:?}");
        assert_eq!(output.exit.signal, Some(9), "{output:?}");
    } else {
        assert!(output.stderr.contains("MemoryError"), "{output:?}");
        assert_eq!(output.exit.code, Some(1), "{output:?}");
    }
    assert!(
        other.process.try_wait().unwrap().is_none(),
        "the neighbour lives"
    );
    assert_eq!(printed(&python("print(1)")), "1\n", "the launcher lives");
}

/// Burns a second of the clock, and prints what it had of the processor.
const BURN: &str = "
import time
end = time.monotonic() + 1
while time.monotonic() < end: pass
print(time.process_time())
";

#[test]
fn processor_time_is_bounded_for_the_whole_sandbox_or_said_not_to_be() {
    let capabilities = launcher().capabilities();
    let told = capabilities.unenforced();
    let mut spec = python(BURN);
    spec.limits.cpu_hundredths = Some(20);
    let had: f64 = printed(&spec).trim().parse().unwrap();
    if capabilities.cgroup.bounds_cpu() {
        // A fifth, and what one more period lends.
        assert!(had < 0.4, "{had} s of processor in one second");
        assert!(told.iter().all(|missing| missing.limit != Limit::Cpu));
    } else {
        assert!(told.iter().any(|missing| missing.limit == Limit::Cpu));
        let said = "cpu: no writable cgroup with the cpu controller";
        assert!(capabilities.to_string().contains(said), "{capabilities}");
    }
}

#[test]
fn an_address_space_limit_holds_only_where_memory_has_no_group() {
    let mut spec = python("import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0])");
    spec.limits.address_space_bytes = Some(512 << 20);
    let bounded = launcher().capabilities().cgroup.bounds_memory();
    let expected = if bounded { "-1\n" } else { "536870912\n" };
    assert_eq!(printed(&spec), expected);
}

#[test]
fn a_fork_bomb_is_bounded_and_ends_when_killed() {
    let marker = marker("bomb");
    let script = "
import os, sys, time
made = 0
while True:
    try: pid = os.fork()
    except OSError: break
    if pid == 0: time.sleep(1000)
    made += 1
print(made, flush=True)
time.sleep(1000)
";
    let mut spec = python(script);
    spec.args.push(marker.clone());
    spec.limits.processes = 16;
    let sandboxed = launcher().spawn(&spec).unwrap();
    let mut line = String::new();
    BufReader::new(std::fs::File::from(sandboxed.stdout))
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "15\n", "the program and its 15 children are 16");
    wait_until("all are seen", || count_marked(&marker) == 16);
    let start = Instant::now();
    sandboxed.process.kill().unwrap();
    let exit = sandboxed.process.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert_eq!(count_marked(&marker), 0);
}

#[test]
fn two_sandboxes_do_not_share_their_limit_of_processes() {
    let script = "
import os, time
for _ in range(10):
    if os.fork() == 0: time.sleep(1000)
print('ok', flush=True)
time.sleep(1000)
";
    let mut spec = python(script);
    spec.limits.processes = 12;
    let mut both = [(); 2].map(|()| launcher().spawn(&spec).unwrap());
    for sandboxed in &mut both {
        let mut line = String::new();
        let stdout = sandboxed.stdout.try_clone().unwrap();
        BufReader::new(std::fs::File::from(stdout))
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ok\n");
    }
}

#[test]
fn children_that_nobody_waits_for_use_nothing_up() {
    // Orphans that have ended; without somebody to reap them the limit would be reached.
    let script = "
import os, time
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 10
    # The init may be a moment behind.
    while len([n for n in os.listdir('/proc') if n.isdigit()]) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
print('ok')
";
    let mut spec = python(script);
    spec.limits.processes = 8;
    assert_eq!(printed(&spec), "ok\n");
}

#[test]
fn files_have_their_size_and_number() {
    let script = "
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open('/tmp/big', 'wb') as f:
    try: f.write(b'x' * (2 << 20)); f.flush()
    except OSError as e: print(e.errno)
    f.truncate(0)
opened = []
try:
    while True: opened.append(os.open('/dev/null', os.O_RDONLY))
except OSError as e: print(e.errno, len(opened))
";
    let mut spec = python(script);
    spec.limits.file_bytes = 1 << 20;
    spec.limits.open_files = 20;
    assert_eq!(printed(&spec), "27\n24 16\n");
}

#[test]
fn no_core_is_dumped() {
    let output = run(&python("import os; os.abort()"));
    assert_eq!((output.exit.code, output.exit.signal), (None, Some(6)));
}

#[test]
fn the_groups_of_ended_sandboxes_are_removed() {
    let launcher = crate::support::start_launcher();
    if launcher.capabilities().cgroup == Cgroup::None {
        return;
    }
    let own = |pid: u32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        groups
            .lines()
            .filter(|line| line.contains("dispatch-sandboxes-"))
            .count()
    };
    let sandboxed = launcher
        .spawn(&python("import time; time.sleep(100)"))
        .unwrap();
    assert!(own(sandboxed.process.pid()) > 0);
    let name = format!("dispatch-sandboxes-*-{}", launcher.pid());
    let found = || {
        let output = std::process::Command::new("/usr/bin/find")
            .args([
                "/sys/fs/cgroup",
                "-type",
                "d",
                "-path",
                &format!("*{name}*"),
            ])
            .output();
        output
            .unwrap()
            .stdout
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    };
    assert!(found() > 0);
    sandboxed.process.kill().unwrap();
    finish(sandboxed);
    drop(launcher);
    assert_eq!(found(), 0);
}

/// Prints how it is scheduled, and whether it can change that.
const SCHEDULED: &str = "
import os
print(os.nice(0))
try:
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    print('changed')
except PermissionError:
    print('refused')
child = os.fork()
if child == 0: os._exit(os.nice(0))
print(os.waitpid(child, 0)[1] >> 8)
";

#[test]
fn what_runs_in_the_background_stays_there_with_all_it_starts() {
    let mut spec = python(SCHEDULED);
    assert!(printed(&spec).starts_with("0\n"), "usually it is not");
    spec.background = true;
    let said = printed(&spec);
    assert_eq!(said, "15\nrefused\n15\n");
}
