//! Organizations and service accounts.

use engine_model::Kind;
use http::StatusCode;

use crate::group::Group;

pub(super) static ORGANIZATIONS: Group = Group {
    kind: Kind::Organization,
    all: "/v1/iam/organization",
    one: "/v1/iam/organization/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[],
};

pub(super) static SERVICE_ACCOUNTS: Group = Group {
    kind: Kind::ServiceAccount,
    all: "/v1/iam/serviceaccount",
    one: "/v1/iam/serviceaccount/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[],
};
