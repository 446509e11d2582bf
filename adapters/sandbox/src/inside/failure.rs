//! A step of the set-up that failed, in a form that can be sent.

use std::io;

/// Which step, and the system's number for why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) errno: i32,
}

/// Names the step that a result came from.
pub(crate) trait Step<T> {
    /// For a step whose name is known.
    fn step(self, name: &str) -> Result<T, Failure>;
    /// For a step whose name tells of a value.
    fn step_with(self, name: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, name: &str) -> Result<T, Failure> {
        self.step_with(|| name.to_owned())
    }

    fn step_with(self, name: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Failure {
                step: name(),
                errno,
            },
            // The standard library's own errors have a text only.
            None => Failure {
                step: format!("{}: {error}", name()),
                errno: libc::EINVAL,
            },
        })
    }
}
