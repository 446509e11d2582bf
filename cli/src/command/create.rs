//! `dispatch create`: one resource, or all of a file's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use engine_model::{Command, Kind};
use serde_json::{Map, Value, json};

use super::operate::read_bytes;
use super::services::{map, text};
use super::{batch, services, source, template, wait};
use crate::args::{
    Batch, Common, Create, CreateApi, CreateFunction, CreateOne, FunctionFlags, FunctionWords,
    Global,
};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, note, print};

/// Makes one resource, or all of a file's.
pub(super) async fn run(connection: &Connection, global: &Global, create: Create) -> Result<Exit> {
    let Some(one) = create.one else {
        let Some(file) = create.batch.file else {
            bail!("say what to create, or -f FILE; 'dispatch create --help' lists the kinds");
        };
        let batch = Batch {
            file,
            work_dir: create.batch.work_dir,
            application: create.batch.application,
        };
        return batch::apply(connection, global, batch, batch::Wish::Create).await;
    };
    let (kind, fields, common) = document(connection, global, one).await?;
    make(connection, global, kind, fields, &common).await
}

async fn make(
    connection: &Connection,
    global: &Global,
    kind: Kind,
    mut fields: Map<String, Value>,
    common: &Common,
) -> Result<Exit> {
    mark(&mut fields, common)?;
    let name = fields
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let key = connection.key(kind, &name)?;
    let spec = batch::read(connection, kind, fields).await?;
    let seq = connection
        .submit(key.clone(), Command::Create(spec))
        .await?;
    let mut exit = Exit::Done;
    let mut document = Value::Null;
    if common.wait {
        (document, exit) = wait::until_settled(connection, global, &key, seq).await?;
    } else if global.format() != Format::Table {
        document = connection.one(kind, &key.name, seq).await?;
    }
    if global.format() == Format::Table {
        print(&format!("Created {}: {name}\n", created(kind)))?;
        if exit == Exit::EndedInError {
            let reason = document["reason"][0].as_str().unwrap_or("ERROR");
            note(&format!("dispatch: it is there, but: {reason}"));
        }
    } else {
        super::get::show(global, kind, vec![document], true)?;
    }
    Ok(exit)
}

/// Puts in the labels that were given.
pub(super) fn mark(fields: &mut Map<String, Value>, common: &Common) -> Result<()> {
    if let Some(application) = &common.application {
        batch::tag(fields, application);
    }
    services::label(fields, &common.tags)
}

/// The kind as the success lines of `create` spell it.
fn created(kind: Kind) -> &'static str {
    match kind {
        Kind::BaseImage => "base image",
        _ => kind.token(),
    }
}

/// The document of one resource, as a file would hold it.
async fn document(
    connection: &Connection,
    global: &Global,
    one: CreateOne,
) -> Result<(Kind, Map<String, Value>, Common)> {
    Ok(match one {
        CreateOne::BaseImage {
            name,
            image_url,
            language,
            common,
        } => {
            let document = json!({ "name": name, "dockerUrl": image_url, "language": language });
            (Kind::BaseImage, map(document), common)
        }
        CreateOne::Image {
            name,
            base_image,
            runtime_deps,
            system_deps,
            common,
        } => {
            let manifest = runtime_deps
                .as_deref()
                .map(text)
                .transpose()?
                .unwrap_or_default();
            let mut document = json!({
                "name": name, "baseImageName": base_image,
                "runtimeDependencies": { "manifest": manifest },
            });
            if let Some(file) = system_deps {
                document["systemDependencies"] = json_file(&file)?;
            }
            (Kind::Image, map(document), common)
        }
        CreateOne::Function(CreateFunction {
            mut function,
            from_template,
        }) => {
            if let Some(template) = from_template {
                template::lay_out(connection, global, &template, &mut function).await?;
            }
            self::function(connection, function).await?
        }
        CreateOne::Secret { name, file, common } => {
            // The parser's own text could quote the secret.
            let secrets: Value = serde_json::from_slice(&read_bytes(&file)?)
                .map_err(|_| anyhow::anyhow!("{} is not a JSON map", file.display()))?;
            (
                Kind::Secret,
                map(json!({ "name": name, "secrets": secrets })),
                common,
            )
        }
        CreateOne::ServiceBroker(broker) => {
            let document = services::broker(&broker)?;
            (Kind::ServiceBroker, document, broker.common)
        }
        CreateOne::ServiceInstance(instance) => {
            let document = services::instance(&instance)?;
            (Kind::ServiceInstance, document, instance.common)
        }
        CreateOne::ServiceBinding(binding) => {
            let document = services::binding(&binding)?;
            (Kind::ServiceBinding, document, binding.common)
        }
        CreateOne::Api(api) => self::api(api),
        CreateOne::Schedule(schedule) => super::schedule::create(schedule)?,
        CreateOne::Application { name } => (
            Kind::Application,
            map(json!({ "name": name })),
            Common::default(),
        ),
        CreateOne::Organization { name } => (
            Kind::Organization,
            map(json!({ "name": name })),
            Common::default(),
        ),
    })
}

/// Both generations: `IMAGE NAME FILE`, and `NAME PATH --image IMAGE`.
pub(super) async fn function(
    connection: &Connection,
    function: FunctionWords,
) -> Result<(Kind, Map<String, Value>, Common)> {
    let FunctionWords {
        words,
        flags,
        common,
    } = function;
    let (image, name, path) = match (&words[..], &flags.image) {
        ([name, path], Some(image)) => (image, name, path),
        ([image, name, path], None) => (image, name, path),
        ([_, _, _], Some(_)) => bail!("IMAGE is said twice; leave out --image or the first word"),
        _ => bail!("say NAME PATH --image IMAGE, or IMAGE NAME FILE"),
    };
    let fields = function_fields(connection, name, image, Path::new(path), &flags).await?;
    Ok((Kind::Function, fields, common))
}

/// The document of a function.
pub(super) async fn function_fields(
    connection: &Connection,
    name: &str,
    image: &str,
    path: &Path,
    flags: &FunctionFlags,
) -> Result<Map<String, Value>> {
    services::uses(&flags.service)?;
    if path.is_dir() && flags.handler.is_none() {
        bail!(
            "error creating function {name}: handler is required, source path {} is a directory",
            path.display()
        );
    }
    let mut document = json!({
        "name": name,
        "image": image,
        "source": source::read(connection, path).await?,
        "handler": flags.handler.as_deref().unwrap_or_default(),
        "secrets": flags.secret,
        "services": flags.service,
        "timeout": flags.timeout.unwrap_or(0),
        "schema": {},
    });
    if let Some(network) = &flags.network {
        document["network"] = json!(network);
    }
    if let Some(file) = &flags.schema_in {
        document["schema"]["in"] = json_file(file)?;
    }
    if let Some(file) = &flags.schema_out {
        document["schema"]["out"] = json_file(file)?;
    }
    let mut fields = map(document);
    flags.policy.put(&mut fields);
    Ok(fields)
}

fn api(api: CreateApi) -> (Kind, Map<String, Value>, Common) {
    let protocols = if api.https_only {
        vec!["https"]
    } else {
        vec!["http", "https"]
    };
    let document = json!({
        "name": api.name,
        "function": api.function,
        "authentication": api.auth,
        "cors": api.cors,
        "record": !api.no_record,
        "enabled": !api.disable,
        "hosts": api.domain,
        "methods": api.method,
        "protocols": protocols,
        "uris": api.path,
    });
    (Kind::API, map(document), api.common)
}

fn json_file(file: &Path) -> Result<Value> {
    let text = text(file)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}
