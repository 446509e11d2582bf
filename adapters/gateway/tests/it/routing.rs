//! Which API a request reaches, and which requests reach none.

use adapter_gateway::{Api, Routes};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{api, client, header, raw, start, told};

/// The API that answers, or the status and message of a refusal.
async fn reached(request: RequestBuilder) -> String {
    let (status, body) = told(request.send().await.unwrap()).await;
    match status {
        200 => body["api"].as_str().unwrap().to_owned(),
        _ => format!("{status} {}", body["message"].as_str().unwrap_or("")),
    }
}

fn named(name: &str, path: &str) -> Api {
    Api {
        name: name.into(),
        ..api("echo", path)
    }
}

const NOTHING: &str = "404 no API found with those values";

#[tokio::test]
async fn paths_hosts_and_methods_decide() {
    let hosts = vec!["one.example".to_owned()];
    let methods = vec!["POST".to_owned()];
    let running = start(vec![
        named("a", "/a"),
        named("deep", "/a/b"),
        Api {
            hosts,
            ..named("one", "/a")
        },
        Api {
            methods,
            ..named("post", "/p")
        },
        Api {
            enabled: false,
            ..named("off", "/off")
        },
    ])
    .await;
    let client = client().build().unwrap();
    let host = |path: &str, host| client.get(running.http(path)).header("host", host);
    for (request, expected) in [
        (client.get(running.http("/a")), "a"),
        (client.get(running.http("/a/")), "a"),
        (client.get(running.http("/a/x?y=/a/b")), "a"),
        (client.get(running.http("/a/b/c")), "deep"),
        (client.get(running.http("/ab")), NOTHING),
        (client.get(running.http("/")), NOTHING),
        (host("/a", "One.Example:99"), "one"),
        (host("/a", "two.example"), "a"),
        (client.post(running.http("/p")), "post"),
        (client.get(running.http("/p")), NOTHING),
        (client.get(running.http("/off")), NOTHING),
    ] {
        assert_eq!(reached(request).await, expected);
    }
}

#[tokio::test]
async fn an_unknown_path_is_told_so_in_the_original_words() {
    let running = start(vec![]).await;
    let response = client()
        .build()
        .unwrap()
        .get(running.http("/x"))
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(
        told(response).await,
        (404, json!({"message": "no API found with those values"}))
    );
}

#[tokio::test]
async fn an_https_only_api_does_not_run_over_http() {
    let protocols = vec!["https".to_owned()];
    let running = start(vec![
        Api {
            protocols,
            ..named("safe", "/safe")
        },
        named("all", "/"),
    ])
    .await;
    let client = running.trusting().http1_only().build().unwrap();
    let response = client
        .post(running.http("/safe"))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert!(header(&response, "upgrade").is_some_and(|upgrade| upgrade.contains("TLS")));
    assert_eq!(
        told(response).await,
        (426, json!({"message": "Please use HTTPS protocol"}))
    );
    assert_eq!(
        running
            .functions
            .begun
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
    assert_eq!(reached(client.post(running.https("/safe"))).await, "safe");
    let h2 = crate::support::client()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    assert_eq!(
        reached(h2.get(running.http("/safe"))).await,
        "426 Please use HTTPS protocol"
    );
}

#[tokio::test]
async fn an_http_only_api_is_not_found_over_https() {
    let protocols = vec!["http".to_owned()];
    let running = start(vec![Api {
        protocols,
        ..named("plain", "/plain")
    }])
    .await;
    let client = running.trusting().build().unwrap();
    assert_eq!(reached(client.get(running.http("/plain"))).await, "plain");
    assert_eq!(reached(client.get(running.https("/plain"))).await, NOTHING);
}

#[tokio::test]
async fn an_api_that_is_not_public_is_refused() {
    for authentication in ["basic", "oidc", "", "Public"] {
        let authentication = authentication.to_owned();
        let running = start(vec![Api {
            authentication,
            cors: true,
            ..named("a", "/a")
        }])
        .await;
        let client = client().build().unwrap();
        let request = client
            .get(running.http("/a"))
            .basic_auth("user", Some("password"));
        let response = request.send().await.unwrap();
        assert!(header(&response, "www-authenticate").is_some());
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
        let (status, body) = told(response).await;
        assert_eq!((status, &body["code"]), (401, &json!(401)));
        assert_eq!(
            running
                .functions
                .begun
                .load(std::sync::atomic::Ordering::SeqCst),
            0
        );
    }
}

#[tokio::test]
async fn a_cors_api_answers_preflights_and_lets_every_origin_read() {
    let methods = vec!["POST".to_owned(), "PUT".to_owned()];
    let running = start(vec![
        Api {
            cors: true,
            methods,
            ..named("cors", "/cors")
        },
        Api {
            methods: vec!["POST".into()],
            ..named("closed", "/closed")
        },
    ])
    .await;
    let client = client().build().unwrap();
    let preflight = |path: &str, method| {
        let request = client.request(Method::OPTIONS, running.http(path));
        let request = request.header("origin", "https://page.example");
        request.header("access-control-request-method", method)
    };
    let asked = preflight("/cors", "POST").header("access-control-request-headers", "x-a, x-b");
    let response = asked.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 204);
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    assert_eq!(
        header(&response, "access-control-allow-methods"),
        Some("POST, PUT")
    );
    assert_eq!(
        header(&response, "access-control-allow-headers"),
        Some("x-a, x-b")
    );
    assert_eq!(reached(preflight("/cors", "DELETE")).await, NOTHING);
    assert_eq!(reached(preflight("/closed", "POST")).await, NOTHING);
    let bare = client
        .request(Method::OPTIONS, running.http("/cors"))
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status().as_u16(), 204);
    assert_eq!(
        running
            .functions
            .begun
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );

    let bad = |path: &str| {
        client
            .post(running.http(path))
            .header("content-type", "text/plain")
            .body("x")
            .send()
    };
    let good = client.post(running.http("/cors")).send().await.unwrap();
    assert_eq!(header(&good, "access-control-allow-origin"), Some("*"));
    let refused = bad("/cors").await.unwrap();
    assert_eq!(header(&refused, "access-control-allow-origin"), Some("*"));
    assert_eq!(refused.status().as_u16(), 415);
    let closed = bad("/closed").await.unwrap();
    assert_eq!(header(&closed, "access-control-allow-origin"), None);
}

#[tokio::test]
async fn two_organizations_on_one_path_are_told_apart_by_host_or_reported() {
    let org = |org: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Api {
            org: org.into(),
            hosts,
            ..named(&format!("of-{org}"), "/hello")
        }
    };
    let running = start(vec![]).await;
    let client = client().build().unwrap();
    let apart = Routes::build(vec![org("b", &["b.example"]), org("a", &["a.example"])]);
    assert!(apart.conflicts().is_empty());
    running.gateway.set_routes(apart);
    let hello = || client.get(running.http("/hello"));
    assert_eq!(reached(hello().header("host", "a.example")).await, "of-a");
    assert_eq!(reached(hello().header("host", "b.example")).await, "of-b");
    assert_eq!(reached(hello()).await, NOTHING);

    let clash = Routes::build(vec![org("b", &[]), org("a", &[])]);
    assert_eq!(clash.conflicts().len(), 1);
    assert_eq!(clash.conflicts()[0].winner.org, "a");
    assert_eq!(clash.conflicts()[0].loser.org, "b");
    running.gateway.set_routes(clash);
    assert_eq!(reached(hello()).await, "of-a");
}

#[tokio::test]
async fn new_routes_hold_for_the_next_request_of_an_open_connection() {
    let running = start(vec![]).await;
    for client in [client().http1_only(), client().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        for round in 0..200 {
            let name = format!("round-{round}");
            running
                .gateway
                .set_routes(Routes::build(vec![named(&name, "/a")]));
            assert_eq!(reached(client.get(running.http("/a"))).await, name);
        }
    }
}

#[tokio::test]
async fn requests_no_client_library_would_send_are_refused() {
    let running = start(vec![named("all", "/")]).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
        (
            "GET http://h/x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
            "200",
        ),
        (
            "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\nconnection: close\r\n\r\n",
            "404",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
            "404",
        ),
        (
            "GET /%zz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
            "200",
        ),
        ("complete rubbish\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01", "400"),
    ] {
        let said = raw(&mut running.connect().await, request).await;
        let line = said.lines().next().unwrap_or("");
        assert!(line.contains(status), "{request:?} got {said:?}");
    }
}
