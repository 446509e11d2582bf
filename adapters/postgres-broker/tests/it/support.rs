//! What the tests stand on: a broker, a platform that talks to it, a PostgreSQL server.

mod broker;
mod platform;
mod postgres;
mod process;
mod seed;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use broker::{TestBroker, postmasters};
pub(crate) use platform::{Platform, Reply, ids, instance_body};
pub(crate) use postgres::{SharedServer, connect, connect_plain};
pub(crate) use process::{BrokerProcess, be_the_process};
pub(crate) use seed::seeded_state;
pub(crate) use wire::{Side, Wire};

use adapter_postgres_broker::{Config, SharedServer as SharedConfig};

pub(crate) const USERNAME: &str = "platform";
pub(crate) const PASSWORD: &str = "correct horse: battery";

pub(crate) const AZURE: &str = "25434f16-d762-41c7-bbdd-8045d7f74ca6";
pub(crate) const BASIC50: &str = "b2ed210f-6a10-4593-a6c4-964e6b6fad62";
pub(crate) const BASIC100: &str = "843d7d03-9306-447e-8c19-25ccc4ac30d7";
pub(crate) const POSTGRESQL: &str = "0f4c6b1e-3a52-4d0e-9a3b-6d1f0c6f5e21";
pub(crate) const SHARED_DB: &str = "7c1de0a4-95b6-4c33-8f0e-2b7a4e9d8c15";

/// The offering and the plans of the other example catalog.
pub(crate) const PLANS: &str = "5b0a3c7e-54b6-4d0b-9d54-6f1f5d8f7a10";
pub(crate) const SMALL: &str = "0d9c8f52-7a0e-4f58-8a35-1a3ce3b1d4f1";
pub(crate) const LARGE: &str = "4f6f7c0c-2a43-4f0e-8d0a-54d1f6b4b6a2";
pub(crate) const EXPIRING: &str = "9a1b4e63-6f6d-4a7d-9f6e-0f2d7c5b3e93";
pub(crate) const SERVER: &str = "c1f0d9a4-3b7e-4f4a-b6e0-7d1c2a9e5f04";

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The example catalog, as it is shipped.
pub(crate) fn catalog() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/azure-catalog.yaml")
}

pub(crate) fn config(state_dir: &Path) -> Config {
    Config::new(USERNAME, PASSWORD, catalog(), state_dir)
}

pub(crate) fn shared_config(state_dir: &Path, server: &SharedServer) -> Config {
    let mut config = config(state_dir);
    config.shared = Some(SharedConfig::new(server.url()));
    config
}

/// A broker with the other example catalog, changed before it is read.
pub(crate) fn plans_config(
    state_dir: &Path,
    server: &SharedServer,
    change: impl Fn(String) -> String,
) -> Config {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/postgres-catalog.yaml");
    let mut config = shared_config(state_dir, server);
    config.catalog = state_dir.join("plans.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    std::fs::write(&config.catalog, change(text)).unwrap();
    config
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As [`eventually`], for a condition that changes what it looks at.
pub(crate) async fn eventually_mut(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
