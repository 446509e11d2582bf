//! Applications: labels for resources that belong together.

use engine_model::Kind;
use http::StatusCode;

use crate::group::Group;

/// A `POST` answers 200, as ever.
pub(super) static APPLICATIONS: Group = Group {
    kind: Kind::Application,
    all: "/v1/application",
    one: "/v1/application/{name}",
    created: Some(StatusCode::OK),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[],
};
