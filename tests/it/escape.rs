//! Functions that mean harm, in sandboxes made by root and by an ordinary user: what they must not
//! reach, what they must not use up, and that their neighbour goes on meanwhile.

mod bed;

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use adapter_functions::Source;
use adapter_sandbox::Endpoint;
use bed::{Bed, SECRET, User, attacker, bound, revision, users};
use serde_json::json;

/// Runs a story for each user that can make sandboxes here.
macro_rules! for_each_user {
    ($($name:ident => $story:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for user in users() {
                let bed = Bed::new(user).await;
                let story: fn(Bed) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
                    |bed| Box::pin($story(bed));
                story(bed).await;
            }
        })*
    };
}

for_each_user! {
    the_hosts_files_are_out_of_reach => host_files;
    other_functions_memory_and_environment_are_out_of_reach => other_workers;
    the_network_is_what_the_policy_says => network;
    no_privilege_is_gained => privileges;
    the_kernel_refuses_what_would_widen_the_sandbox => kernel;
    bombs_of_processes_and_threads_are_bounded => forks;
    memory_is_bounded => memory;
    disk_is_bounded => disk;
    output_is_bounded => output;
    descriptors_are_no_way_to_the_engine => descriptors;
    signals_end_only_the_attacker => signals;
    what_a_call_leaves_running_is_ended => grandchildren;
    archives_unpack_into_their_own_folder_or_not_at_all => archives;
}

async fn host_files(bed: Bed) {
    let marker = bed.folder.path().join("marker");
    std::fs::write(&marker, "of the host").unwrap();
    bed.holds("host_files", json!({"marker": marker})).await;
}

async fn other_workers(bed: Bed) {
    bed.holds("other_workers", json!({"secret": SECRET})).await;
}

async fn network(bed: Bed) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("dispatch-escape-{}", listener.local_addr().unwrap().port());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let targets = json!({
        "port": listener.local_addr().unwrap().port(),
        "datagrams": datagrams.local_addr().unwrap().port(),
        "address": own_address(),
        "abstract": name,
    });
    bed.holds("network", targets.clone()).await;
    // With the services' policy the endpoint is reached, and nothing else.
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reached = service.local_addr().unwrap();
    let mut targets = targets;
    targets["allowed"] = json!(["127.0.0.1", reached.port()]);
    let accepted = tokio::spawn(async move { service.accept().await.map(drop) });
    let mut with_service = bound("network", vec![Endpoint::from(reached)]);
    with_service.id = "network-with-a-service".into();
    targets["attack"] = json!("network");
    let done = bed.attack(with_service, targets).await;
    bed.achieved_nothing("network with a service", &done);
    accepted.await.unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
    datagrams
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert!(datagrams.recv(&mut [0; 16]).is_err(), "a datagram arrived");
}

/// An address of this machine besides the loopback, if it has one.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let routed = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    routed.map_or_else(|_| "127.0.0.1".into(), |address| address.ip().to_string())
}

async fn privileges(bed: Bed) {
    bed.holds("privileges", json!({})).await;
}

async fn kernel(bed: Bed) {
    bed.holds("kernel", json!({})).await;
}

async fn forks(bed: Bed) {
    let done = bed.attack(attacker("bomb_of_forks"), json!({})).await;
    let children = done.output["children"].as_u64();
    assert!(
        children.is_some_and(|count| (1..48).contains(&count)),
        "{done:?}"
    );
    assert_eq!(done.output["refusal"], "EAGAIN", "{done:?}");
    let done = bed.attack(attacker("bomb_of_threads"), json!({})).await;
    let threads = done.output["threads"].as_u64();
    assert!(
        threads.is_some_and(|count| (1..48).contains(&count)),
        "{done:?}"
    );
}

async fn memory(bed: Bed) {
    // As an ordinary user there is no group to count in, and the allocation itself fails.
    let message = match bed.user {
        User::Root => "memory",
        User::Ordinary => "",
    };
    bed.ends("bomb_of_memory", 20_000, message).await;
}

async fn disk(bed: Bed) {
    let done = bed.attack(attacker("fill_disk"), json!({})).await;
    let written = done.output["written"].as_u64();
    let most = 2 * (32 << 20);
    assert!(
        written.is_some_and(|bytes| (1..=most).contains(&bytes)),
        "{done:?}"
    );
    assert_eq!(done.output["reasons"], json!(["ENOSPC"]), "{done:?}");
    let done = bed.attack(attacker("fill_inodes"), json!({})).await;
    assert_ne!(done.output["refusal"], json!(null), "{done:?}");
}

async fn output(bed: Bed) {
    bed.ends("endless_output", 1_000, "exceeded the timeout")
        .await;
    let done = bed.attack(attacker("many_lines"), json!({})).await;
    let kept: usize = done.logs.stderr.iter().map(String::len).sum();
    assert!(kept < 1 << 20, "{kept} bytes of 60 MB are kept");
    let told = done
        .logs
        .stderr
        .iter()
        .any(|line| line.contains("truncated"));
    assert!(told, "and it is said that some are not");
}

async fn descriptors(bed: Bed) {
    let done = bed.attack(attacker("close_descriptors"), json!({})).await;
    let ended = done
        .error
        .as_ref()
        .is_some_and(|error| error.message.contains("process"));
    assert!(ended || done.output == json!("still here"), "{done:?}");
    // What it forges is its own answer, which it may choose anyhow. The next one is genuine.
    let _ = bed.attack(attacker("write_descriptors"), json!({})).await;
    for word in ["one", "two"] {
        let payload = json!({"attack": "echo", "word": word});
        let done = bed.attack(attacker("write_descriptors"), payload).await;
        assert_eq!(done.output, json!(word), "{done:?}");
    }
}

async fn signals(bed: Bed) {
    for attack in ["stop_itself", "stop_all", "kill_all", "ignore_signals"] {
        bed.ends(attack, 700, "exceeded the timeout").await;
    }
}

async fn grandchildren(bed: Bed) {
    let marker = format!(
        "left-by-{}",
        bed.folder.path().file_name().unwrap().display()
    );
    let payload = json!({"marker": marker});
    let done = bed.attack(attacker("leave_grandchildren"), payload).await;
    assert_eq!(done.error, None, "{done:?}");
    harness::process::eventually("nothing is left running", || !runs_with(&marker));
}

fn runs_with(argument: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|&byte| byte == 0)
                .any(|word| word == argument.as_bytes())
        })
}

async fn archives(bed: Bed) {
    let target = bed.folder.path().join("target");
    std::fs::write(&target, "untouched").unwrap();
    let outside = target.display().to_string();
    let climbing = format!("../../../../../..{outside}");
    for (id, members) in [
        ("absolute", vec![("file", outside.as_str(), "")]),
        ("climbing", vec![("file", climbing.as_str(), "")]),
        ("link", vec![("link", "main.py", outside.as_str())]),
        (
            "through-a-link",
            vec![("link", "door", "/"), ("file", "door/etc/escape", "")],
        ),
        ("hard-link", vec![("hard", "main.py", outside.as_str())]),
        ("device", vec![("device", "main.py", "")]),
    ] {
        let mut revision = revision(id, "");
        revision.source = Source::Archive(archive(&members).into());
        let reason = bed.refused(revision).await;
        assert!(
            !reason.is_empty() && !reason.contains("untouched"),
            "{id}: {reason}"
        );
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
}

/// A gzipped tar archive with members that no well-meaning tool writes.
fn archive(members: &[(&str, &str, &str)]) -> Vec<u8> {
    let script = r#"
import io, json, sys, tarfile
out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz") as tar:
    for kind, name, target in json.load(sys.stdin):
        member = tarfile.TarInfo(name)
        member.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
                       "device": tarfile.CHRTYPE}[kind]
        member.linkname = target
        text = b"def handle(context, payload): return 'x'\n"
        member.size = len(text) if kind == "file" else 0
        tar.addfile(member, io.BytesIO(text))
sys.stdout.buffer.write(out.getvalue())
"#;
    use std::io::Write as _;
    let mut child = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let members = serde_json::to_vec(members).unwrap();
    child.stdin.take().unwrap().write_all(&members).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}
