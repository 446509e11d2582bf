//! What a resource waits for, looked up in the other views when it is shown. The texts are those
//! of the engine.

use engine_model::spec::{BindingSpec, FunctionSpec, InstanceSpec};
use engine_model::{Name, OrgName};

use crate::Error;
use crate::table::Reader;
use crate::view::instance;
use crate::view::life::Life;
use crate::view::{BaseImages, Brokers, Classes, Functions, Images, Instances, Secrets};

/// What is missing of a base image.
pub(crate) fn base_image(
    reader: &Reader<'_>,
    org: &OrgName,
    name: &Name,
) -> Result<Option<String>, Error> {
    let Some(base) = reader.get::<BaseImages>(org, name.as_str())? else {
        return Ok(Some(format!("base image {name} does not exist yet")));
    };
    Ok(match base.making.failure() {
        Some(reason) => Some(format!("base image {name} is in error: {reason}")),
        None if base.making.is_current() => None,
        None => Some(format!("base image {name} is being prepared")),
    })
}

/// What is missing of a function that is to be called.
pub(crate) fn function(
    reader: &Reader<'_>,
    org: &OrgName,
    name: &Name,
) -> Result<Option<String>, Error> {
    Ok(match reader.get::<Functions>(org, name.as_str())? {
        None => Some(format!("function {name} does not exist yet")),
        Some(row) if !row.making.is_made() => Some(format!("function {name} is not ready yet")),
        Some(_) => None,
    })
}

/// What a function waits for.
pub(crate) fn of_function(
    reader: &Reader<'_>,
    org: &OrgName,
    spec: &FunctionSpec,
) -> Result<Vec<String>, Error> {
    let mut missing: Vec<String> = image(reader, org, &spec.image)?.into_iter().collect();
    for name in &spec.secrets {
        missing.extend(secret(reader, org, name)?);
    }
    for used in &spec.services {
        missing.extend(service(reader, org, &used.instance)?);
    }
    Ok(missing)
}

/// What an instance waits for.
pub(crate) fn of_instance(
    reader: &Reader<'_>,
    org: &OrgName,
    spec: &InstanceSpec,
) -> Result<Vec<String>, Error> {
    let (class, plan) = (&spec.service_class, &spec.service_plan);
    let missing = match reader.get::<Classes>(org, class)? {
        None => Some(format!("service class {class} does not exist")),
        Some(row) if row.withdrawn => Some(format!(
            "service class {class} is no longer offered by broker {}",
            row.broker
        )),
        Some(row) if !row.offering.plans.iter().any(|own| own.name == *plan) => {
            Some(format!("service class {class} has no plan {plan}"))
        }
        Some(_) => None,
    };
    let mut missing: Vec<String> = missing.into_iter().collect();
    for name in &spec.secret_parameters {
        missing.extend(secret(reader, org, name)?);
    }
    Ok(missing)
}

/// What the binding of the instance of the same name waits for.
pub(crate) fn of_binding(
    reader: &Reader<'_>,
    org: &OrgName,
    name: &str,
    spec: &BindingSpec,
) -> Result<Vec<String>, Error> {
    let instance = reader.get::<Instances>(org, name)?;
    if !instance.is_some_and(|row| row.is_provisioned()) {
        return Ok(vec![format!(
            "service instance {name} is not provisioned yet"
        )]);
    }
    let mut missing = Vec::new();
    for name in &spec.secret_parameters {
        missing.extend(secret(reader, org, name)?);
    }
    Ok(missing)
}

/// What stands in the way of a request that is under way, for the instance or its binding.
pub(crate) fn underway(
    reader: &Reader<'_>,
    org: &OrgName,
    life: &Life,
    instance: &instance::Row,
    secrets: &[Name],
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    if !life.is_underway() {
        return Ok(missing);
    }
    if let Some(broker) = instance.broker()
        && reader.get::<Brokers>(org, broker)?.is_none()
    {
        missing.push(format!(
            "service broker {broker} is not registered any more; register it again under that \
             name, or abandon the service instance"
        ));
    }
    if life.is_making() {
        for name in secrets {
            missing.extend(secret(reader, org, name)?);
        }
    }
    Ok(missing)
}

/// Whether an instance is of this class.
pub(crate) fn class_is_used(
    reader: &Reader<'_>,
    org: &OrgName,
    class: &str,
) -> Result<bool, Error> {
    reader.any::<Instances>(org, |row| row.spec.service_class == class)
}

fn image(reader: &Reader<'_>, org: &OrgName, name: &Name) -> Result<Option<String>, Error> {
    let Some(image) = reader.get::<Images>(org, name.as_str())? else {
        return Ok(Some(format!("image {name} does not exist yet")));
    };
    Ok(match image.making.failure() {
        Some(reason) => Some(format!("image {name} is in error: {reason}")),
        None if image.making.is_current() => None,
        None if image.making.is_waiting() => Some(format!("image {name} waits for its base image")),
        None => Some(format!("image {name} is being built")),
    })
}

fn secret(reader: &Reader<'_>, org: &OrgName, name: &Name) -> Result<Option<String>, Error> {
    let found = reader.get::<Secrets>(org, name.as_str())?;
    Ok(found
        .is_none()
        .then(|| format!("secret {name} does not exist yet")))
}

fn service(reader: &Reader<'_>, org: &OrgName, name: &Name) -> Result<Option<String>, Error> {
    let Some(instance) = reader.get::<Instances>(org, name.as_str())? else {
        return Ok(Some(format!("service instance {name} does not exist yet")));
    };
    let bound = reader
        .get::<Secrets>(org, &instance.id.to_string())?
        .is_some();
    if bound || instance.is_unbindable() {
        return Ok(None);
    }
    let (status, reason) = instance.status(reader, org, name.as_str())?;
    let why = reason
        .first()
        .map_or_else(String::new, |first| format!(": {first}"));
    Ok(Some(format!(
        "service instance {name} is {}{why}",
        status.as_str()
    )))
}
