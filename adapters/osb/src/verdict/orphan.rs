//! What may be left behind at the broker: the specification's table, row by row.

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// GET of the catalog.
    Catalog,
    /// PUT of an instance.
    Provision,
    /// PATCH of an instance.
    Update,
    /// DELETE of an instance.
    Deprovision,
    /// GET of an instance.
    FetchInstance,
    /// PUT of a binding.
    Bind,
    /// DELETE of a binding.
    Unbind,
    /// GET of a binding.
    FetchBinding,
    /// A poll of any operation.
    Poll(super::Polled),
}

/// What went wrong, as far as it matters for what is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mishap {
    /// 200, but not as it should be.
    MalformedOk,
    /// 201, but not as it should be.
    MalformedCreated,
    /// 202, but not as it should be.
    MalformedAccepted,
    /// A success that means nothing here.
    OtherSuccess,
    /// A redirect, which is not followed.
    Redirect,
    /// 5xx, or a status that HTTP does not know.
    ServerError,
    /// No status in time.
    TimedOut,
    /// The connection ended before a status came.
    Lost,
    /// A poll said that the operation failed.
    Failed,
}

/// What may be left behind at the broker, to be deleted until the broker confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orphan {
    /// Nothing that is to be deleted.
    Nothing,
    /// An instance.
    Instance,
    /// A binding.
    Binding,
}

/// What may be left behind after `mishap` came of `request`.
#[must_use]
pub fn orphan(request: Request, mishap: Mishap) -> Orphan {
    use super::Polled;
    match (request, mishap) {
        // What creates.
        (
            Request::Provision,
            Mishap::MalformedCreated
            | Mishap::MalformedAccepted
            | Mishap::OtherSuccess
            | Mishap::Redirect
            | Mishap::ServerError
            | Mishap::TimedOut
            | Mishap::Lost,
        ) => Orphan::Instance,
        (
            Request::Bind,
            Mishap::MalformedCreated
            | Mishap::MalformedAccepted
            | Mishap::OtherSuccess
            | Mishap::Redirect
            | Mishap::ServerError
            | Mishap::TimedOut
            | Mishap::Lost,
        ) => Orphan::Binding,
        // What deletes: a broker that broke half-way has to be asked again.
        (Request::Deprovision, Mishap::OtherSuccess | Mishap::ServerError) => Orphan::Instance,
        (Request::Unbind, Mishap::OtherSuccess | Mishap::ServerError) => Orphan::Binding,
        // What was begun and failed.
        (Request::Poll(Polled::Provision | Polled::Deprovision), Mishap::Failed) => {
            Orphan::Instance
        }
        (Request::Poll(Polled::Bind | Polled::Unbind), Mishap::Failed) => Orphan::Binding,
        // Never after an update, nor after what may be one, and never after what only reads.
        (
            Request::Catalog
            | Request::Provision
            | Request::Update
            | Request::Deprovision
            | Request::FetchInstance
            | Request::Bind
            | Request::Unbind
            | Request::FetchBinding
            | Request::Poll(_),
            _,
        ) => Orphan::Nothing,
    }
}
