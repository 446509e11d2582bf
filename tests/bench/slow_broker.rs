//! A broker whose provisioning takes as long as it is told, and that counts what it is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The class and the plan that it offers; instances are not bound.
pub(crate) const CLASS: &str = "slow";
pub(crate) const PLAN: &str = "one";
pub(crate) const SERVICE_ID: &str = "5d2f9bb4-3c7f-4a3e-9f51-0c0d5b7f1a01";
pub(crate) const PLAN_ID: &str = "5d2f9bb4-3c7f-4a3e-9f51-0c0d5b7f1a02";

/// What it says of work that is under way.
pub(crate) const DESCRIPTION: &str = "creating the database";

/// The broker; it ends with its runtime.
#[derive(Clone)]
pub(crate) struct SlowBroker(Arc<Inner>);

struct Inner {
    url: String,
    takes: Mutex<Duration>,
    /// When each instance is done.
    done: Mutex<HashMap<String, Instant>>,
    polls: AtomicU64,
}

impl SlowBroker {
    pub(crate) async fn start(takes: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let broker = Self(Arc::new(Inner {
            url: format!("http://{}", listener.local_addr()?),
            takes: Mutex::new(takes),
            done: Mutex::default(),
            polls: AtomicU64::new(0),
        }));
        let routes = Router::new()
            .route("/v2/catalog", get(catalog))
            .route("/v2/service_instances/{id}", put(provision).delete(gone))
            .route("/v2/service_instances/{id}/last_operation", get(poll))
            .with_state(broker.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(broker)
    }

    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// How long provisioning takes from now on.
    pub(crate) fn takes(&self, takes: Duration) {
        *self.0.takes.lock().expect("no holder panics") = takes;
    }

    /// When an instance is, or was, done.
    pub(crate) fn done(&self, id: &str) -> Option<Instant> {
        self.0
            .done
            .lock()
            .expect("no holder panics")
            .get(id)
            .copied()
    }

    pub(crate) fn polls(&self) -> u64 {
        self.0.polls.load(Ordering::Relaxed)
    }
}

async fn catalog() -> Json<Value> {
    Json(json!({ "services": [{
        "id": SERVICE_ID, "name": CLASS, "description": "takes its time", "bindable": false,
        "plans": [{ "id": PLAN_ID, "name": PLAN, "description": "the only one" }],
    }] }))
}

async fn provision(
    State(broker): State<SlowBroker>,
    Path(id): Path<String>,
) -> (StatusCode, Json<Value>) {
    let takes = *broker.0.takes.lock().expect("no holder panics");
    let mut done = broker.0.done.lock().expect("no holder panics");
    done.entry(id).or_insert_with(|| Instant::now() + takes);
    (
        StatusCode::ACCEPTED,
        Json(json!({ "operation": "provisioning" })),
    )
}

async fn gone() -> (StatusCode, Json<Value>) {
    (StatusCode::GONE, Json(json!({})))
}

/// What it does not know was begun before it started, and takes for ever.
async fn poll(State(broker): State<SlowBroker>, Path(id): Path<String>) -> Json<Value> {
    broker.0.polls.fetch_add(1, Ordering::Relaxed);
    let done = broker.done(&id).is_some_and(|at| at <= Instant::now());
    let state = if done { "succeeded" } else { "in progress" };
    Json(json!({ "state": state, "description": DESCRIPTION }))
}
