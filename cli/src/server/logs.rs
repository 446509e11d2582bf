//! Logs of a server process: standard error, as text for people or as JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `DISPATCH_LOG` says otherwise.
const DEFAULT: &str = "info,async_nats=warn,sled=warn";

/// Starts logging. `DISPATCH_LOG` filters; `DISPATCH_LOG_FORMAT=json` writes JSON.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("DISPATCH_LOG").unwrap_or_else(|_| DEFAULT.into());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let json = std::env::var("DISPATCH_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second server in one process, as in tests, shares the first one's log.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}
