//! How sandboxes begin, end, and go with those that started them.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adapter_sandbox::{Cgroup, Error, Launcher, LauncherConfig, Network, Signal, Spec};

use crate::support::{
    count_marked, finish, kill_hard, launcher, marker, printed, python, run, shell, start_launcher,
    wait_until,
};

/// Set for the process that plays an engine which is killed.
const PLAY_ENGINE: &str = "SANDBOX_TEST_PLAY_ENGINE";

fn sleeper(marker: &str) -> Spec {
    let mut spec = python("import time; time.sleep(1000)");
    spec.args.push(marker.to_owned());
    spec
}

#[test]
fn an_exit_tells_code_or_signal() {
    let ends = |spec| {
        let exit = run(&spec).exit;
        (exit.code, exit.signal)
    };
    assert_eq!(ends(shell("exit 0")), (Some(0), None));
    assert_eq!(ends(shell("exit 137")), (Some(137), None));
    assert_eq!(ends(shell("kill -TERM $$")), (None, Some(15)));
    assert_eq!(ends(shell("kill -SEGV $$")), (None, Some(11)));
}

#[test]
fn an_exit_can_be_asked_for_again_and_awaited_as_a_descriptor() {
    let sandboxed = launcher().spawn(&shell("read line <&3; exit 4")).unwrap();
    assert_eq!(sandboxed.process.try_wait().unwrap(), None);
    assert!(sandboxed.process.as_fd().try_clone_to_owned().is_ok());
    std::io::Write::write_all(&mut &sandboxed.channel, b"go\n").unwrap();
    let first = sandboxed.process.wait().unwrap();
    assert_eq!(first.code, Some(4));
    assert_eq!(sandboxed.process.try_wait().unwrap(), Some(first));
    assert_eq!(sandboxed.process.wait().unwrap(), first);
    sandboxed.process.kill().unwrap();
}

#[test]
fn signals_have_their_default_actions_inside() {
    let text = printed(&shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
    assert_eq!(
        text,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

#[test]
fn a_program_has_a_session_and_a_raised_score_of_its_own() {
    let text = printed(&python(
        "import os; print(os.getsid(0) == os.getpid(), open('/proc/self/oom_score_adj').read())",
    ));
    assert_eq!(text, "True 500\n\n");
}

#[test]
fn killing_takes_a_daemon_that_left_its_session() {
    let marker = marker("daemon");
    let script = "
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
os.wait()
time.sleep(1000)
";
    let mut spec = python(script);
    spec.args.push(marker.clone());
    let sandboxed = launcher().spawn(&spec).unwrap();
    wait_until("both run", || count_marked(&marker) == 2);
    let start = Instant::now();
    sandboxed.process.kill().unwrap();
    sandboxed.process.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(count_marked(&marker), 0);
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let marker = marker("left");
    let spec = shell(&format!("(exec sleep 1000 {marker}) & exit 0"));
    let start = Instant::now();
    let output = run(&spec);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "its output was closed"
    );
    assert!(output.exit.success());
    assert_eq!(count_marked(&marker), 0);
}

#[test]
fn a_dropped_process_is_killed() {
    let marker = marker("dropped");
    let sandboxed = launcher().spawn(&sleeper(&marker)).unwrap();
    wait_until("it runs", || count_marked(&marker) == 1);
    drop(sandboxed);
    wait_until("it is gone", || count_marked(&marker) == 0);
}

#[test]
fn sandboxes_end_with_a_launcher_that_is_dropped() {
    let marker = marker("launcher-dropped");
    let launcher = start_launcher();
    let sandboxed = launcher.spawn(&sleeper(&marker)).unwrap();
    wait_until("it runs", || count_marked(&marker) == 1);
    drop(launcher);
    assert_eq!(count_marked(&marker), 0);
    assert_eq!(sandboxed.process.wait().unwrap().signal, Some(9));
}

#[test]
fn sandboxes_end_with_a_launcher_that_is_killed() {
    let marker = marker("launcher-killed");
    let launcher = start_launcher();
    let sandboxed = launcher.spawn(&sleeper(&marker)).unwrap();
    wait_until("it runs", || count_marked(&marker) == 1);
    kill_hard(launcher.pid());
    assert_eq!(sandboxed.process.wait().unwrap().signal, Some(9));
    wait_until("it is gone", || count_marked(&marker) == 0);
    assert!(matches!(
        launcher.spawn(&sleeper(&marker)),
        Err(Error::HelperGone)
    ));
}

#[test]
fn sandboxes_and_bound_children_end_with_an_engine_that_is_killed() {
    let marker = marker("engine-killed");
    let mut engine = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::plays_an_engine_for_another_test",
            "--nocapture",
        ])
        .env(PLAY_ENGINE, &marker)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(engine.stdout.take().unwrap()).lines();
    let helper = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("helper ")?.1.trim().to_owned()))
        .expect("the engine tells its helper's pid");
    // The sandboxed program, and an ordinary child that was bound to the engine's life.
    wait_until("both run", || {
        ["1000)", "done"]
            .into_iter()
            .all(|end| count_marked(&format!("{end}\0{marker}")) == 1)
    });
    engine.kill().unwrap();
    engine.wait().unwrap();
    wait_until("all are gone", || {
        count_marked(&marker) == 0 && !std::path::Path::new("/proc").join(&helper).exists()
    });
}

#[test]
fn plays_an_engine_for_another_test() {
    let Ok(marker) = std::env::var(PLAY_ENGINE) else {
        return;
    };
    let mut server = Command::new("/bin/sh");
    server.args(["-c", "trap '' HUP; while :; do sleep 0.1; done", &marker]);
    adapter_sandbox::die_with_parent(&mut server);
    let mut server = server.spawn().unwrap();
    let launcher = start_launcher();
    let sandboxed = launcher.spawn(&sleeper(&marker)).unwrap();
    println!("helper {}", launcher.pid());
    sandboxed.process.wait().unwrap();
    server.wait().unwrap();
}

#[test]
fn many_threads_may_spawn_at_once() {
    let threads = [(); 8].map(|()| {
        std::thread::spawn(|| {
            for number in 0..5 {
                assert_eq!(
                    printed(&shell(&format!("echo {number}"))),
                    format!("{number}\n")
                );
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Lets the helper have so many descriptors from now on.
fn limit_descriptors(launcher: &Launcher, soft: u32) {
    let (pid, limit) = (launcher.pid().to_string(), format!("--nofile={soft}:"));
    let status = Command::new("/usr/bin/prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_launcher_short_of_descriptors_refuses_and_goes_on() {
    let launcher = start_launcher();
    let neighbour = launcher.spawn(&shell("sleep 1000")).unwrap();
    // With 8, a request arrives without its descriptors; with more, its set-up fails on the way.
    for descriptors in 8..32 {
        limit_descriptors(&launcher, descriptors);
        if let Err(error) = launcher.spawn(&shell("exit 0")) {
            let known = matches!(error, Error::HelperGone | Error::Setup { .. });
            assert!(known, "{descriptors}: {error}");
        }
    }
    limit_descriptors(&launcher, 8);
    let refused = launcher.spawn(&shell("exit 0"));
    assert!(matches!(refused, Err(Error::HelperGone)), "{refused:?}");
    limit_descriptors(&launcher, 256);
    assert!(
        finish(launcher.spawn(&shell("exit 0")).unwrap())
            .exit
            .success()
    );
    assert_eq!(
        neighbour.process.try_wait().unwrap(),
        None,
        "the neighbour lives"
    );
}

#[test]
fn a_command_that_is_no_launcher_is_an_error() {
    let start = |command: &[&str]| Launcher::start(LauncherConfig::new(command.to_vec()));
    assert!(matches!(start(&[]), Err(Error::StartHelper { .. })));
    assert!(matches!(
        start(&["/no/such/program"]),
        Err(Error::StartHelper { .. })
    ));
    assert!(matches!(start(&["/usr/bin/true"]), Err(Error::HelperGone)));
}

#[test]
fn output_of_both_kinds_arrives() {
    let output = finish(launcher().spawn(&shell("echo out; echo err >&2")).unwrap());
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_child_is_sent_its_signal() {
    use std::os::unix::process::ExitStatusExt;
    for (signal, number) in [(Signal::Terminate, 15), (Signal::LameDuck, 12)] {
        let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        adapter_sandbox::signal(child.id(), signal);
        assert_eq!(child.wait().unwrap().signal(), Some(number));
    }
}

/// The processes that a launcher's helper has started and not reaped.
fn children(launcher: &Launcher) -> Vec<u32> {
    let pid = launcher.pid();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

/// The one sandbox that waits to be asked for; none where there never is one.
fn spare(launcher: &Launcher) -> Option<u32> {
    let here = launcher.capabilities();
    if !here.privileged || matches!(here.cgroup, Cgroup::V2 { .. }) {
        eprintln!("SKIPPED: no sandbox is cloned ahead here");
        return None;
    }
    wait_until("one is cloned ahead", || children(launcher).len() == 1);
    children(launcher).pop()
}

#[test]
fn a_sandbox_that_was_cloned_ahead_is_like_any_other() {
    let launcher = start_launcher();
    let look = "
import os
print(os.getuid(), os.listdir('/proc/self/ns') != [], sorted(os.listdir('/')))
print(open('/proc/self/oom_score_adj').read(), open('/proc/self/cgroup').read())
print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1], os.listdir('/sys') if os.path.exists('/sys') else None)
os.read(3, 1)
";
    let see = |launcher: &Launcher| {
        let mut sandboxed = launcher.spawn(&python(look)).unwrap();
        let pid = sandboxed.process.pid();
        std::io::Write::write_all(&mut sandboxed.channel, b"x").unwrap();
        (pid, finish(sandboxed))
    };
    let (_, first) = see(&launcher);
    let Some(ahead) = spare(&launcher) else {
        return;
    };
    let (pid, second) = see(&launcher);
    assert_eq!(pid, ahead, "it is the one that waited");
    assert!(second.exit.success(), "{second:?}");
    // The number of the cgroup is all that tells them apart, and the view from inside hides it.
    assert_eq!(first.stdout, second.stdout);
    assert_ne!(spare(&launcher), Some(ahead), "another one waits");
}

#[test]
fn a_sandbox_that_was_cloned_ahead_and_died_is_not_missed() {
    let launcher = start_launcher();
    let Some(ahead) = spare(&launcher) else {
        return;
    };
    kill_hard(ahead);
    wait_until("it is reaped", || !children(&launcher).contains(&ahead));
    assert!(
        finish(launcher.spawn(&shell("exit 0")).unwrap())
            .exit
            .success()
    );
    // With its own network it cannot be given the host's.
    let mut host = shell("exit 0");
    host.network = Network::Host;
    let ahead = spare(&launcher);
    let sandboxed = launcher.spawn(&host).unwrap();
    assert_ne!(Some(sandboxed.process.pid()), ahead);
    assert!(finish(sandboxed).exit.success());
    let waiting = spare(&launcher).unwrap();
    drop(launcher);
    wait_until("it ends with the launcher", || {
        !std::path::Path::new(&format!("/proc/{waiting}")).exists()
    });
}

#[test]
fn a_sandbox_that_was_cloned_ahead_ends_with_a_launcher_that_is_killed() {
    let launcher = start_launcher();
    let Some(ahead) = spare(&launcher) else {
        return;
    };
    kill_hard(launcher.pid());
    wait_until("it is gone", || {
        !std::path::Path::new(&format!("/proc/{ahead}")).exists()
    });
}
