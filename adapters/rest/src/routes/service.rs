//! Service brokers, classes and instances.

use std::sync::Arc;

use axum::extract::State;
use engine_model::{Command, Kind};
use http::StatusCode;

use crate::app::App;
use crate::caller::Caller;
use crate::filter::Field;
use crate::group::{Group, operate};
use crate::path::At;
use crate::table::Place;

/// The original had no way to name a broker over its API.
pub(super) static BROKERS: Group = Group {
    kind: Kind::ServiceBroker,
    all: "/v1/servicebroker",
    one: "/v1/servicebroker/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[],
};

/// Classes come from the catalogs of brokers and cannot be written.
pub(super) static CLASSES: Group = Group {
    kind: Kind::ServiceClass,
    all: "/v1/serviceclass",
    one: "/v1/serviceclass/{name}",
    created: None,
    updated: None,
    deleted: None,
    filters: &[Field {
        parameter: "broker",
        field: "broker",
    }],
};

/// As ever, an instance is not changed by a `PUT`.
pub(super) static INSTANCES: Group = Group {
    kind: Kind::ServiceInstance,
    all: "/v1/serviceinstance",
    one: "/v1/serviceinstance/{name}",
    created: Some(StatusCode::CREATED),
    updated: None,
    deleted: Some(StatusCode::OK),
    filters: &[
        Field {
            parameter: "serviceclass",
            field: "serviceClass",
        },
        Field {
            parameter: "state",
            field: "status",
        },
    ],
};

pub(super) fn places() -> Vec<Place> {
    vec![Place::at("/v1/servicebroker/{name}/refresh").post(refresh)]
}

/// Has a broker's catalog read now.
async fn refresh(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(name): At<String>,
) -> axum::response::Response {
    operate(&app, &BROKERS, caller, name, Command::Refresh).await
}
