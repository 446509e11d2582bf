//! Secrets. Their values go in, sealed on arrival, and never come out.

use engine_model::Kind;
use http::StatusCode;

use crate::group::Group;

/// A `PUT` answers 201 and a `DELETE` 204, as ever.
pub(super) static SECRETS: Group = Group {
    kind: Kind::Secret,
    all: "/v1/secret",
    one: "/v1/secret/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::CREATED),
    deleted: Some(StatusCode::NO_CONTENT),
    filters: &[],
};
