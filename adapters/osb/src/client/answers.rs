//! The operations of the API, one method each.

use http::Method;

use super::send::Outgoing;
use super::{CATALOG_BYTES_MAX, Client};
use crate::call::Call;
use crate::path::Path;
use crate::verdict::{self, Answer, Fetched, Polled, Progress};
use crate::wire::{
    BindRequest, Binding, Id, Instance, Offer, ProvisionRequest, Provisioned, UpdateRequest,
};

/// What came of fetching the catalog.
pub type CatalogAnswer = Answer<Fetched>;

impl Client {
    /// Fetches the catalog, unless it is still the one that bore `etag`.
    pub async fn catalog(&self, call: &Call, etag: Option<&str>) -> CatalogAnswer {
        let get = Outgoing::new(Method::GET, Path::catalog()).unless(etag);
        verdict::catalog(&self.send(call, get.bytes_max(CATALOG_BYTES_MAX)).await)
    }

    /// Creates an instance. The same id with the same body may be sent again.
    pub async fn provision(
        &self,
        call: &Call,
        instance: &Id,
        request: &ProvisionRequest,
        accepts_incomplete: bool,
    ) -> Answer<Provisioned> {
        let path = Path::instance(instance).incomplete(accepts_incomplete);
        let put = Outgoing::new(Method::PUT, path).body(request);
        verdict::provision(&self.send(call, put).await)
    }

    /// Changes an instance's plan, parameters, version or context.
    pub async fn update(
        &self,
        call: &Call,
        instance: &Id,
        request: &UpdateRequest,
        accepts_incomplete: bool,
    ) -> Answer<Provisioned> {
        let path = Path::instance(instance).incomplete(accepts_incomplete);
        let patch = Outgoing::new(Method::PATCH, path).body(request);
        verdict::update(&self.send(call, patch).await)
    }

    /// Deletes an instance, whose bindings must be gone. It may be sent again.
    pub async fn deprovision(
        &self,
        call: &Call,
        instance: &Id,
        offer: &Offer,
        accepts_incomplete: bool,
    ) -> Answer<()> {
        let path = Path::instance(instance)
            .offer(offer)
            .incomplete(accepts_incomplete);
        verdict::deprovision(&self.send(call, Outgoing::new(Method::DELETE, path)).await)
    }

    /// Asks how far an instance's operation has come. `operation` is what the broker handed out
    /// for it. For an update, `offer` has the plan from before it.
    ///
    /// # Panics
    /// When `polled` is an operation of bindings.
    pub async fn last_operation_instance(
        &self,
        call: &Call,
        instance: &Id,
        offer: &Offer,
        operation: Option<&str>,
        polled: Polled,
    ) -> Progress {
        assert!(
            !matches!(polled, Polled::Bind | Polled::Unbind),
            "not an instance's operation"
        );
        let path = Path::instance(instance)
            .last_operation()
            .offer(offer)
            .operation(operation);
        verdict::poll(
            polled,
            &self.send(call, Outgoing::new(Method::GET, path)).await,
        )
    }

    /// Reads an instance; only for services that say `instances_retrievable`.
    pub async fn fetch_instance(
        &self,
        call: &Call,
        instance: &Id,
        offer: &Offer,
    ) -> Answer<Instance> {
        let path = Path::instance(instance).offer(offer);
        verdict::fetch_instance(&self.send(call, Outgoing::new(Method::GET, path)).await)
    }

    /// Creates a binding.
    pub async fn bind(
        &self,
        call: &Call,
        instance: &Id,
        binding: &Id,
        request: &BindRequest,
        accepts_incomplete: bool,
    ) -> Answer<Binding> {
        let path = Path::binding(instance, binding).incomplete(accepts_incomplete);
        let put = Outgoing::new(Method::PUT, path).body(request);
        verdict::bind(&self.send(call, put).await)
    }

    /// Deletes a binding. It may be sent again.
    pub async fn unbind(
        &self,
        call: &Call,
        instance: &Id,
        binding: &Id,
        offer: &Offer,
        accepts_incomplete: bool,
    ) -> Answer<()> {
        let path = Path::binding(instance, binding)
            .offer(offer)
            .incomplete(accepts_incomplete);
        verdict::unbind(&self.send(call, Outgoing::new(Method::DELETE, path)).await)
    }

    /// Asks how far a binding's operation has come.
    ///
    /// # Panics
    /// When `polled` is an operation of instances.
    pub async fn last_operation_binding(
        &self,
        call: &Call,
        (instance, binding): (&Id, &Id),
        offer: &Offer,
        operation: Option<&str>,
        polled: Polled,
    ) -> Progress {
        assert!(
            matches!(polled, Polled::Bind | Polled::Unbind),
            "not a binding's operation"
        );
        let path = Path::binding(instance, binding)
            .last_operation()
            .offer(offer)
            .operation(operation);
        verdict::poll(
            polled,
            &self.send(call, Outgoing::new(Method::GET, path)).await,
        )
    }

    /// Reads a binding; only for services that say `bindings_retrievable`.
    pub async fn fetch_binding(
        &self,
        call: &Call,
        instance: &Id,
        binding: &Id,
        offer: &Offer,
    ) -> Answer<Binding> {
        let path = Path::binding(instance, binding).offer(offer);
        verdict::fetch_binding(&self.send(call, Outgoing::new(Method::GET, path)).await)
    }
}
