//! Service brokers, classes, instances and bindings. What is done with them besides is in
//! `actions`.

use engine_model::Kind;
use http::StatusCode;

use crate::filter::Field;
use crate::group::Group;

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

pub(super) static INSTANCES: Group = Group {
    kind: Kind::ServiceInstance,
    all: "/v1/serviceinstance",
    one: "/v1/serviceinstance/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
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

/// A binding is not changed: its credentials are rotated, or another one is made.
pub(super) static BINDINGS: Group = Group {
    kind: Kind::ServiceBinding,
    all: "/v1/servicebinding",
    one: "/v1/servicebinding/{name}",
    created: Some(StatusCode::CREATED),
    updated: None,
    deleted: Some(StatusCode::OK),
    filters: &[
        Field {
            parameter: "instance",
            field: "instance",
        },
        Field {
            parameter: "state",
            field: "status",
        },
    ],
};
