//! Texts and names of a path.

use axum::extract::{FromRequestParts, Path};
use engine_model::{Code, Name};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// The variable parts of a path.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(read)) => Ok(Self(read)),
            Err(_) => Err(Refusal::new(Code::InvalidName, "the path cannot be read")),
        }
    }
}

/// Reads a name of a path.
pub(crate) fn name(text: String) -> Result<Name, Refusal> {
    Name::new(text).map_err(|error| Refusal::new(Code::InvalidName, error.to_string()))
}
