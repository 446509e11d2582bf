//! Secrets go in, and come out nowhere.

use std::io;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::dispatch::{Fault, ROOT};
use crate::support::{house, said};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn neither_secrets_nor_tokens_are_logged_shown_or_sent_on() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    let house = house().await;
    let secret = json!({ "name": "s", "secrets": { "password": "canary-1" } });
    let broker = json!({ "name": "b", "url": "http://x", "username": "u", "password": "canary-2" });
    let mut shown = vec![
        house.post("/v1/secret/", secret.clone()).await,
        house.put("/v1/secret/s", secret.clone()).await,
        house.get("/v1/secret/s").await,
        house.get("/v1/secret").await,
        house.post("/v1/servicebroker", broker).await,
        house
            .post("/v1/secret", json!({ "name": "t", "secrets": "canary-3" }))
            .await,
        house
            .post(
                "/v1/secret",
                json!({ "name": "t", "secrets": { "a": ["canary-4"] } }),
            )
            .await,
        house
            .post(
                "/v1/servicebroker",
                json!({ "name": "c", "password": "canary-5" }),
            )
            .await,
    ];
    let request = house.request(Method::POST, "/v1/secret");
    let cut = request
        .header("content-type", "application/json")
        .body(r#"{"canary-6"#);
    shown.push(said(cut).await);
    house.dispatch.state().commands_fault = Some(Fault::Away);
    shown.push(house.post("/v1/secret", secret).await);
    for said in &shown {
        assert!(!said.text.contains("canary"), "{}", said.text);
    }
    let sent = format!("{:?}", house.dispatch.state().submissions);
    assert!(
        sent.contains("sealed to k1") || sent.contains("ClientSealed"),
        "{sent}"
    );
    assert!(!sent.contains("canary"), "{sent}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // The server's own lines; the test's client logs its own connections.
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("adapter_rest"))
        .collect();
    assert!(
        lines.iter().any(|line| line.contains("request answered")),
        "{log}"
    );
    for line in lines {
        assert!(!line.contains("canary-") && !line.contains(ROOT), "{line}");
    }
}
