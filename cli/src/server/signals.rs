//! What ends a server process.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for the wish to end: a Ctrl-C or a termination.
pub(crate) async fn asked_to_end() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
