//! Builds: what they print, whose caches they have, and what they can reach.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use adapter_functions::{Built, Config, Endpoint, Order, printed};
use adapter_kit::{Blobs as _, LineSink};
use engine_model::{LogLine, OrgName, Used};

use crate::hostile::{packs, spec};
use crate::support::{Node, node_with, until};

/// Keeps what it is told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl LineSink for Heard {
    fn line(&self, line: LogLine) -> bool {
        self.0.lock().expect("nobody panics").push(line.text);
        true
    }
}

impl Heard {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics").clone()
    }
}

fn of(organization: &str) -> Order {
    Order {
        organization: Some(OrgName::new(organization).expect("a name")),
        lines: None,
    }
}

async fn build(node: &Node, script: &str, order: &Order) -> Built {
    let base = node.functions.base_image("script", "host").await;
    let base = base.expect("there is a shell");
    node.functions.build(&base, &spec(script), order).await
}

/// What the object store has of a build's log.
async fn kept(node: &Node, built: &Built) -> String {
    let log = built.log.as_ref().expect("it printed something");
    let bytes = node.blobs.get(log).await.expect("it is there");
    String::from_utf8(printed(&bytes).to_vec()).expect("it is text")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_build_prints_is_told_while_it_goes_on_and_kept_without_secrets() {
    let packs = packs();
    let mut state = std::path::PathBuf::new();
    let node = node_with(|config| {
        config.packs = Some(packs.path().to_owned());
        state.clone_from(&config.state_dir);
    });
    let heard = Arc::new(Heard::default());
    let order = Order {
        lines: Some(Arc::clone(&heard) as _),
        ..of("tenant")
    };
    // The second line is printed when this test has heard of the first.
    let script = "mkfifo $CACHE/gate
        echo from https://joe:s3cret@example.com/x
        read -r line < $CACHE/gate
        echo $line
        exit 3";
    let first = "from https://***@example.com/x";
    let gate = state.join("cache/tenant@host/gate");
    let opening = async {
        until("the first line is told", || heard.all() == [first]).await;
        let open = move || std::fs::write(gate, "the second\n");
        let opened = tokio::task::spawn_blocking(open).await;
        opened.expect("no panic").expect("somebody reads");
    };
    let (built, ()) = tokio::join!(build(&node, script, &order), opening);
    let failure = built.layer.as_ref().expect_err("it ended with 3");
    assert!(failure.reason.contains("the second"), "{failure}");
    assert_eq!(heard.all(), [first, "the second"]);
    assert_eq!(kept(&node, &built).await, format!("{first}\nthe second\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_organization_finds_what_a_build_of_another_has_left() {
    let packs = packs();
    let node = node_with(|config| config.packs = Some(packs.path().to_owned()));
    let script = |mark: &str| {
        format!("echo cached: $(ls -A $CACHE); touch $CACHE/{mark}; mkdir $LAYER/shown # {mark}")
    };
    for (organization, mark, cached) in [
        ("one", "a", "cached:\n"),
        ("other", "a", "cached:\n"),
        ("one", "b", "cached: a\n"),
        ("other", "c", "cached: a\n"),
        // It is there already, with what its build printed.
        ("one", "a", "cached:\n"),
    ] {
        let built = build(&node, &script(mark), &of(organization)).await;
        assert!(matches!(&built.layer, Ok(Some(_))), "{built:?}");
        assert_eq!(kept(&node, &built).await, cached, "{organization} {mark}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_build_takes_nobody_elses_blob_with_it() {
    let packs = packs();
    let mut state = std::path::PathBuf::new();
    let node = node_with(|config| {
        config.packs = Some(packs.path().to_owned());
        state.clone_from(&config.state_dir);
    });
    let source = node.blobs.put("the source\n".into()).await.expect("stored");
    let mut logs = Vec::new();
    for organization in ["one", "other"] {
        let built = build(&node, "echo the source; exit 3", &of(organization)).await;
        assert!(built.layer.is_err(), "{built:?}");
        assert_eq!(kept(&node, &built).await, "the source\n");
        logs.push(built.log.expect("it printed something"));
        if organization == "one" {
            // It is a log of long ago when the other builds.
            for entry in std::fs::read_dir(state.join("layers/logs")).expect("a folder") {
                let file = std::fs::File::open(entry.expect("a log").path()).expect("a log");
                let long_ago = std::time::SystemTime::UNIX_EPOCH;
                file.set_modified(long_ago).expect("it is ours");
            }
        }
    }
    let cleared = node.functions.clear(Used::default()).await;
    assert_eq!(cleared, Ok(0));
    let mut there = Vec::new();
    for digest in [&logs[0], &logs[1], &source] {
        there.push(node.blobs.has(digest).await.expect("it answers"));
    }
    assert_eq!(there, [false, true, true], "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_reaches_what_the_owner_lets_it_reach() {
    let packs = packs();
    let open = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let shut = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = [&open, &shut].map(|it| it.local_addr().expect("it is bound").port());
    let tries = ports.map(|port| {
        format!(
            "perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(q(127.0.0.1:{port})) ? 1 : 0'"
        )
    });
    let script = format!("{}; {}; echo", tries[0], tries[1]);
    let only = Endpoint {
        host: "127.0.0.1".into(),
        port: ports[0],
    };
    for (hosts, reached) in [
        (None, "11\n"),
        (Some(vec![only]), "10\n"),
        (Some(Vec::new()), "00\n"),
    ] {
        let node = node_with(|config: &mut Config| {
            config.packs = Some(packs.path().to_owned());
            config.builds.hosts.clone_from(&hosts);
        });
        let built = build(&node, &script, &Order::default()).await;
        assert_eq!(built.layer, Ok(None));
        assert_eq!(kept(&node, &built).await, reached, "{hosts:?}");
    }
}
