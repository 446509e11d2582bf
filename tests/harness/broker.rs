//! The fake broker for tests that are not asynchronous themselves.

use std::ops::Deref;

use adapter_osb::fake::{Fake, Options, PASSWORD, USERNAME};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::process::Dispatch;

/// The class that a fake broker offers.
pub const CLASS: &str = "fake-postgresql";

/// Its first plan.
pub const PLAN: &str = "small";

/// A fake broker with a runtime of its own.
#[derive(Debug)]
pub struct Broker {
    fake: Fake,
    runtime: Runtime,
}

impl Broker {
    /// One that works at once.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// One that is as wished.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let fake = runtime
            .block_on(Fake::start_with(options))
            .expect("a port is free");
        Self { fake, runtime }
    }

    /// Registers it, and waits until its catalog is read.
    pub fn register(&self, dispatch: &Dispatch, name: &str) {
        self.register_as(dispatch, name, PASSWORD);
        dispatch.until("serviceclass", CLASS, |class| class["status"] == "READY");
    }

    /// Registers it with this password.
    pub fn register_as(&self, dispatch: &Dispatch, name: &str, password: &str) {
        let file = dispatch.file("broker-password", password);
        let url = self.url().as_str();
        let login = ["--username", USERNAME, "--password-file", &file];
        let words = [&["create", "servicebroker", name, url], &login[..]].concat();
        let _ = dispatch.cli(&words).ok();
    }

    /// What the only binding was told as its credentials.
    ///
    /// # Panics
    /// When there is not exactly one.
    #[must_use]
    pub fn credentials(&self) -> Value {
        let (instances, bindings) = (self.instances(), self.bindings());
        let ([instance], [binding]) = (&instances[..], &bindings[..]) else {
            panic!("not one instance and one binding, but {instances:?} and {bindings:?}")
        };
        let path = format!("v2/service_instances/{instance}/service_bindings/{binding}");
        let url = self.url().join(&path).expect("the path is part of a URL");
        self.runtime.block_on(async {
            let request = crate::http::client()
                .get(url)
                .basic_auth(USERNAME, Some(PASSWORD))
                .query(&[
                    ("service_id", "fake-service-id"),
                    ("plan_id", "small-plan-id"),
                ])
                .header("X-Broker-API-Version", "2.17")
                .header("X-Broker-API-Request-Identity", "a-test");
            let answer = request.send().await.expect("the fake broker answers");
            let text = answer.text().await.expect("the answer is a text");
            let body: Value = serde_json::from_str(&text).expect("it is JSON");
            body["credentials"].clone()
        })
    }
}

impl Deref for Broker {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}
