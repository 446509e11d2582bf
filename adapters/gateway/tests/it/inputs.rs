//! From a request to the function's payload.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{Running, api, client, start, told};

struct Row {
    method: &'static str,
    query: &'static str,
    kind: Option<&'static str>,
    body: &'static [u8],
    status: u16,
    /// The payload, or the whole answer when the status is not 200.
    expected: Value,
}

fn row(
    method: &'static str,
    kind: Option<&'static str>,
    body: &'static [u8],
    status: u16,
    expected: Value,
) -> Row {
    Row {
        method,
        query: "",
        kind,
        body,
        status,
        expected,
    }
}

fn table() -> Vec<Row> {
    let json = Some("application/json");
    let form = Some("application/x-www-form-urlencoded");
    let not_json = json!({"message": "request body is not json", "code": 400});
    let not_form = json!({"message": "request body is not a form", "code": 400});
    let unsupported = |kind: &str| json!({"message": format!("request body type is not supported: {kind}"), "code": 415});
    let parts: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
        --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n\xff\x00\r\n\
        --b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n2\r\n--b--\r\n";
    let multipart = Some("multipart/form-data; boundary=b");
    let mut rows = vec![
        row("GET", None, b"", 200, json!({})),
        row("GET", json, b"{\"ignored\":1}", 200, json!({})),
        row(
            "POST",
            json,
            br#"{"num":3,"data":"hello"}"#,
            200,
            json!({"num": 3, "data": "hello"}),
        ),
        row(
            "PUT",
            Some("Application/JSON; charset=UTF-8"),
            b"[1,null]",
            200,
            json!([1, null]),
        ),
        row(
            "PATCH",
            Some("application/cloudevents+json"),
            b"\"x\"",
            200,
            json!("x"),
        ),
        row("DELETE", json, b"7", 200, json!(7)),
        row("POST", json, b"null", 200, Value::Null),
        row("POST", json, b"{\"num\":", 400, not_json.clone()),
        row("POST", json, b"", 400, not_json.clone()),
        row("POST", json, b"\"\xff\"", 400, not_json),
        row(
            "POST",
            form,
            b"a=1&b=x+y%20z&a=2&a=3&c",
            200,
            json!({"a": ["1", "2", "3"], "b": "x y z", "c": ""}),
        ),
        row("POST", form, b"", 200, json!({})),
        row(
            "POST",
            multipart,
            parts,
            200,
            json!({"a": ["1", "2"], "file": "/wA="}),
        ),
        row("POST", multipart, b"--c--", 400, not_form.clone()),
        row("POST", Some("multipart/form-data"), parts, 400, not_form),
        row("POST", None, b"", 200, json!({})),
        row("DELETE", None, b"", 200, json!({})),
        row("POST", None, "grüße".as_bytes(), 200, json!("grüße")),
        row(
            "POST",
            None,
            b"{\"not\": \"parsed\"}",
            200,
            json!("{\"not\": \"parsed\"}"),
        ),
        row("POST", None, b"\xff\xfe", 200, json!("//4=")),
        row(
            "POST",
            Some("text/plain"),
            b"hello",
            415,
            unsupported("text/plain"),
        ),
        row(
            "POST",
            Some("application/xml"),
            b"",
            415,
            unsupported("application/xml"),
        ),
    ];
    let query = "?a=1&b=x+y%26z&a=2&c&%C3%BC=%C3%9F";
    let parsed = json!({"a": ["1", "2"], "b": "x y&z", "c": "", "ü": "ß"});
    rows.push(Row {
        query,
        ..row("GET", None, b"", 200, parsed.clone())
    });
    rows.push(Row {
        query,
        ..row("OPTIONS", None, b"", 200, parsed)
    });
    rows.push(Row {
        query,
        ..row("POST", json, b"{\"d\":1}", 200, json!({"d": 1}))
    });
    rows.push(Row {
        query,
        ..row("POST", form, b"d=1", 200, json!({"d": "1"}))
    });
    rows
}

async fn check(client: &Client, url: &str) {
    for row in table() {
        let method: Method = row.method.parse().unwrap();
        let mut request = client.request(method, format!("{url}{}", row.query));
        if let Some(kind) = row.kind {
            request = request.header("content-type", kind);
        }
        if !row.body.is_empty() {
            request = request.body(row.body);
        }
        let (status, body) = told(request.send().await.unwrap()).await;
        let found = if row.status == 200 {
            body["input"].clone()
        } else {
            body
        };
        let shown = String::from_utf8_lossy(row.body);
        let asked = format!(
            "{} {} {:?} {shown} at {url}",
            row.method, row.query, row.kind
        );
        assert_eq!((status, found), (row.status, row.expected), "{asked}");
    }
}

async fn running() -> Running {
    start(vec![api("echo", "/echo")]).await
}

#[tokio::test]
async fn every_kind_of_request_makes_its_payload_over_http1() {
    let running = running().await;
    check(
        &client().http1_only().build().unwrap(),
        &running.http("/echo"),
    )
    .await;
}

#[tokio::test]
async fn every_kind_of_request_makes_its_payload_over_http2() {
    let running = running().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    check(&client, &running.http("/echo")).await;
}

#[tokio::test]
async fn every_kind_of_request_makes_its_payload_over_https() {
    let running = running().await;
    for client in [running.trusting().http1_only(), running.trusting()] {
        check(&client.build().unwrap(), &running.https("/echo")).await;
    }
}
