//! Documents of brokers, service instances and bindings, from what was typed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use engine_model::spec::ServiceUse;
use serde_json::{Map, Value, json};

use super::operate::read_bytes;
use crate::args::{
    BrokerAccess, BrokerScope, CreateServiceBinding, CreateServiceBroker, CreateServiceInstance,
    Parameters,
};

type Fields = Map<String, Value>;

/// The document of a broker.
pub(super) fn broker(broker: &CreateServiceBroker) -> Result<Fields> {
    let mut document = Fields::new();
    document.insert("name".into(), json!(broker.name));
    document.insert("url".into(), json!(broker.url));
    access(&mut document, &broker.access)?;
    Ok(document)
}

/// Puts in how a broker is reached, as far as it was given.
pub(super) fn access(document: &mut Fields, access: &BrokerAccess) -> Result<()> {
    match (&access.username, &access.password_file, &access.token_file) {
        (Some(username), Some(file), None) => {
            document.insert("username".into(), json!(username));
            document.insert("password".into(), json!(secret_text(file, "password")?));
        }
        (None, None, Some(file)) => {
            document.insert("token".into(), json!(secret_text(file, "token")?));
        }
        (None, None, None) => {}
        _ => bail!("say --username and --password-file, or --token-file, or none of them"),
    }
    if let Some(file) = &access.ca {
        document.insert("ca".into(), json!(certificates(file)?));
    }
    if let (Some(certificate), Some(key)) = (&access.client_certificate, &access.client_key) {
        document.insert("clientIdentity".into(), json!(identity(certificate, key)?));
    }
    if let Some(scope) = access.scope {
        let scope = match scope {
            BrokerScope::Organization => "organization",
            BrokerScope::All => "all",
        };
        document.insert("scope".into(), json!(scope));
    }
    let limits = document
        .entry("limits")
        .or_insert_with(|| Value::Object(Fields::new()));
    if let Some(concurrent) = access.max_concurrent {
        limits["concurrent"] = json!(concurrent);
    }
    if let Some(per_second) = access.max_per_second {
        limits["perSecond"] = json!(per_second);
    }
    Ok(())
}

/// What a file says as a password or a token.
fn secret_text(file: &Path, what: &str) -> Result<String> {
    let text = text(file)?;
    let text = text.trim_end();
    ensure!(
        !text.is_empty(),
        "the {what} in {} is empty",
        file.display()
    );
    Ok(text.to_owned())
}

fn certificates(file: &Path) -> Result<String> {
    let text = text(file)?;
    ensure!(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "{} holds no PEM certificate",
        file.display()
    );
    Ok(text)
}

/// A certificate and its key, one after the other.
pub(super) fn identity(certificate: &Path, key: &Path) -> Result<String> {
    let (certificate, text) = (certificates(certificate)?, text(key)?);
    ensure!(
        text.contains("PRIVATE KEY-----"),
        "{} holds no PEM private key",
        key.display()
    );
    Ok(format!("{}\n{text}", certificate.trim_end()))
}

/// The document of a service instance.
pub(super) fn instance(instance: &CreateServiceInstance) -> Result<Fields> {
    Ok(map(json!({
        "name": instance.name,
        "serviceClass": instance.class,
        "servicePlan": instance.plan,
        "parameters": parameters(&instance.parameters)?,
        "secretParameters": instance.parameters.secret,
        "binding": {
            "parameters": object(instance.binding_params.as_deref())?,
            "secretParameters": instance.binding_secret,
            "bindingSecret": instance.binding_secret_key.clone().unwrap_or_default(),
        },
    })))
}

/// The document of a service binding.
pub(super) fn binding(binding: &CreateServiceBinding) -> Result<Fields> {
    Ok(map(json!({
        "name": binding.name,
        "serviceInstance": binding.instance,
        "parameters": parameters(&binding.parameters)?,
        "secretParameters": binding.parameters.secret,
    })))
}

/// Parameters from the command line or from a file; null for none.
pub(super) fn parameters(given: &Parameters) -> Result<Value> {
    let Some(file) = &given.params_file else {
        return object(given.params.as_deref());
    };
    let bytes = read_bytes(file)?;
    let text =
        String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))?;
    object(Some(&text)).with_context(|| format!("in {}", file.display()))
}

/// Parameters are a JSON object; anything else is told before any request.
fn object(text: Option<&str>) -> Result<Value> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => bail!("parameters must be a JSON map: this is another kind of value"),
        Err(error) => bail!("parameters must be a JSON map: {error}"),
    }
}

/// Whether each of these can be a use of a service; told before any request.
pub(super) fn uses(services: &[String]) -> Result<()> {
    for text in services {
        text.parse::<ServiceUse>().map(drop).map_err(|error| {
            anyhow::anyhow!(
                "--service {text}: {error}; say INSTANCE, INSTANCE:own or INSTANCE:BINDING"
            )
        })?;
    }
    Ok(())
}

/// Adds labels to a document; a key that it bears already gets the new value.
pub(super) fn label(fields: &mut Fields, labels: &[String]) -> Result<()> {
    for text in labels {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            bail!("'{text}' is no label; say --tag KEY=VALUE");
        };
        let tags = fields
            .entry("tags")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Some(tags) = tags.as_array_mut() {
            tags.retain(|tag| tag["key"] != key);
            tags.push(json!({ "key": key, "value": value }));
        }
    }
    Ok(())
}

/// The fields of an object.
pub(super) fn map(document: Value) -> Fields {
    match document {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

/// A file's text.
pub(super) fn text(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_and_replaced() {
        let mut fields = map(json!({ "tags": [{ "key": "a", "value": "1" }] }));
        label(&mut fields, &["a=2".into(), "b=x=y".into()]).unwrap();
        let tags = json!([{ "key": "a", "value": "2" }, { "key": "b", "value": "x=y" }]);
        assert_eq!(fields["tags"], tags);
        assert!(label(&mut fields, &["nothing".into()]).is_err());
    }

    #[test]
    fn a_use_of_a_service_that_cannot_be_is_told_with_what_can() {
        assert!(uses(&["pg".into(), "pg:own".into(), "pg:reports".into()]).is_ok());
        let refused = uses(&["pg:".into()]).unwrap_err().to_string();
        assert!(refused.contains("INSTANCE:own"), "{refused}");
    }
}
