//! Base images and images.

use engine_model::Kind;
use http::StatusCode;

use crate::filter::Field;
use crate::group::Group;

pub(super) static BASE_IMAGES: Group = Group {
    kind: Kind::BaseImage,
    all: "/v1/baseimage",
    one: "/v1/baseimage/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[Field {
        parameter: "language",
        field: "language",
    }],
};

pub(super) static IMAGES: Group = Group {
    kind: Kind::Image,
    all: "/v1/image",
    one: "/v1/image/{name}",
    created: Some(StatusCode::CREATED),
    updated: Some(StatusCode::OK),
    deleted: Some(StatusCode::OK),
    filters: &[
        Field {
            parameter: "language",
            field: "language",
        },
        Field {
            parameter: "baseImageName",
            field: "baseImageName",
        },
    ],
};
