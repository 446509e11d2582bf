//! What the function finds as `httpContext`.

use serde_json::{Value, json};

use crate::support::{Running, api, client, start, told};

async fn running() -> Running {
    start(vec![api("echo", "/echo")]).await
}

async fn context(request: reqwest::RequestBuilder) -> Value {
    let (status, body) = told(request.send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(body["org"], "acme");
    assert_eq!(body["api"], "echo-api");
    assert_eq!(body["timeout"], 60);
    body["context"].clone()
}

#[tokio::test]
async fn the_context_has_the_request_line_and_the_headers() {
    let running = running().await;
    let client = client().build().unwrap();
    let request = client
        .post(running.http("/echo/tail?a=%20&b"))
        .header("X-Custom", "one")
        .header("X-Custom", "two")
        .header("traceparent", "00-1-2-3")
        .header("accept", "*/*");
    let context = context(request).await;
    let host = running.gateway.http_addr().unwrap().to_string();
    let expected = json!({
        "accept": "*/*",
        "args": "a=%20&b",
        "content-length": context["content-length"],
        "host": host,
        "method": "POST",
        "request": "POST /echo/tail?a=%20&b HTTP/1.1",
        "request-uri": "/echo/tail?a=%20&b",
        "scheme": "http",
        "server-protocol": "HTTP/1.1",
        "traceparent": "00-1-2-3",
        "upstream-uri": "/echo/tail",
        "uri": "/echo/tail",
        "x-custom": "one, two",
    });
    assert_eq!(without_null(context), without_null(expected));
}

fn without_null(mut context: Value) -> Value {
    context
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    context
}

#[tokio::test]
async fn credentials_are_left_out_and_the_request_line_cannot_be_forged() {
    let running = running().await;
    let client = client().build().unwrap();
    let mut request = client.get(running.http("/echo"));
    for name in [
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "X-Api-Key",
        "X-Dispatch-Org",
    ] {
        request = request.header(name, "hunter2");
    }
    for name in ["scheme", "method", "uri", "args"] {
        request = request.header(name, "forged");
    }
    let context = context(request).await;
    assert!(!context.to_string().contains("hunter2"), "{context}");
    assert!(!context.to_string().contains("forged"), "{context}");
    assert_eq!(context["scheme"], "http");
}

#[tokio::test]
async fn http2_over_https_has_a_host_and_its_scheme() {
    let running = running().await;
    let client = running.trusting().build().unwrap();
    let context = context(client.get(running.https("/echo"))).await;
    let port = running.gateway.https_addr().unwrap().port();
    assert_eq!(context["host"], format!("localhost:{port}"));
    assert_eq!(context["scheme"], "https");
    assert_eq!(context["server-protocol"], "HTTP/2.0");
    assert_eq!(context["request"], "GET /echo HTTP/2.0");
}
