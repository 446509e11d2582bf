//! The first process after the set-up: starts the program and reaps whatever it leaves behind.
//!
//! The program is not the first process itself, because that one gets no default signal actions
//! and every orphan as a child, which an interpreter does not wait for.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::{Failure, Plan, Stdio, Step};
use crate::sys::{self, WaitStatus};
use crate::wire;

/// Starts the program and stays until it ends; then the kernel ends all else in the sandbox.
pub(super) fn run(plan: &Plan<'_>) -> Result<Infallible, Failure> {
    match sys::fork().step("fork")? {
        None => become_program(plan),
        Some(program) => {
            let mut kept = [plan.sync.as_raw_fd()];
            // Or the engine would never see the end of the program's output.
            sys::close_all_but(&mut kept).step("close descriptors")?;
            let status = reap_until(program);
            tell(&plan.sync, status);
            sys::exit_now(0)
        }
    }
}

/// Waits for the program, and on the way for every orphan.
fn reap_until(program: i32) -> Option<WaitStatus> {
    loop {
        match sys::wait_any(true) {
            Ok(Some((pid, status))) if pid == program => return Some(status),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Tells the helper how the program ended; when the helper is gone, so is this process soon.
fn tell(sync: &OwnedFd, status: Option<WaitStatus>) {
    if let Some(WaitStatus(raw)) = status {
        let _ = wire::send_bytes(sync, &raw.to_ne_bytes(), &[]);
    }
}

fn become_program(plan: &Plan<'_>) -> Result<Infallible, Failure> {
    let spec = plan.spec;
    let c_string = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
    let program = c_string(spec.program.as_os_str().as_bytes()).step("name the program")?;
    let args = std::iter::once(Ok(program.clone()))
        .chain(spec.args.iter().map(|arg| c_string(arg.as_bytes())))
        .collect::<io::Result<Vec<_>>>()
        .step("copy arguments")?;
    let env = spec
        .env
        .iter()
        .map(|(key, value)| c_string(format!("{key}={value}").as_bytes()))
        .collect::<io::Result<Vec<_>>>()
        .step("copy the environment")?;
    sys::new_session().step("make a session")?;
    std::env::set_current_dir(&spec.cwd)
        .step_with(|| format!("enter the working directory {}", spec.cwd.display()))?;
    connect(&plan.stdio).step("set up descriptors")?;
    sys::unblock_signals().step("unblock signals")?;
    sys::exec(&program, &args, &env)
        .step_with(|| format!("run the program {}", spec.program.display()))
}

/// Gives the program its four or five descriptors; all others are closed by exec.
fn connect(stdio: &Stdio) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    sys::dup_to(&null, 0)?;
    sys::dup_to(&stdio.stdout, 1)?;
    sys::dup_to(&stdio.stderr, 2)?;
    sys::dup_to(&stdio.channel, 3)?;
    match &stdio.queue {
        Some(queue) => sys::dup_to(queue, 4),
        None => Ok(()),
    }
}
