//! The command line of Dispatch: every command, and the processes `up`, `serve` and `broker`.

pub mod args;
pub mod client;
pub mod config;
pub mod exit;
pub mod output;
pub mod server;

mod command;

use std::process::ExitCode;

use adapter_kit::ClientError;
use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::Exit;

/// Parses, runs, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(feature = "wasm")]
    if let Some(arguments) = adapter_wasm::worker_arguments(std::env::args().skip(1)) {
        return adapter_wasm::worker_main(arguments.into_iter());
    }
    let cli = Cli::parse();
    if matches!(cli.command, Command::SandboxLauncher) {
        adapter_sandbox::launcher_main()
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("dispatch: cannot start: {error}"));
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(command::run(cli));
    // Reads of standard input and the like must not hold the process back.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| fail(&error)).into()
}

/// Prints an error with its causes once, and says which exit it is.
fn fail(error: &anyhow::Error) -> Exit {
    let mut text = format!("dispatch: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    output::note(&text);
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Timeout(_) | ClientError::Unreachable(_)) => Exit::Unreachable,
        Some(ClientError::Rejected(rejection)) => {
            output::note(&format!("see docs/errors/{}.md", rejection.code));
            Exit::Failed
        }
        None => Exit::Failed,
    }
}
