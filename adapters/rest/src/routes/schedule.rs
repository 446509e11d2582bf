//! Schedules: functions that are run again and again.

use engine_model::Kind;
use http::StatusCode;

use crate::filter::Field;
use crate::group::Group;

pub(super) static SCHEDULES: Group = Group {
    kind: Kind::Schedule,
    all: "/v1/schedules",
    one: "/v1/schedules/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[Field {
        parameter: "function",
        field: "function",
    }],
};
