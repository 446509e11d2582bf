//! APIs: HTTP endpoints in front of functions.

use engine_model::Kind;
use http::StatusCode;

use crate::filter::Field;
use crate::group::Group;

/// A `POST` answers 200, as ever.
pub(super) static APIS: Group = Group {
    kind: Kind::API,
    all: "/v1/api",
    one: "/v1/api/{name}",
    created: Some(StatusCode::OK),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[Field {
        parameter: "function",
        field: "function",
    }],
};
