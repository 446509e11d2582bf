//! Makes a result fit into a message.

use std::io::{self, Write};

use engine_model::{RunError, RunErrorKind, RunResult};
use serde::Serialize;

use super::call::failed;

/// Largest result, as JSON. The message of 1 MiB that holds it has headers too, and the reply to
/// the sender repeats how the run began.
pub(super) const BYTES_MAX: usize = 900 * 1024;

/// Largest error of an attempt that is made again, as JSON: its event is small, so that a handler
/// that raises something huge is not called once more for want of a place to say so.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The mark of what was left out.
const CUT: &str = "[truncated]";

/// The error, with as much of its message and of its stack trace as there is room for.
pub(super) fn cut(mut error: RunError) -> RunError {
    if size(&error) <= ERROR_BYTES_MAX {
        return error;
    }
    // A character may take six bytes of JSON.
    let room = ERROR_BYTES_MAX / 6 / 2;
    if error.message.len() > room {
        let end = error.message.floor_char_boundary(room);
        error.message.truncate(end);
        error.message.push_str(CUT);
    }
    let mut left = room;
    let kept = error.stacktrace.iter().take_while(|line| {
        left = left.saturating_sub(line.len() + 1);
        left > 0
    });
    let kept = kept.count();
    if kept < error.stacktrace.len() {
        error.stacktrace.truncate(kept);
        error.stacktrace.push(CUT.into());
    }
    error
}

/// The result; without what the function printed when only that is too much, and a failure when
/// it is too much even so.
pub(super) fn fit(mut result: RunResult, bytes_max: usize) -> RunResult {
    let bytes = size(&result);
    if bytes <= bytes_max {
        return result;
    }
    for lines in [&mut result.logs.stdout, &mut result.logs.stderr] {
        if !lines.is_empty() {
            *lines = vec!["[truncated: what was printed does not fit into a message]".into()];
        }
    }
    if size(&result) <= bytes_max {
        return result;
    }
    result.error = result.error.map(cut);
    if size(&result) <= bytes_max {
        return result;
    }
    too_large(bytes)
}

/// The failure of a run whose result has so many bytes.
pub(super) fn too_large(bytes: usize) -> RunResult {
    let text = format!("the result has {bytes} bytes, more than a message takes");
    failed(RunErrorKind::FunctionError, text)
}

fn size(result: &impl Serialize) -> usize {
    let mut count = Count(0);
    serde_json::to_writer(&mut count, result).expect("counting bytes does not fail");
    count.0
}

struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine_model::RunLogs;
    use serde_json::json;

    use super::*;

    fn result(printed: usize, output: usize) -> RunResult {
        RunResult {
            output: json!("o".repeat(output)),
            logs: RunLogs {
                stdout: vec!["l".repeat(printed)],
                stderr: Vec::new(),
            },
            ..RunResult::default()
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(fit(result(300, 300), 1000), result(300, 300));
    }

    #[test]
    fn too_much_print_costs_the_print_and_not_the_output() {
        let cut = fit(result(2000, 300), 1000);
        assert_eq!((&cut.output, &cut.error), (&result(0, 300).output, &None));
        assert!(cut.logs.stdout[0].starts_with("[truncated"), "{cut:?}");
        assert!(cut.logs.stderr.is_empty());
    }

    #[test]
    fn too_large_a_result_is_a_failure_that_says_so() {
        let failed = fit(result(10, 2000), 1000);
        let error = failed.error.unwrap();
        assert!(
            error.message.contains("more than a message takes"),
            "{error:?}"
        );
        assert!(failed.output.is_null());
    }

    #[test]
    fn a_huge_error_is_cut_and_still_says_what_it_was() {
        let small = RunError {
            kind: RunErrorKind::InputError,
            message: "no".into(),
            stacktrace: vec!["here".into()],
        };
        assert_eq!(cut(small.clone()), small);
        for (message, line, lines) in [
            ("\u{1}é".repeat(1 << 20), "x".into(), 1),
            ("no".into(), "at é".repeat(100), 1 << 14),
            ("no".into(), "\u{1}".repeat(1 << 20), 1),
            ("no".into(), String::new(), 1 << 20),
        ] {
            let error = cut(RunError {
                kind: RunErrorKind::InputError,
                message,
                stacktrace: vec![line; lines],
            });
            assert!(size(&error) <= ERROR_BYTES_MAX, "{}", size(&error));
            assert_eq!(error.kind, RunErrorKind::InputError);
            assert!(!error.message.is_empty());
        }
    }
}
