//! Reads documents of the v1 API (and of YAML files) into specs.
//!
//! A document is lenient where Dispatch's own were: fields that the server fills are ignored, tags
//! are a list of `{key, value}`, and the older spellings (`code`, `main`) are understood.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::spec::{Source, Spec};
use crate::{ClientSealed, Code, Kind, Name, Rejection};

/// Fields that a server fills or that the original accepted and ignored.
const IGNORED: &[&str] = &[
    "id",
    "kind",
    "status",
    "reason",
    "createdTime",
    "modifiedTime",
    "faasId",
    "functionImageURL",
    "groups",
    "spec",
    "tls",
    "organizationId",
];

/// Fields that the views show and that cannot be given, so that what was read can be written again.
fn shown(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::BaseImage => &["digest", "version"],
        Kind::Image => &["buildLog", "dockerUrl", "language"],
        Kind::Secret => &["serviceInstance"],
        Kind::ServiceBroker => &[
            "lastError",
            "lastRefresh",
            "nextRefresh",
            "refused",
            "serviceClasses",
            "apiVersion",
            "circuit",
        ],
        Kind::ServiceInstance => &[
            "dashboardUrl",
            "lastOperation",
            "provisioned",
            "bound",
            "update",
            "upgradeAvailable",
            "adopted",
            "brokerInstanceId",
            "brokerOrganization",
            "broker",
        ],
        Kind::ServiceBinding => &[
            "bound",
            "bindingSecret",
            "function",
            "expiresAt",
            "renewBefore",
            "rotation",
            "lastOperation",
            "syslogDrainUrl",
            "routeServiceUrl",
            "volumeMounts",
        ],
        Kind::Function => &["revision", "traffic"],
        Kind::Organization
        | Kind::ServiceAccount
        | Kind::Application
        | Kind::ServiceClass
        | Kind::Run
        | Kind::API => &[],
        Kind::Schedule => &["when", "nextTime", "lastRun", "missed"],
    }
}

/// Reads a document of `kind`. `seal` seals a secret to the server's public key.
///
/// # Errors
/// `InvalidField`, `InvalidName` or `ReadOnly`, naming the field and what it should be.
pub fn read(
    kind: Kind,
    document: Value,
    seal: &dyn Fn(&[u8]) -> ClientSealed,
) -> Result<(Name, Spec), Rejection> {
    let Value::Object(mut fields) = document else {
        return Err(invalid(format!("a {kind} document is an object")));
    };
    let name = take_name(kind, &mut fields)?;
    for field in IGNORED.iter().chain(shown(kind)) {
        fields.remove(*field);
    }
    fold_tags(&mut fields)?;
    let spec = match kind {
        Kind::BaseImage => Spec::BaseImage(typed(kind, fields)?),
        Kind::Image => Spec::Image(typed(kind, fields)?),
        Kind::Function => Spec::Function(typed(kind, function(fields)?)?),
        Kind::Secret => Spec::Secret(typed(kind, secret(fields, seal)?)?),
        Kind::ServiceBroker => Spec::ServiceBroker(typed(kind, broker(fields, seal)?)?),
        Kind::ServiceInstance => Spec::ServiceInstance(typed(kind, instance(fields))?),
        Kind::API => Spec::API(typed(kind, fields)?),
        Kind::Schedule => {
            drop_nulls(
                &mut fields,
                &["input", "secrets", "cron", "timeZone", "every"],
            );
            Spec::Schedule(typed(kind, fields)?)
        }
        Kind::Organization => Spec::Organization(typed(kind, fields)?),
        Kind::ServiceAccount => Spec::ServiceAccount(typed(kind, fields)?),
        Kind::Application => Spec::Application(typed(kind, fields)?),
        Kind::ServiceBinding => {
            drop_nulls(&mut fields, &["parameters", "secretParameters"]);
            // What was read tells the instance by name here, and by id there.
            if let Some(instance) = fields.remove("instance") {
                fields.insert("serviceInstance".into(), instance);
            }
            Spec::ServiceBinding(typed(kind, fields)?)
        }
        Kind::ServiceClass | Kind::Run => {
            return Err(Rejection::new(
                Code::ReadOnly,
                format!("a {kind} is made by Dispatch itself and cannot be created"),
            ));
        }
    };
    Ok((name, spec))
}

/// Refuses a document that would replace another one and cannot have all that this one has: the
/// credentials of a broker are sealed, so that what was read and is written again lacks them.
///
/// # Errors
/// `InvalidField` when a broker's document says nothing of credentials.
pub fn replaces_whole(kind: Kind, document: &Value) -> Result<(), Rejection> {
    let fields = ["username", "token", "credentials"];
    let says = fields.iter().any(|field| document.get(*field).is_some());
    if kind != Kind::ServiceBroker || says {
        return Ok(());
    }
    let text = "a broker's credentials are sealed and cannot be read back: say 'username' and \
                'password' or 'token' again, or 'credentials: {}' for a broker that asks for none";
    Err(invalid(text.into()))
}

fn invalid(message: String) -> Rejection {
    Rejection::new(Code::InvalidField, message)
}

fn typed<T: DeserializeOwned>(kind: Kind, fields: Map<String, Value>) -> Result<T, Rejection> {
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| invalid(format!("a {kind} document: {error}")))
}

fn take_name(kind: Kind, fields: &mut Map<String, Value>) -> Result<Name, Rejection> {
    let Some(Value::String(name)) = fields.remove("name") else {
        return Err(invalid(format!(
            "a {kind} document has a text field 'name'"
        )));
    };
    Name::new(name).map_err(|error| Rejection::new(Code::InvalidName, error.to_string()))
}

/// `[{"key":k,"value":v}]` or `{k: v}` becomes `{k: v}`; of equal keys the last wins.
fn fold_tags(fields: &mut Map<String, Value>) -> Result<(), Rejection> {
    let tags = match fields.remove("tags") {
        None | Some(Value::Null) => return Ok(()),
        Some(tags @ Value::Object(_)) => tags,
        Some(Value::Array(list)) => {
            let pair = |tag: &Value| {
                Some((
                    tag.get("key")?.as_str()?.to_owned(),
                    tag.get("value")?.clone(),
                ))
            };
            let pairs: Option<Map<String, Value>> = list.iter().map(pair).collect();
            let shape = || invalid("tags are a list of {key, value}".into());
            Value::Object(pairs.ok_or_else(shape)?)
        }
        Some(_) => return Err(invalid("tags are a list of {key, value}".into())),
    };
    fields.insert("tags".into(), tags);
    Ok(())
}

/// `code` (v11, a file's text), `source` (base64 of a gzipped tar) or a source of our own.
fn function(mut fields: Map<String, Value>) -> Result<Map<String, Value>, Rejection> {
    if let Some(main) = fields.remove("main") {
        fields.entry("handler").or_insert(main);
    }
    drop_nulls(
        &mut fields,
        &["secrets", "services", "schema", "timeout", "handler"],
    );
    let source = match (fields.remove("code"), fields.remove("source")) {
        (None, Some(Value::String(archive))) => json!(Source::Archive(archive)),
        (None, Some(source @ Value::Object(_))) => source,
        (Some(Value::String(text)), None) => {
            let name = fields
                .remove("fileName")
                .and_then(|name| name.as_str().map(str::to_owned));
            json!(Source::File {
                name: name.unwrap_or_default(),
                text
            })
        }
        _ => {
            let text = "a Function document has either 'source', 'sourcePath' or 'code'";
            return Err(invalid(text.into()));
        }
    };
    fields.insert("source".into(), source);
    Ok(fields)
}

fn drop_nulls(fields: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        if fields.get(*name).is_some_and(Value::is_null) {
            fields.remove(*name);
        }
    }
}

fn secret(
    mut fields: Map<String, Value>,
    seal: &dyn Fn(&[u8]) -> ClientSealed,
) -> Result<Map<String, Value>, Rejection> {
    let Some(Value::Object(map)) = fields.remove("secrets") else {
        return Err(invalid(
            "a Secret document has an object 'secrets' of strings".into(),
        ));
    };
    // What a client sealed already passes through.
    if serde_json::from_value::<ClientSealed>(Value::Object(map.clone())).is_ok() {
        fields.insert("secrets".into(), Value::Object(map));
        return Ok(fields);
    }
    if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
        return Err(invalid(format!("the secret's key '{key}' is not a string")));
    }
    fields.insert(
        "secrets".into(),
        json!(seal(Value::Object(map).to_string().as_bytes())),
    );
    Ok(fields)
}

/// `username` and `password`, or `token`, or credentials that a client sealed already.
fn broker(
    mut fields: Map<String, Value>,
    seal: &dyn Fn(&[u8]) -> ClientSealed,
) -> Result<Map<String, Value>, Rejection> {
    // None at all, said in so many words.
    let none = |said: &Value| said.is_null() || said.as_object().is_some_and(Map::is_empty);
    if fields.get("credentials").is_some_and(none) {
        fields.remove("credentials");
    }
    if fields.contains_key("credentials") {
        return Ok(fields);
    }
    let plain = match (
        fields.remove("username"),
        fields.remove("password"),
        fields.remove("token"),
    ) {
        (Some(Value::String(username)), Some(Value::String(password)), None) => {
            json!({ "basic": { "username": username, "password": password } })
        }
        (None, None, Some(Value::String(token))) => json!({ "bearer": { "token": token } }),
        (None, None, None) => json!({}),
        _ => {
            let text = "a ServiceBroker document has texts 'username' and 'password', or 'token', \
                        or none of them";
            return Err(invalid(text.into()));
        }
    };
    let mut plain = plain;
    match fields.remove("clientIdentity") {
        None | Some(Value::Null) => {}
        Some(Value::String(pem)) if pem.contains("-----BEGIN CERTIFICATE-----") => {
            plain["clientIdentity"] = pem.into();
        }
        Some(_) => {
            let text = "a ServiceBroker document's 'clientIdentity' is a PEM certificate and its \
                        private key";
            return Err(invalid(text.into()));
        }
    }
    fields.insert(
        "credentials".into(),
        json!(seal(plain.to_string().as_bytes())),
    );
    Ok(fields)
}

/// The binding of a document that was read back carries fields of the server.
fn instance(mut fields: Map<String, Value>) -> Map<String, Value> {
    drop_nulls(&mut fields, &["binding", "parameters", "secretParameters"]);
    if let Some(Value::Object(binding)) = fields.get_mut("binding") {
        let ours = ["parameters", "secretParameters", "bindingSecret"];
        binding.retain(|key, value| ours.contains(&key.as_str()) && !value.is_null());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8]) -> ClientSealed {
        ClientSealed {
            key: "k".into(),
            encapsulated: String::new(),
            ciphertext: plain.len().to_string(),
        }
    }

    fn spec(kind: Kind, document: Value) -> Result<(Name, Spec), Rejection> {
        read(kind, document, &sealed)
    }

    #[test]
    fn an_image_document_is_read_with_its_tags() {
        let document = json!({
            "kind": "Image", "name": "python3", "baseImageName": "python3-base", "status": "READY",
            "buildLog": "ab",
            "runtimeDependencies": { "manifest": "requests\n" }, "reason": null,
            "tags": [{ "key": "role", "value": "test" }],
        });
        let (name, Spec::Image(image)) = spec(Kind::Image, document).unwrap() else {
            panic!()
        };
        assert_eq!(name.as_str(), "python3");
        assert_eq!(image.runtime_dependencies.manifest, "requests\n");
        assert_eq!(image.tags["role"], "test");
    }

    #[test]
    fn a_broker_is_not_replaced_by_one_that_says_nothing_of_credentials() {
        let url = "http://127.0.0.1:1";
        let silent = json!({ "name": "b", "url": url });
        let refused = replaces_whole(Kind::ServiceBroker, &silent).unwrap_err();
        assert!(refused.message.contains("credentials: {}"), "{refused}");
        let none = json!({ "name": "b", "url": url, "credentials": {} });
        replaces_whole(Kind::ServiceBroker, &none).unwrap();
        assert!(spec(Kind::ServiceBroker, none).is_ok());
        replaces_whole(Kind::ServiceBroker, &json!({ "token": "t" })).unwrap();
        replaces_whole(Kind::Image, &silent).unwrap();
    }

    #[test]
    fn a_secret_leaves_only_sealed() {
        let document = json!({ "name": "s", "secrets": { "password": "canary" } });
        let (_, secret) = spec(Kind::Secret, document).unwrap();
        assert!(!serde_json::to_string(&secret).unwrap().contains("canary"));
    }

    #[test]
    fn a_secret_of_other_than_strings_is_refused_without_its_value() {
        let document = json!({ "name": "s", "secrets": { "pin": 1234 } });
        let rejection = spec(Kind::Secret, document).unwrap_err();
        assert!(rejection.message.contains("'pin'") && !rejection.message.contains("1234"));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let document = json!({ "name": "a", "function": "f", "uris": ["/x"], "colour": "red" });
        assert!(
            spec(Kind::API, document)
                .unwrap_err()
                .message
                .contains("colour")
        );
    }

    #[test]
    fn both_generations_of_function_documents_are_read() {
        let old = json!({ "name": "f", "image": "i", "code": "x = 1", "main": "a.b" });
        let new = json!({ "name": "f", "image": "i", "source": "AAAA", "handler": "a.b" });
        for document in [old, new] {
            let (_, Spec::Function(function)) = spec(Kind::Function, document).unwrap() else {
                panic!()
            };
            assert_eq!(function.handler, "a.b");
        }
    }
}
