//! A broker in a process of its own, so that it can be killed as one.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use adapter_postgres_broker::{Broker, Config, SharedServer};
use rustix::process::Pid;
use tokio_util::sync::CancellationToken;

use super::{Platform, config, eventually};

/// Where a broker of its own process keeps its state; it writes its address there.
const STATE_VARIABLE: &str = "BROKER_UNDER_TEST";

pub(crate) struct BrokerProcess {
    child: Child,
    pub(crate) platform: Platform,
}

impl BrokerProcess {
    /// Starts a broker. In the state directory lie the catalog `plans.yaml` and the file
    /// `server-url`; without them it has the example catalog and no shared server.
    pub(crate) async fn start(state: &Path) -> Self {
        let address = state.join("address");
        let _ = std::fs::remove_file(&address);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::broker_process", "--ignored"])
            .env(STATE_VARIABLE, state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the process listens", || async { address.exists() }).await;
        let platform = Platform::new(&std::fs::read_to_string(&address).unwrap());
        Self { child, platform }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
pub(crate) async fn be_the_process() {
    let state = std::env::var(STATE_VARIABLE).expect("started by another test");
    let state = Path::new(&state);
    let running = Broker::start(of_directory(state), CancellationToken::new())
        .await
        .unwrap();
    let (written, address) = (state.join("address.new"), state.join("address"));
    std::fs::write(&written, format!("http://{}", running.local_addr)).unwrap();
    std::fs::rename(&written, &address).unwrap();
    running.join.await.unwrap().unwrap();
}

fn of_directory(state: &Path) -> Config {
    let mut config = config(state);
    if let Ok(url) = std::fs::read_to_string(state.join("server-url")) {
        config.shared = Some(SharedServer::new(url));
        config.catalog = state.join("plans.yaml");
    }
    config
}
