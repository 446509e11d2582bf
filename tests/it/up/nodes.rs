//! Two nodes on one NATS server.

use std::fs;
use std::process::Command;
use std::thread;

use harness::broker::{Broker, CLASS, PLAN};
use harness::process::{Dispatch, Process};

const INSTANCES: usize = 20;

/// Says what each node decides.
const LOG: &str = "info,engine_runtime=debug";

/// A second engine on the first one's NATS, with the same keys.
fn second(first: &Dispatch) -> Process {
    let home = first.scratch().join("second");
    for file in ["keys/master.key", "credentials/token"] {
        let copy = home.join(file);
        fs::create_dir_all(copy.parent().expect("it has one")).expect("it can be made");
        fs::copy(first.home().join(file), &copy).expect("it can be copied");
    }
    let mut command: Command = first.command();
    command
        .args([
            "serve",
            "--roles",
            "engine",
            "--nats-url",
            &first.nats_url(),
        ])
        .arg("--nats-credentials")
        .arg(first.home().join("credentials/nats-engine.json"))
        .env("DISPATCH_HOME", home)
        .env("DISPATCH_LOG", LOG);
    Process::start(
        command,
        "Dispatch is up",
        &first.scratch().join("second.log"),
    )
    .0
}

fn create_all(dispatch: &Dispatch, names: &[String]) {
    thread::scope(|scope| {
        for some in names.chunks(INSTANCES / 4) {
            scope.spawn(move || {
                for name in some {
                    let _ = dispatch
                        .cli(&["create", "serviceinstance", name, CLASS, PLAN])
                        .ok();
                }
            });
        }
    });
}

#[test]
fn two_engines_share_the_work_and_each_instance_is_made_and_bound_once() {
    let broker = Broker::start();
    let dispatch = Dispatch::up_with(&[("DISPATCH_LOG", LOG)]);
    broker.register(&dispatch, "fake");
    let mut second = second(&dispatch);
    let names: Vec<String> = (0..INSTANCES).map(|i| format!("db-{i}")).collect();
    create_all(&dispatch, &names);
    for name in &names {
        dispatch.until("serviceinstance", name, |instance| {
            instance["status"] == "READY"
        });
    }
    assert_eq!(broker.instances().len(), INSTANCES);
    assert_eq!(broker.bindings().len(), INSTANCES);
    assert_eq!(broker.violations(), Vec::<String>::new());
    for log in [dispatch.log(), second.said()] {
        assert!(
            log.contains("command decided"),
            "each node has decided some: {log}"
        );
    }
    assert!(second.stop(), "it ends by itself");
}
