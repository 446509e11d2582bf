//! The catalog: read from YAML, checked against the rules of the specification, published without
//! the private part of its plans.

mod private;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use jsonschema::Validator;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::record::Backing;
use private::take_private_part;

/// What the specification allows a schema.
const SCHEMA_BYTES_MAX: usize = 64_000;
/// What the specification recommends for texts that platforms store.
const TEXT_BYTES_MAX: usize = 255;
/// Violations that are reported of one document.
const VIOLATIONS_MAX: usize = 5;

/// Why a catalog file is not a catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read it")]
    Read(#[from] std::io::Error),
    /// It is not YAML.
    #[error("parse it")]
    Yaml(#[from] serde_norway::Error),
    /// A rule of the specification or of ours is broken.
    #[error("accept {at}: {problem}")]
    Rule {
        /// Which entry.
        at: String,
        /// What is wrong.
        problem: String,
    },
}

/// A catalog that keeps the rules.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) body: Bytes,
    pub(crate) etag: String,
    plans: HashMap<String, Plan>,
}

/// What the broker knows of a plan. Values that plans inherit from their offering are filled in.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) service_id: String,
    pub(crate) id: String,
    pub(crate) bindable: bool,
    pub(crate) updateable: bool,
    pub(crate) rotatable: bool,
    pub(crate) bindings_retrievable: bool,
    /// Seconds that the password of a binding is good for.
    pub(crate) credential_lifetime: Option<i64>,
    pub(crate) maintenance_version: Option<String>,
    pub(crate) backing: Backing,
    pub(crate) create: Option<Validator>,
    pub(crate) update: Option<Validator>,
    pub(crate) bind: Option<Validator>,
}

impl Catalog {
    /// Reads a catalog. Plans whose backing `offered` refuses are left out, and offerings that
    /// have no plan left.
    pub(crate) fn parse(yaml: &str, offered: impl Fn(&Backing) -> bool) -> Result<Self, Error> {
        let mut document: Value = serde_norway::from_str(yaml)?;
        let services = document
            .get_mut("services")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| rule("the document", "it needs a list `services`"))?;
        let mut plans = HashMap::new();
        let mut seen = Seen::default();
        let mut kept = Vec::new();
        for mut service in std::mem::take(services) {
            let of_service = read_offering(&mut service, &mut seen, &offered)?;
            if !of_service.is_empty() {
                kept.push(service);
                plans.extend(of_service.into_iter().map(|plan| (plan.id.clone(), plan)));
            }
        }
        *services = kept;
        let body = Bytes::from(document.to_string());
        let etag = format!("\"{}\"", hex(&Sha256::digest(&body)));
        Ok(Self { body, etag, plans })
    }

    /// A plan of an offering.
    pub(crate) fn plan(&self, service_id: &str, plan_id: &str) -> Option<&Plan> {
        self.plans
            .get(plan_id)
            .filter(|plan| plan.service_id == service_id)
    }

    pub(crate) fn offers_dedicated(&self) -> bool {
        self.plans.values().any(|plan| plan.backing.is_dedicated())
    }
}

/// The violations of a schema, without the values that violate it, as these may be secret.
pub(crate) fn violations(
    schema: Option<&Validator>,
    document: &Map<String, Value>,
) -> Option<String> {
    let document = Value::Object(document.clone());
    let found: Vec<String> = schema?
        .iter_errors(&document)
        .take(VIOLATIONS_MAX)
        .map(|error| match error.instance_path().as_str() {
            "" => error.masked().to_string(),
            path => format!("{path}: {}", error.masked()),
        })
        .collect();
    (!found.is_empty()).then(|| found.join("; ").chars().take(1_000).collect())
}

#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    offering_names: HashSet<String>,
}

fn read_offering(
    service: &mut Value,
    seen: &mut Seen,
    offered: &impl Fn(&Backing) -> bool,
) -> Result<Vec<Plan>, Error> {
    let name = command_line_name(service, "an offering")?;
    let at = format!("offering {name}");
    if !seen.offering_names.insert(name) {
        return Err(rule(&at, "its name is used twice"));
    }
    let service_id = unique_id(service, &at, seen)?;
    text(service, "description", &at)?;
    check_requires(service, &at)?;
    let bindable = flag(service, "bindable", &at)?
        .ok_or_else(|| rule(&at, "it needs `bindable`, true or false"))?;
    let updateable = flag(service, "plan_updateable", &at)?.unwrap_or(false);
    let bindings_retrievable = flag(service, "bindings_retrievable", &at)?.unwrap_or(false);
    let plans = service
        .get_mut("plans")
        .and_then(Value::as_array_mut)
        .filter(|plans| !plans.is_empty())
        .ok_or_else(|| rule(&at, "it needs at least one plan"))?;
    let mut names = HashSet::new();
    let mut read = Vec::new();
    let mut kept = Vec::new();
    for mut plan in std::mem::take(plans) {
        let name = command_line_name(&plan, &format!("a plan of {at}"))?;
        let at = format!("plan {name} of {at}");
        if !names.insert(name) {
            return Err(rule(&at, "its name is used twice"));
        }
        let id = unique_id(&plan, &at, seen)?;
        text(&plan, "description", &at)?;
        let (backing, credential_lifetime) = take_private_part(&mut plan, &at)?;
        let plan_read = Plan {
            service_id: service_id.clone(),
            id,
            bindable: flag(&plan, "bindable", &at)?.unwrap_or(bindable),
            updateable: flag(&plan, "plan_updateable", &at)?.unwrap_or(updateable),
            rotatable: flag(&plan, "binding_rotatable", &at)?.unwrap_or(false),
            bindings_retrievable,
            maintenance_version: maintenance_version(&plan, &at)?,
            backing,
            credential_lifetime,
            create: schema(&plan, "/schemas/service_instance/create/parameters", &at)?,
            update: schema(&plan, "/schemas/service_instance/update/parameters", &at)?,
            bind: schema(&plan, "/schemas/service_binding/create/parameters", &at)?,
        };
        if offered(&plan_read.backing) {
            read.push(plan_read);
            kept.push(plan);
        } else {
            tracing::warn!(plan = %at, "plan left out: no shared server is configured");
        }
    }
    *plans = kept;
    Ok(read)
}

/// A semantic version, which platforms compare.
fn maintenance_version(plan: &Value, at: &str) -> Result<Option<String>, Error> {
    let Some(info) = plan.get("maintenance_info") else {
        return Ok(None);
    };
    let at = format!("maintenance_info of {at}");
    let version = text(info, "version", &at)?;
    if is_semantic(&version) {
        Ok(Some(version))
    } else {
        let problem = format!("its version {version:?} is not like 1.2.3");
        Err(rule(&at, problem))
    }
}

/// Whether a text is a version of Semantic Versioning 2.0.0.
fn is_semantic(version: &str) -> bool {
    let numeric = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| {
        let allowed = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !part.is_empty() && allowed
    };
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    let digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(numeric)
        && build.is_none_or(|build| build.split('.').all(word))
        && pre.is_none_or(|pre| {
            pre.split('.')
                .all(|part| word(part) && (!digits_only(part) || numeric(part)))
        })
}

/// A binding here is a login: no log drain, no route service, no volume can be promised.
fn check_requires(service: &Value, at: &str) -> Result<(), Error> {
    let asked = service.get("requires").and_then(Value::as_array);
    if asked.is_some_and(|asked| !asked.is_empty()) {
        return Err(rule(at, "it `requires` what the broker does not provide"));
    }
    Ok(())
}

/// A name that can be typed: letters, digits, dots, hyphens and underscores.
fn command_line_name(entry: &Value, at: &str) -> Result<String, Error> {
    let name = text(entry, "name", at)?;
    let typed = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if typed && name.len() <= TEXT_BYTES_MAX {
        return Ok(name);
    }
    let problem = format!("its name {name:?} is not one for a command line");
    Err(rule(at, problem))
}

fn schema(plan: &Value, pointer: &str, at: &str) -> Result<Option<Validator>, Error> {
    let Some(schema) = plan.pointer(pointer) else {
        return Ok(None);
    };
    let at = format!("{pointer} of {at}");
    if schema.get("$schema").is_none() {
        return Err(rule(&at, "it needs `$schema`"));
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(rule(&at, "it is larger than 64 kB"));
    }
    if schema.get("type").is_some_and(|kind| kind != "object") {
        return Err(rule(&at, "parameters are an object, so its type must be"));
    }
    if let Some(reference) = external_reference(schema) {
        return Err(rule(
            &at,
            format!("it refers to {reference}, outside itself"),
        ));
    }
    jsonschema::validator_for(schema)
        .map(Some)
        .map_err(|error| rule(&at, format!("it is not a JSON Schema: {error}")))
}

fn external_reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(object) => object.iter().find_map(|(key, value)| match value.as_str() {
            Some(target) if key == "$ref" && !target.starts_with('#') => Some(target),
            _ => external_reference(value),
        }),
        Value::Array(items) => items.iter().find_map(external_reference),
        _ => None,
    }
}

fn unique_id(entry: &Value, at: &str, seen: &mut Seen) -> Result<String, Error> {
    let id = text(entry, "id", at)?;
    if !seen.ids.insert(id.clone()) {
        return Err(rule(at, "its id is used twice"));
    }
    if !crate::names::is_id(&id) {
        return Err(rule(at, format!("its id {id:?} cannot be part of a URL")));
    }
    Ok(id)
}

fn text(entry: &Value, key: &str, at: &str) -> Result<String, Error> {
    match entry.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(rule(
            at,
            format!("it needs `{key}`, a text that is not empty"),
        )),
    }
}

fn flag(entry: &Value, key: &str, at: &str) -> Result<Option<bool>, Error> {
    match entry.get(key) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(rule(at, format!("`{key}` must be true or false"))),
    }
}

fn rule(at: &str, problem: impl Into<String>) -> Error {
    Error::Rule {
        at: at.to_owned(),
        problem: problem.into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
