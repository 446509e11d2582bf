//! The worker, and the sandbox launcher that starts it, as one program for this crate's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    match adapter_wasm::worker_arguments(std::env::args().skip(1)) {
        Some(arguments) => adapter_wasm::worker_main(arguments.into_iter()),
        None => adapter_sandbox::launcher_main(),
    }
}
