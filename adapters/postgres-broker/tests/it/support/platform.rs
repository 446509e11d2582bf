//! A platform: sends requests, and holds every answer against the rules that all answers keep.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::{AZURE, PASSWORD, PATIENCE, POSTGRESQL, SHARED_DB, USERNAME};

#[derive(Clone)]
pub(crate) struct Platform {
    client: Client,
    base: String,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// The status with the error word, if there is one.
    pub(crate) fn word(&self) -> String {
        let error = self
            .body
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or_default();
        format!("{} {error}", self.status).trim().to_owned()
    }

    pub(crate) fn operation(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        self.body["operation"].as_str().unwrap().to_owned()
    }

    pub(crate) fn uri(&self) -> String {
        self.body["credentials"]["uri"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_owned()
    }
}

impl Platform {
    pub(crate) fn new(base: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The broker's certificate is made by the test that uses one.
        let client = Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap();
        Self {
            client,
            base: base.to_owned(),
        }
    }

    /// Where the broker listens.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// A request without any header.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A request as a platform makes it.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path)
            .basic_auth(USERNAME, Some(PASSWORD))
            .header("X-Broker-API-Version", "2.17")
    }

    /// Sends a request and checks what holds of every answer.
    pub(crate) async fn check(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Self::judge(status, headers, &text)
    }

    fn judge(status: u16, headers: reqwest::header::HeaderMap, text: &str) -> Reply {
        if status == 304 {
            return Reply {
                status,
                headers,
                body: Value::Null,
            };
        }
        assert_eq!(
            headers["content-type"], "application/json",
            "{status} {text}"
        );
        let body: Value = serde_json::from_str(text).unwrap();
        let fields = body
            .as_object()
            .unwrap_or_else(|| panic!("not an object: {text}"));
        if status >= 400 && status != 410 {
            for field in ["error", "description"] {
                assert!(!fields[field].as_str().unwrap().is_empty(), "{text}");
            }
        }
        if status == 202 {
            assert!(fields["operation"].is_string() && !fields.contains_key("credentials"));
        }
        Reply {
            status,
            headers,
            body,
        }
    }

    /// As [`Platform::check`]; nothing if the broker died over it.
    pub(crate) async fn try_check(&self, request: RequestBuilder) -> Option<Reply> {
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        Some(Self::judge(status, headers, &text))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.check(self.request(Method::GET, path)).await
    }

    /// As [`Platform::get`], for a path that is put together on the spot.
    pub(crate) async fn get_owned(&self, path: String) -> Reply {
        self.get(&path).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.check(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.check(self.request(Method::PATCH, path).json(body))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.check(self.request(Method::DELETE, path)).await
    }

    /// Polls an operation until it has ended; returns the last answer.
    pub(crate) async fn poll(&self, resource: &str, operation: &str) -> Reply {
        let path = format!("/v2/service_instances/{resource}/last_operation?operation={operation}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.get(&path).await;
            if reply.status != 200 || reply.body["state"] != "in progress" {
                return reply;
            }
            let seconds: u32 = reply.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(seconds > 0 && !reply.body["description"].as_str().unwrap().is_empty());
            assert!(Instant::now() < deadline, "operation not ended: {reply:?}");
            // A platform would wait for Retry-After; a test need not.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Polls an operation that is to succeed.
    pub(crate) async fn succeed(&self, resource: &str, operation: &str) {
        let reply = self.poll(resource, operation).await;
        assert_eq!(reply.body["state"], "succeeded", "{reply:?}");
    }

    /// Provisions a dedicated instance.
    pub(crate) async fn provision_dedicated(&self, id: &str, plan_id: &str) {
        let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
        let operation = self
            .put(&path, &instance_body(AZURE, plan_id))
            .await
            .operation();
        self.succeed(id, &operation).await;
    }

    /// Provisions an instance of a plan of the other example catalog, synchronously.
    pub(crate) async fn provision_plan(&self, id: &str, plan: &str) {
        let path = format!("/v2/service_instances/{id}");
        let reply = self.put(&path, &instance_body(super::PLANS, plan)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// Provisions a shared instance, synchronously.
    pub(crate) async fn provision_shared(&self, id: &str) {
        let path = format!("/v2/service_instances/{id}");
        let reply = self.put(&path, &instance_body(POSTGRESQL, SHARED_DB)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// Binds, synchronously.
    pub(crate) async fn bind(&self, id: &str, binding: &str, service: &str, plan: &str) -> Reply {
        let path = format!("/v2/service_instances/{id}/service_bindings/{binding}");
        self.put(&path, &json!({ "service_id": service, "plan_id": plan }))
            .await
    }

    pub(crate) async fn unbind(&self, id: &str, binding: &str, service: &str, plan: &str) -> Reply {
        self.delete(&format!(
            "/v2/service_instances/{id}/service_bindings/{binding}?{}",
            ids(service, plan)
        ))
        .await
    }
}

pub(crate) fn instance_body(service: &str, plan: &str) -> Value {
    json!({
        "service_id": service,
        "plan_id": plan,
        "organization_guid": "org",
        "space_guid": "space",
        "context": { "platform": "dispatch" },
        "an_extension": { "that": "is ignored" },
    })
}

pub(crate) fn ids(service: &str, plan: &str) -> String {
    format!("service_id={service}&plan_id={plan}")
}
