//! What of the network a sandbox reaches under each policy.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use adapter_sandbox::{Endpoint, Network, Spec};

use crate::support::{finish, launcher, printed, python, shell};

/// Says hello to each `host port` among the arguments and prints what comes back, or the error.
const CLIENT: &str = "
import socket, sys
for host, port in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.sendall(b'hello from ' + host.encode())
            s.shutdown(socket.SHUT_WR)
            print(s.recv(100).decode())
    except OSError as e: print(type(e).__name__, e.errno)
";

fn client(network: Network, targets: &[(&str, u16)]) -> Spec {
    let mut spec = python(CLIENT);
    for (host, port) in targets {
        spec.args.extend([(*host).to_owned(), port.to_string()]);
    }
    spec.network = network;
    spec
}

/// Answers each of `count` connections with what it sent, in capitals.
fn shout(listener: &TcpListener, count: usize) {
    for _ in 0..count {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    }
}

#[test]
fn without_a_network_the_hosts_services_are_out_of_reach() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    let text = printed(&client(
        Network::None,
        &[("127.0.0.1", port), ("192.0.2.1", 80)],
    ));
    assert_eq!(text, "ConnectionRefusedError 111\nOSError 101\n");
    assert_eq!(host.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn without_a_network_the_loopback_works_inside() {
    let script = "
import socket
s = socket.create_server(('localhost', 0))
c = socket.create_connection(s.getsockname())
c.sendall(b'x')
print(s.accept()[0].recv(1))
";
    assert_eq!(printed(&python(script)), "b'x'\n");
}

#[test]
fn a_relay_reaches_its_endpoints_and_nothing_else() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let endpoints = [
        ("10.11.12.13", 5432),
        ("db.internal", 5432),
        ("mq.internal", 443),
    ];
    let endpoints = endpoints
        .map(|(host, port)| Endpoint::new(host, port))
        .to_vec();
    let reached = [
        ("10.11.12.13", 5432),
        ("db.internal", 5432),
        ("MQ.internal", 443),
    ];
    let not = [
        ("127.0.0.1", port),
        ("10.11.12.13", 5433),
        ("db.internal", 443),
        ("10.11.12.14", 5432),
        ("other.internal", 5432),
    ];
    let spec = client(
        Network::Relay(endpoints.clone()),
        &[reached.as_slice(), &not].concat(),
    );
    let mut sandboxed = launcher().spawn(&spec).unwrap();
    let listeners = std::mem::take(&mut sandboxed.listeners);
    assert_eq!(
        listeners.iter().map(|(e, _)| e.clone()).collect::<Vec<_>>(),
        endpoints
    );
    // The relay of the engine, in short: accept inside, connect outside.
    let relays = listeners.into_iter().map(|(_, fd)| {
        std::thread::spawn(move || {
            let (mut inside, _) = TcpListener::from(fd).accept().unwrap();
            let mut outside = TcpStream::connect(("127.0.0.1", port)).unwrap();
            std::io::copy(&mut inside, &mut outside).unwrap();
            outside.shutdown(std::net::Shutdown::Write).unwrap();
            std::io::copy(&mut outside, &mut inside).unwrap();
        })
    });
    let relays: Vec<_> = relays.collect();
    shout(&host, reached.len());
    let output = finish(sandboxed);
    let lines: Vec<_> = output.stdout.lines().collect();
    let expected = [
        "HELLO FROM 10.11.12.13",
        "HELLO FROM DB.INTERNAL",
        "HELLO FROM MQ.INTERNAL",
        "ConnectionRefusedError 111",
        "ConnectionRefusedError 111",
        "ConnectionRefusedError 111",
        "OSError 101",
    ];
    assert_eq!(lines[..7], expected, "{output:?}");
    assert!(lines[7].starts_with("gaierror"), "{output:?}");
    for relay in relays {
        relay.join().unwrap();
    }
}

#[test]
fn a_relay_binds_addresses_of_the_sixth_version_too() {
    let network = Network::Relay(vec![
        Endpoint::new("fd00::7", 5432),
        Endpoint::new("::1", 53),
    ]);
    let mut sandboxed = launcher()
        .spawn(&client(network, &[("fd00::7", 5432)]))
        .unwrap();
    let (endpoint, fd) = sandboxed.listeners.remove(0);
    assert_eq!(endpoint.to_string(), "[fd00::7]:5432");
    shout(&TcpListener::from(fd), 1);
    assert_eq!(finish(sandboxed).stdout, "HELLO FROM FD00::7\n");
}

#[test]
fn endpoints_that_are_the_same_share_one_listener() {
    let endpoints = ["127.0.0.1", "localhost", "127.0.0.1"].map(|host| Endpoint::new(host, 5432));
    let mut spec = shell("true");
    spec.network = Network::Relay(endpoints.to_vec());
    let sandboxed = launcher().spawn(&spec).unwrap();
    assert_eq!(sandboxed.listeners.len(), 1);
    assert!(finish(sandboxed).exit.success());
}

#[test]
fn with_the_hosts_network_its_services_are_reached() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let sandboxed = launcher()
        .spawn(&client(Network::Host, &[("localhost", port)]))
        .unwrap();
    shout(&host, 1);
    assert_eq!(finish(sandboxed).stdout, "HELLO FROM LOCALHOST\n");
}
