//! Provision, update and fetch of instances.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Hidden, MaintenanceInfo, Message, lenient, typed};
use crate::call::PLATFORM;

/// Where an instance lives on the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The platform; the same as in the identity header.
    pub platform: String,
    /// The organization's id.
    pub organization_guid: String,
    /// The organization's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_name: Option<String>,
    /// The space's id; Dispatch has no spaces, so it is the organization's.
    pub space_guid: String,
    /// The space's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space_name: Option<String>,
    /// The instance's name; not sent with a bind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_name: Option<String>,
}

impl Context {
    /// The context of an instance of an organization.
    #[must_use]
    pub fn of_organization(guid: &str, name: &str) -> Self {
        Self {
            platform: PLATFORM.to_owned(),
            organization_guid: guid.to_owned(),
            organization_name: Some(name.to_owned()),
            space_guid: guid.to_owned(),
            space_name: Some(name.to_owned()),
            instance_name: None,
        }
    }

    /// The same context, with the instance's name.
    #[must_use]
    pub fn with_instance_name(mut self, name: &str) -> Self {
        self.instance_name = Some(name.to_owned());
        self
    }
}

/// The one part of `maintenance_info` that a request carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceVersion {
    /// The version, as the catalog has it.
    pub version: String,
}

/// The body of a provision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequest {
    /// A service of this broker.
    pub service_id: String,
    /// A plan of that service.
    pub plan_id: String,
    /// The organization's id, which the context has too.
    pub organization_guid: String,
    /// The space's id, which the context has too.
    pub space_guid: String,
    /// Where the instance lives.
    pub context: Context,
    /// What the user asked for; may hold secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Hidden<Value>>,
    /// The plan's version, when the catalog has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
}

impl ProvisionRequest {
    /// A provision without parameters.
    #[must_use]
    pub fn new(service_id: &str, plan_id: &str, context: Context) -> Self {
        Self {
            service_id: service_id.to_owned(),
            plan_id: plan_id.to_owned(),
            organization_guid: context.organization_guid.clone(),
            space_guid: context.space_guid.clone(),
            context,
            parameters: None,
            maintenance_info: None,
        }
    }
}

/// The body of an update. Only what the user asked for in this request goes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The instance's service, which cannot change.
    pub service_id: String,
    /// The new plan, when it is to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Where the instance lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The parameters to change; may hold secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Hidden<Value>>,
    /// What the instance was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_values: Option<PreviousValues>,
    /// The version to move to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
}

/// What an instance was before an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousValues {
    /// The service.
    pub service_id: String,
    /// The plan before the update.
    pub plan_id: String,
    /// The organization's id.
    pub organization_id: String,
    /// The space's id.
    pub space_id: String,
    /// The version before the update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
}

/// The answer to a provision or an update that is complete.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Provisioned {
    /// Where a person can look at the instance; absent in an update means "as before".
    #[serde(default, deserialize_with = "lenient")]
    pub dashboard_url: Option<String>,
    /// Labels and attributes.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: Option<Value>,
}

impl Message for Provisioned {
    fn read(object: Map<String, Value>) -> Result<Self, String> {
        typed(object)
    }
}

/// An instance as the broker knows it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Instance {
    /// The service.
    #[serde(default, deserialize_with = "lenient")]
    pub service_id: Option<String>,
    /// The plan.
    #[serde(default, deserialize_with = "lenient")]
    pub plan_id: Option<String>,
    /// Where a person can look at it.
    #[serde(default, deserialize_with = "lenient")]
    pub dashboard_url: Option<String>,
    /// Its parameters, unless the broker withholds them.
    #[serde(default, deserialize_with = "lenient")]
    pub parameters: Option<Hidden<Value>>,
    /// Its version.
    #[serde(default, deserialize_with = "lenient")]
    pub maintenance_info: Option<MaintenanceInfo>,
    /// Labels and attributes.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: Option<Value>,
}

impl Message for Instance {
    fn read(object: Map<String, Value>) -> Result<Self, String> {
        typed(object)
    }
}
