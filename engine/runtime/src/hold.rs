//! Holds a node at a named line, so that a test can kill it exactly there, and shortens waits that
//! are too long for a test.
//!
//! In a release build this is nothing. In a debug build `DISPATCH_HOLD_AT` names the line, as
//! `before provision` or `after bind`; whoever reaches it says so in the log and stays there.
//! `DISPATCH_SOONER_MS` says how long such waits are.

use std::time::Duration;

/// Stays here for ever if this is the line that is named.
pub(crate) async fn at(when: &'static str, what: &str) {
    if named(when, what) {
        tracing::warn!(when, what, "held for a test");
        std::future::pending::<()>().await;
    }
}

#[cfg(debug_assertions)]
fn named(when: &str, what: &str) -> bool {
    use std::sync::OnceLock;
    static LINE: OnceLock<Option<String>> = OnceLock::new();
    let line = LINE.get_or_init(|| std::env::var("DISPATCH_HOLD_AT").ok());
    line.as_deref()
        .and_then(|line| line.strip_prefix(when)?.strip_prefix(' '))
        == Some(what)
}

#[cfg(not(debug_assertions))]
fn named(_when: &str, _what: &str) -> bool {
    false
}

/// This wait, or the shorter one of a test.
pub(crate) fn sooner(wait: Duration) -> Duration {
    shortened().map_or(wait, |short| short.min(wait))
}

#[cfg(debug_assertions)]
fn shortened() -> Option<Duration> {
    let ms = std::env::var("DISPATCH_SOONER_MS").ok()?;
    ms.parse().ok().map(Duration::from_millis)
}

#[cfg(not(debug_assertions))]
fn shortened() -> Option<Duration> {
    None
}
