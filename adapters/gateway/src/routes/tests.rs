//! Rules of precedence, and what is reported when they are not enough.

use std::time::{Duration, Instant};

use super::*;

fn api(org: &str, name: &str, paths: &[&str]) -> Api {
    Api {
        org: org.into(),
        name: name.into(),
        function: "f".into(),
        hosts: vec![],
        methods: vec![],
        protocols: vec![],
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        authentication: "public".into(),
        cors: false,
        record: true,
        enabled: true,
    }
}

fn with(mut api: Api, hosts: &[&str], methods: &[&str], protocols: &[&str]) -> Api {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    (api.hosts, api.methods, api.protocols) = (owned(hosts), owned(methods), owned(protocols));
    api
}

/// Who serves a request: the API's name, `https` when it must be asked for so, or `-`.
fn served(routes: &Routes, request: &str) -> String {
    let (method, url) = request.split_once(' ').expect("METHOD URL");
    let (scheme, rest) = url.split_once("://").expect("scheme://");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let method: Method = method.parse().expect("method");
    let host = bare_host(host);
    match routes.find(path, &host, scheme == "https", |route| route.takes(&method)) {
        Found::Serve(route) => route.api.name.clone(),
        Found::NeedsHttps => "https".into(),
        Found::Nothing => "-".into(),
    }
}

fn check(apis: Vec<Api>, expected: &[(&str, &str)]) {
    let mut reversed = apis.clone();
    reversed.reverse();
    for apis in [apis, reversed] {
        let routes = Routes::build(apis);
        for (request, name) in expected {
            assert_eq!(served(&routes, request), *name, "{request}");
        }
    }
}

#[test]
fn a_path_claims_itself_and_what_lies_below_it() {
    check(
        vec![api("o", "pay", &["/pay"]), api("o", "now", &["/pay/now/"])],
        &[
            ("GET http://h/pay", "pay"),
            ("GET http://h/pay/", "pay"),
            ("GET http://h/pay/later", "pay"),
            ("GET http://h/pay/now", "now"),
            ("GET http://h/pay/now/or/never", "now"),
            ("GET http://h/payments", "-"),
            ("GET http://h/", "-"),
            ("GET http://h", "-"),
        ],
    );
}

#[test]
fn no_paths_claim_every_path() {
    check(
        vec![api("o", "all", &[])],
        &[("GET http://h/", "all"), ("GET http://h/a/b", "all")],
    );
}

#[test]
fn a_named_host_precedes_any_host() {
    check(
        vec![
            with(api("a", "any", &["/x"]), &[], &["GET"], &[]),
            with(api("b", "one", &["/x"]), &["One.Example:8080"], &[], &[]),
        ],
        &[
            ("GET http://one.example/x", "one"),
            ("GET http://ONE.example.:80/x", "one"),
            ("GET http://two.example/x", "any"),
            ("GET http://[::1]:80/x", "any"),
        ],
    );
}

#[test]
fn a_named_method_precedes_any_method_and_get_includes_head() {
    check(
        vec![
            api("a", "any", &["/x"]),
            with(api("b", "get", &["/x"]), &[], &["get"], &[]),
            with(api("b", "post", &["/y"]), &[], &["POST"], &[]),
        ],
        &[
            ("GET http://h/x", "get"),
            ("HEAD http://h/x", "get"),
            ("PUT http://h/x", "any"),
            ("POST http://h/y", "post"),
            ("HEAD http://h/y", "-"),
        ],
    );
}

#[test]
fn a_path_that_takes_no_such_request_is_passed_over() {
    check(
        vec![
            api("o", "all", &["/"]),
            with(api("o", "post", &["/x"]), &[], &["POST"], &[]),
            with(api("o", "plain", &["/plain"]), &[], &[], &["http"]),
        ],
        &[
            ("POST http://h/x", "post"),
            ("GET http://h/x", "all"),
            ("GET http://h/plain", "plain"),
            ("GET https://h/plain", "all"),
        ],
    );
}

#[test]
fn what_wants_https_is_never_handed_to_another_api_over_http() {
    check(
        vec![
            api("o", "all", &["/"]),
            with(api("o", "safe", &["/safe"]), &[], &["GET"], &["https"]),
            with(api("o", "both", &["/both"]), &[], &[], &["HTTPS", "http"]),
        ],
        &[
            ("GET http://h/safe", "https"),
            ("GET https://h/safe", "safe"),
            ("POST http://h/safe", "all"),
            ("GET http://h/both", "both"),
        ],
    );
}

#[test]
fn a_disabled_api_claims_nothing() {
    let mut off = api("a", "off", &["/x"]);
    off.enabled = false;
    let routes = Routes::build(vec![off.clone(), api("b", "on", &["/x"])]);
    assert_eq!(served(&routes, "GET http://h/x"), "on");
    assert!(routes.conflicts().is_empty());
    assert_eq!(served(&Routes::build(vec![off]), "GET http://h/x"), "-");
}

#[test]
fn percent_encoding_does_not_change_what_a_path_means() {
    check(
        vec![api("o", "umlaut", &["/grüße"]), api("o", "parent", &["/a"])],
        &[
            ("GET http://h/gr%C3%BC%c3%9fe", "umlaut"),
            ("GET http://h/%61/b", "parent"),
            ("GET http://h/a%2Fb", "-"),
            ("GET http://h/a%", "-"),
            ("GET http://h/a%ff", "-"),
        ],
    );
}

#[test]
fn a_long_path_costs_no_more_than_the_deepest_route() {
    let routes = Routes::build(vec![
        api("o", "deep", &["/a/b/c"]),
        api("o", "root", &["/"]),
    ]);
    assert_eq!(served(&routes, "GET http://h/a/b/c"), "deep");
    assert_eq!(served(&routes, "GET http://h/a/b/c/d/e"), "deep");
    assert_eq!(
        served(&routes, &format!("GET http://h{}", "/".repeat(1 << 18))),
        "root"
    );
    let begin = Instant::now();
    assert_eq!(
        served(&routes, &format!("GET http://h{}", "/a".repeat(1 << 17))),
        "root"
    );
    // A look-up for each of its segments would take minutes.
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn apis_that_only_their_names_tell_apart_are_reported() {
    let apis = vec![
        api("b", "hello", &["/x", "/x/", "/own"]),
        api("a", "hello", &["/x"]),
        with(api("a", "post", &["/x"]), &[], &["POST"], &[]),
        with(api("c", "post", &["/x"]), &[], &["PUT", "POST"], &["https"]),
        with(api("c", "host", &["/x"]), &["h"], &[], &[]),
    ];
    check(
        apis.clone(),
        &[
            ("GET http://h2/x", "hello"),
            ("GET http://h/x", "host"),
            ("POST https://h2/x", "post"),
            ("PUT https://h2/x", "post"),
            ("GET http://h2/own", "hello"),
        ],
    );
    let who = |claimant: &Claimant| format!("{}/{}", claimant.org, claimant.name);
    let told: Vec<_> = Routes::build(apis)
        .conflicts()
        .iter()
        .map(|c| {
            (
                c.path.clone(),
                who(&c.winner),
                who(&c.loser),
                c.method.clone(),
            )
        })
        .collect();
    let line = |winner: &str, loser: &str, method: Option<&str>| {
        (
            "/x".to_owned(),
            winner.to_owned(),
            loser.to_owned(),
            method.map(str::to_owned),
        )
    };
    let expected = [
        line("a/hello", "b/hello", None),
        line("a/post", "c/post", Some("POST")),
    ];
    assert_eq!(told, expected);
}
