//! What people ask for: one document per kind, with the field names of Dispatch's v1 API.
//!
//! The name of a resource is not in its document: the subject carries it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClientSealed, Kind, Name};

pub use crate::function_spec::{
    FunctionLimits, FunctionSchema, FunctionSpec, Isolation, NetworkPolicy, RunPolicy, Source,
    WorkerScale,
};
pub use crate::schedule::{Overlap, ScheduleSpec};
pub use crate::service_use::{BindingChoice, ServiceUse};

/// Labels of a resource.
pub type Tags = BTreeMap<String, String>;

/// The wished state of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Spec {
    /// An interpreter and its root.
    BaseImage(BaseImageSpec),
    /// A base image with dependencies.
    Image(ImageSpec),
    /// Something to run.
    Function(FunctionSpec),
    /// A map of strings, sealed.
    Secret(SecretSpec),
    /// A broker of services.
    ServiceBroker(BrokerSpec),
    /// An instance of a service.
    ServiceInstance(InstanceSpec),
    /// One more binding of an instance.
    ServiceBinding(ServiceBindingSpec),
    /// An HTTP endpoint.
    API(ApiSpec),
    /// A function that is run again and again.
    Schedule(ScheduleSpec),
    /// A tenant.
    Organization(OrganizationSpec),
    /// A machine's way in.
    ServiceAccount(ServiceAccountSpec),
    /// A label.
    Application(ApplicationSpec),
}

impl Spec {
    /// The kind that the document describes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::BaseImage(_) => Kind::BaseImage,
            Self::Image(_) => Kind::Image,
            Self::Function(_) => Kind::Function,
            Self::Secret(_) => Kind::Secret,
            Self::ServiceBroker(_) => Kind::ServiceBroker,
            Self::ServiceInstance(_) => Kind::ServiceInstance,
            Self::ServiceBinding(_) => Kind::ServiceBinding,
            Self::API(_) => Kind::API,
            Self::Schedule(_) => Kind::Schedule,
            Self::Organization(_) => Kind::Organization,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Application(_) => Kind::Application,
        }
    }
}

/// The root of a base image that is an OCI image: the same content on every node, whatever its tag
/// says later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Where it was had from: the base image's `dockerUrl`.
    pub url: String,
    /// The digest of its manifest, `sha256:` and 64 digits.
    pub digest: String,
}

/// A base image. `dockerUrl` names the root: empty or `host` means the node's own interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseImageSpec {
    /// Where the image comes from; kept as given.
    #[serde(default)]
    pub docker_url: String,
    /// The language pack: `python3` or `nodejs`.
    pub language: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// An image: a base image and a layer of dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// The base image, by name; it may be created later.
    pub base_image_name: Name,
    /// The language's own manifest.
    #[serde(default)]
    pub runtime_dependencies: RuntimeDependencies,
    /// Packages of the operating system.
    #[serde(default)]
    pub system_dependencies: SystemDependencies,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// The whole text of `requirements.txt` or `package.json`; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeDependencies {
    /// The manifest's text.
    #[serde(default)]
    pub manifest: String,
}

/// Packages of the operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemDependencies {
    /// The packages.
    #[serde(default)]
    pub packages: Vec<SystemPackage>,
}

/// One package of the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemPackage {
    /// Its name.
    pub name: String,
    /// Its version; empty for any.
    #[serde(default)]
    pub version: String,
}

/// A secret: a JSON map of strings, sealed by the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSpec {
    /// The sealed map.
    pub secrets: ClientSealed,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// A broker of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerSpec {
    /// The URL below which `/v2/catalog` lies.
    pub url: String,
    /// How to authenticate: a sealed JSON document, `{"basic":{"username":…,"password":…}}` or
    /// `{"bearer":{"token":…}}`, either with `"clientIdentity"`, a PEM certificate and its key; `{}`
    /// for a broker that asks for nothing.
    pub credentials: ClientSealed,
    /// PEM certificates to trust instead of the system's; empty for the system's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// Who may use its classes.
    #[serde(default)]
    pub scope: Scope,
    /// How hard it may be worked.
    #[serde(default, skip_serializing_if = "BrokerLimits::is_default")]
    pub limits: BrokerLimits,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// Who may use the classes of a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The organization that the broker is registered in.
    #[default]
    Organization,
    /// Every organization.
    All,
}

/// Budgets of a broker; 0 means the node's own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BrokerLimits {
    /// Requests under way at once.
    pub concurrent: u32,
    /// Requests in a second.
    pub per_second: u32,
}

impl BrokerLimits {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An instance of a service class in one of its plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceSpec {
    /// The class, by name.
    pub service_class: String,
    /// The plan, by name.
    pub service_plan: String,
    /// Parameters of the provisioning: an object, or null for none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// Secrets whose keys are merged into the parameters when they are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_parameters: Vec<Name>,
    /// How to bind it.
    #[serde(default)]
    pub binding: BindingSpec,
    /// The `maintenance_info.version` that it is to have; empty for the plan's when it is
    /// provisioned, and then for the one that it has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub maintenance_version: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// One more binding of a service instance, besides the one that Dispatch makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceBindingSpec {
    /// The instance, by name.
    pub service_instance: Name,
    /// Parameters of the binding: an object, or null for none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// Secrets whose keys are merged into the parameters when they are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_parameters: Vec<Name>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// How an instance is bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindingSpec {
    /// Parameters of the binding: an object, or null for none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// Secrets whose keys are merged into the parameters when they are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_parameters: Vec<Name>,
    /// Kept and shown; the name that the original passed to its catalog.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub binding_secret: String,
}

/// An HTTP endpoint in front of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSpec {
    /// The function, by name; it may be created later.
    pub function: Name,
    /// `public`, or the name of an authentication that the gateway knows.
    #[serde(default = "public")]
    pub authentication: String,
    /// Whether cross-origin requests are answered.
    #[serde(default)]
    pub cors: bool,
    /// Whether it is served at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether each request is a run on record; without, a request costs no more than its function.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub record: bool,
    /// `Host` values to match; empty for all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Methods to match; empty for all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// `http`, `https` or both.
    #[serde(default = "both_protocols")]
    pub protocols: Vec<String>,
    /// Paths, each beginning with `/`.
    pub uris: Vec<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

fn public() -> String {
    "public".into()
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn both_protocols() -> Vec<String> {
    vec!["http".into(), "https".into()]
}

/// A tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrganizationSpec {
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// A machine's way in: it presents a bearer token of which only the hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountSpec {
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub token_sha256: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// A label for resources that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationSpec {
    /// Labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}
