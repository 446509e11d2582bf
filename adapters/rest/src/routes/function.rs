//! Functions.

use engine_model::Kind;
use http::StatusCode;

use crate::filter::Field;
use crate::group::Group;

pub(super) static FUNCTIONS: Group = Group {
    kind: Kind::Function,
    all: "/v1/function",
    one: "/v1/function/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[
        Field {
            parameter: "state",
            field: "status",
        },
        Field {
            parameter: "image",
            field: "image",
        },
    ],
};
