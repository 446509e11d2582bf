//! What the process ends with: one documented number per expected condition.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, or refused by the server.
    Failed,
    /// 3: the function ran and failed.
    RunFailed,
    /// 4: what was waited for ended in ERROR.
    EndedInError,
    /// 5: the server cannot be reached, or did not answer in time.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // 2 is the argument parser's own, for wrong usage.
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::RunFailed => 3,
            Exit::EndedInError => 4,
            Exit::Unreachable => 5,
        })
    }
}
