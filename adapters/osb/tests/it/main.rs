//! The client against a real HTTP server that goes wrong on purpose.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod faults;
mod headers;
mod operations;
mod pace;
mod queue;
mod scene;
mod services;
mod timing;
mod tls;
mod updates;
mod versions;

use std::future::Future;
use std::time::Duration;

use adapter_osb::fake::{Fake, Options, Pace};
use adapter_osb::verdict::{Answer, Polled, Progress};
use adapter_osb::wire::{BindRequest, Context, Id, Offer, ProvisionRequest};
use adapter_osb::{Call, Client, Originator};
use uuid::Uuid;

/// A broker, a client of it, and one instance and binding to play with.
struct Stage {
    fake: Fake,
    client: Client,
    instance: Id,
    binding: Id,
    offer: Offer,
}

impl Stage {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn paced(pace: Pace) -> Self {
        Self::with(Options {
            pace,
            ..Options::default()
        })
        .await
    }

    async fn with(options: Options) -> Self {
        let fake = Fake::start_with(options).await.unwrap();
        let client = Client::new(&fake.endpoint()).unwrap();
        Self::of(fake, client)
    }

    /// A client that gives up after `timeout`.
    async fn impatient(timeout: Duration) -> Self {
        let fake = Fake::start().await.unwrap();
        let mut endpoint = fake.endpoint();
        endpoint.timeout = timeout;
        let client = Client::new(&endpoint).unwrap();
        Self::of(fake, client)
    }

    fn of(fake: Fake, client: Client) -> Self {
        let offer = Offer {
            service_id: "fake-service-id".to_owned(),
            plan_id: "small-plan-id".to_owned(),
        };
        let (instance, binding) = (Uuid::new_v4().into(), Uuid::new_v4().into());
        Self {
            fake,
            client,
            instance,
            binding,
            offer,
        }
    }

    fn provision_request(&self) -> ProvisionRequest {
        let context = Context::of_organization("org-guid", "demo").with_instance_name("azure-pg");
        ProvisionRequest::new(&self.offer.service_id, &self.offer.plan_id, context)
    }

    fn bind_request(&self) -> BindRequest {
        BindRequest::new(&self.offer.service_id, &self.offer.plan_id)
    }

    async fn provision(&self) -> Answer<adapter_osb::wire::Provisioned> {
        self.client
            .provision(&call(), &self.instance, &self.provision_request(), true)
            .await
    }

    async fn bind(&self) -> Answer<adapter_osb::wire::Binding> {
        let request = self.bind_request();
        self.client
            .bind(&call(), &self.instance, &self.binding, &request, true)
            .await
    }

    async fn unbind(&self) -> Answer<()> {
        self.client
            .unbind(&call(), &self.instance, &self.binding, &self.offer, true)
            .await
    }

    async fn deprovision(&self) -> Answer<()> {
        self.client
            .deprovision(&call(), &self.instance, &self.offer, true)
            .await
    }

    async fn poll(&self, polled: Polled, operation: Option<&str>) -> Progress {
        let (client, offer) = (&self.client, &self.offer);
        match polled {
            Polled::Bind | Polled::Unbind => {
                let ids = (&self.instance, &self.binding);
                client
                    .last_operation_binding(&call(), ids, offer, operation, polled)
                    .await
            }
            Polled::Provision | Polled::Update | Polled::Deprovision | Polled::Instance => {
                let id = &self.instance;
                client
                    .last_operation_instance(&call(), id, offer, operation, polled)
                    .await
            }
        }
    }

    /// Polls until the operation ends, and says after how many polls it did.
    async fn finish(&self, polled: Polled, operation: Option<&str>) -> (u32, Progress) {
        for polls in 1..100 {
            match self.poll(polled, operation).await {
                Progress::InProgress { .. } => {}
                ended => return (polls, ended),
            }
        }
        panic!("{polled:?} never ended");
    }

    #[track_caller]
    fn no_rule_was_broken(&self) {
        assert_eq!(self.fake.violations(), Vec::<String>::new());
    }
}

fn call() -> Call {
    Call::new(Uuid::new_v4()).on_behalf_of(Originator::user("user-1"))
}

/// Ends a test that hangs.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work)
        .await
        .expect("it ends in time")
}

fn operation<T: std::fmt::Debug>(answer: Answer<T>) -> Option<String> {
    match answer {
        Answer::Accepted(accepted) => accepted.operation,
        other => panic!("not accepted: {other:?}"),
    }
}
