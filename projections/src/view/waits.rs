//! What a resource waits for, looked up in the other views when it is shown. The texts are those
//! of the engine.

use engine_model::spec::{BindingChoice, FunctionSpec, InstanceSpec, ScheduleSpec, ServiceUse};
use engine_model::{Name, OrgName};

use crate::Error;
use crate::table::Reader;
use crate::view::life::Life;
use crate::view::{BaseImages, Bindings, Brokers, Functions, Images, Instances, Secrets};
use crate::view::{class, instance, secret};

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

/// What a schedule waits for.
pub(crate) fn of_schedule(
    reader: &Reader<'_>,
    org: &OrgName,
    spec: &ScheduleSpec,
) -> Result<Vec<String>, Error> {
    let mut missing: Vec<String> = function(reader, org, &spec.function)?.into_iter().collect();
    for name in &spec.secrets {
        missing.extend(credentials(reader, org, name)?);
    }
    Ok(missing)
}

/// What a function of this name waits for.
pub(crate) fn of_function(
    reader: &Reader<'_>,
    org: &OrgName,
    function: &str,
    spec: &FunctionSpec,
) -> Result<Vec<String>, Error> {
    let mut missing: Vec<String> = image(reader, org, &spec.image)?.into_iter().collect();
    for name in &spec.secrets {
        missing.extend(credentials(reader, org, name)?);
    }
    for used in &spec.services {
        missing.extend(service(reader, org, function, used)?);
    }
    Ok(missing)
}

/// What an instance waits for.
pub(crate) fn of_instance(
    reader: &Reader<'_>,
    org: &OrgName,
    spec: &InstanceSpec,
) -> Result<Option<String>, Error> {
    let shown = |name: &str| name.chars().take(80).collect::<String>();
    let (class, plan) = (shown(&spec.service_class), &spec.service_plan);
    let Some((of, row)) = class::usable(reader, org, &spec.service_class)? else {
        return Ok(Some(format!(
            "service class {class} does not exist; `dispatch get serviceclasses` lists those that \
             do, and a new broker's appear when its catalog has been read"
        )));
    };
    let broker = &row.broker;
    if row.withdrawn {
        return Ok(Some(format!(
            "service class {class} is no longer offered by broker {broker}"
        )));
    }
    let registered = reader.get::<Brokers>(of, broker)?;
    if registered.is_none_or(|broker| broker.is_going()) {
        return Ok(Some(format!(
            "broker {broker} of service class {class} is being deleted"
        )));
    }
    let plans = || row.offering.plans.iter().map(|plan| plan.name.as_str());
    if !plans().any(|own| own == plan) {
        let all: Vec<&str> = plans().collect();
        return Ok(Some(format!(
            "service class {class} has no plan {}; it has: {}",
            shown(plan),
            all.join(", ")
        )));
    }
    secrets_stored(reader, org, &spec.secret_parameters)
}

/// What a binding of the instance `owner` waits for.
pub(crate) fn of_binding(
    reader: &Reader<'_>,
    org: &OrgName,
    owner: &str,
    instance: Option<&instance::Row>,
    secrets: &[Name],
) -> Result<Vec<String>, Error> {
    let instance = match instance {
        Some(instance) if instance.is_made() && !instance.is_usable() => {
            let text = "its service instance cannot be used: the broker said so";
            return Ok(vec![text.into()]);
        }
        Some(instance) if instance.is_made() => instance,
        Some(_) | None => {
            let text = format!("service instance {owner} is not provisioned yet");
            return Ok(vec![text]);
        }
    };
    let mut missing = Vec::new();
    for name in secrets {
        missing.extend(secret(reader, org, name)?);
    }
    if missing.is_empty() {
        missing.push("waits until the broker has nothing else of its instance in hand".into());
    }
    missing.extend(without_broker(reader, org, instance)?);
    Ok(missing)
}

/// What a person can do when the broker that a request is for is not registered any more.
pub(crate) fn without_broker(
    reader: &Reader<'_>,
    org: &OrgName,
    instance: &instance::Row,
) -> Result<Option<String>, Error> {
    let Some((of, broker)) = instance.broker(org) else {
        return Ok(None);
    };
    let known = reader.get::<Brokers>(of, broker.as_str())?.is_some();
    Ok((!known).then(|| {
        format!(
            "service broker {broker} is not registered any more; register it again under that \
             name, or abandon the service instance"
        )
    }))
}

/// What is missing of a request that is to be sent, and was there when it was decided.
pub(crate) fn lost_secret(
    reader: &Reader<'_>,
    org: &OrgName,
    life: &Life,
    secrets: &[Name],
) -> Result<Option<String>, Error> {
    if life.is_making() {
        secrets_stored(reader, org, secrets)
    } else {
        Ok(None)
    }
}

/// Which of these secrets is not there; the first only.
pub(crate) fn secrets_stored(
    reader: &Reader<'_>,
    org: &OrgName,
    secrets: &[Name],
) -> Result<Option<String>, Error> {
    for name in secrets {
        if let Some(missing) = secret(reader, org, name)? {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

/// The first of some reasons, as it follows a statement.
pub(crate) fn first(reasons: &[String]) -> String {
    reasons
        .first()
        .map_or_else(String::new, |first| format!(": {first}"))
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

/// Whether a secret is there that people stored.
fn secret(reader: &Reader<'_>, org: &OrgName, name: &Name) -> Result<Option<String>, Error> {
    let found = reader.get::<Secrets>(org, name.as_str())?;
    let stored = matches!(found, Some(secret::Row::Stored { .. }));
    Ok((!stored).then(|| format!("secret {name} does not exist yet")))
}

/// Whether a secret is there, or the binding of the instance that it is named by.
fn credentials(reader: &Reader<'_>, org: &OrgName, name: &Name) -> Result<Option<String>, Error> {
    match reader.get::<Secrets>(org, name.as_str())? {
        Some(secret::Row::Bound {
            service_instance, ..
        }) => shared(reader, org, &service_instance),
        Some(secret::Row::Stored { .. }) => Ok(None),
        Some(secret::Row::Binding { .. }) | None => {
            Ok(Some(format!("secret {name} does not exist yet")))
        }
    }
}

/// What is missing of a service that a function uses.
fn service(
    reader: &Reader<'_>,
    org: &OrgName,
    function: &str,
    used: &ServiceUse,
) -> Result<Option<String>, Error> {
    let instance = used.instance.as_str();
    let Ok(function) = Name::new(function) else {
        return Ok(None);
    };
    if used.binding == BindingChoice::Shared {
        return shared(reader, org, instance);
    }
    let name = used.binding_name(&function);
    let owner = reader.get::<Instances>(org, instance)?;
    if owner.as_ref().is_some_and(instance::Row::is_unbindable) {
        return Ok(None);
    }
    let binding = reader
        .get::<Bindings>(org, name.as_str())?
        .filter(|binding| {
            owner
                .as_ref()
                .is_some_and(|owner| owner.id == binding.instance)
        });
    if let Some(binding) = binding {
        if binding.is_bound() {
            return Ok(None);
        }
        let (status, reasons) = binding.status(reader, org, name.as_str())?;
        let (status, why) = (status.as_str(), first(&reasons));
        return Ok(Some(format!("service binding {name} is {status}{why}")));
    }
    let missing = shared(reader, org, instance)?;
    Ok(missing.or_else(|| {
        Some(format!(
            "service instance {instance} has no service binding {name} yet"
        ))
    }))
}

/// What is missing of the binding that an instance has anyway.
fn shared(reader: &Reader<'_>, org: &OrgName, name: &str) -> Result<Option<String>, Error> {
    let Some(instance) = reader.get::<Instances>(org, name)? else {
        return Ok(Some(format!("service instance {name} does not exist yet")));
    };
    if instance.is_made() {
        let own = instance.own_binding(reader, org, name)?;
        if instance.is_unbindable() || own.is_some_and(|own| own.is_bound()) {
            return Ok(None);
        }
    }
    let (status, reasons) = instance.status(reader, org, name)?;
    let (status, why) = (status.as_str(), first(&reasons));
    Ok(Some(format!("service instance {name} is {status}{why}")))
}
