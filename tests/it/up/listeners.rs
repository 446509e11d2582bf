//! Who may reach a server.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use async_nats::ConnectOptions;
use harness::descendants;
use harness::http::client;
use harness::nats::Nats;
use harness::process::Dispatch;
use reqwest::StatusCode;
use tokio::runtime::Runtime;

/// The state of a socket that listens, as the kernel writes it.
const LISTEN: &str = "0A";

#[test]
fn every_listener_is_on_the_loopback() {
    let dispatch = Dispatch::up();
    let pids = [vec![dispatch.id()], descendants(dispatch.id())].concat();
    let found = listeners(dispatch.id(), &pids);
    let config = dispatch.config();
    for port in ["port", "api-http-port", "api-https-port"] {
        let port = config[port].as_u64().expect("it is a number");
        assert!(found.contains_key(&port), "{port} is not in {found:?}");
    }
    let nats = dispatch.nats_url();
    let (_, port) = nats.rsplit_once(':').expect("it has a port");
    assert!(
        found.contains_key(&port.parse().expect("it is a number")),
        "{nats}: {found:?}"
    );
    for (port, host) in &found {
        assert_eq!(
            host,
            &Ipv4Addr::LOCALHOST.to_string(),
            "port {port} of {found:?}"
        );
    }
}

/// The ports on which these processes listen, with the addresses.
fn listeners(of: u32, pids: &[u32]) -> BTreeMap<u64, String> {
    let sockets = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect::<Vec<_>>()
    };
    let open: HashSet<_> = pids.iter().flat_map(sockets).collect();
    let mut found = BTreeMap::new();
    for family in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{of}/net/{family}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, state, inode) = (words[1], words[3], words[9]);
            let socket = PathBuf::from(format!("socket:[{inode}]"));
            if state != LISTEN || !open.contains(&socket) {
                continue;
            }
            let (host, port) = address.split_once(':').expect("an address has a port");
            let port = u64::from_str_radix(port, 16).expect("ports are hexadecimal");
            found.insert(port, shown(host));
        }
    }
    found
}

/// An IPv4 address is written as one number in the machine's own order; others stay as they are.
fn shown(host: &str) -> String {
    match u32::from_str_radix(host, 16) {
        Ok(number) => Ipv4Addr::from(number.to_ne_bytes()).to_string(),
        Err(_) => host.to_owned(),
    }
}

#[test]
fn nats_refuses_who_has_no_credentials_or_wrong_ones() {
    let dispatch = Dispatch::up();
    let url = dispatch.nats_url();
    for options in [
        ConnectOptions::new(),
        ConnectOptions::with_user_and_password("client".into(), "guessed".into()),
    ] {
        let refused = Nats::connect_with(&url, options).expect_err("it lets nobody in");
        assert_eq!(
            refused.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation
        );
    }
    let known = Nats::connect(&dispatch, "client");
    assert_eq!(
        known.client().connection_state(),
        async_nats::connection::State::Connected
    );
}

#[test]
fn the_rest_api_answers_401_without_a_token_and_with_a_wrong_one() {
    let dispatch = Dispatch::up();
    let port = &dispatch.config()["port"];
    let token = fs::read_to_string(dispatch.home().join("credentials/token"));
    let token = token.expect("it is there");
    let (client, runtime) = (client(), Runtime::new().expect("a runtime can be made"));
    let ask = |path: &str, token: Option<&str>| {
        let request = client.get(format!("https://127.0.0.1:{port}{path}"));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        runtime
            .block_on(request.send())
            .expect("it answers")
            .status()
    };
    for path in [
        "/v1/function",
        "/v1/secret",
        "/v1/runs",
        "/v1/secret/absent",
    ] {
        assert_eq!(ask(path, None), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(
            ask(path, Some("guessed")),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    assert_eq!(ask("/v1/function", Some(token.trim())), StatusCode::OK);
}
