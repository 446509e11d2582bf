//! The messages of the API, as types. Reading is lenient: what is unknown is ignored, and a
//! field that nothing depends on may be wrong without spoiling the rest.

mod binding;
mod catalog;
mod hidden;
mod id;
mod instance;
mod operation;

pub use binding::{BindRequest, BindResource, Binding, BindingMetadata, NetworkEndpoint, Protocol};
pub use catalog::{
    Catalog, MaintenanceInfo, ParameterSchemas, Plan, Schemas, Service, bindable, updateable,
};
pub use hidden::Hidden;
pub use id::{BadId, Id, Offer};
pub use instance::{
    Context, Instance, MaintenanceVersion, PreviousValues, ProvisionRequest, Provisioned,
    UpdateRequest,
};
pub use operation::{Empty, LastOperation, OPERATION_CHARS_MAX, State};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object that an answer's body can hold.
pub trait Message: Sized {
    /// Reads the object.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without any of the object's values.
    fn read(object: Map<String, Value>) -> Result<Self, String>;
}

/// Reads an object by its type; the error names only what serde says of types and fields.
fn typed<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    T::deserialize(Value::Object(object)).map_err(|e| e.to_string())
}

/// A field that counts as absent when it has the wrong type.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<T>, D::Error> {
    let value = Option::<Value>::deserialize(d)?;
    Ok(value.and_then(|value| T::deserialize(value).ok()))
}

/// A field that has its default when it is null or has the wrong type.
fn lenient_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(lenient(d)?.unwrap_or_default())
}
