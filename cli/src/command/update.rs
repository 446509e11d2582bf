//! `dispatch update`: one resource, of which only what is given changes, or all of a file's.

use anyhow::{Result, bail, ensure};
use engine_model::{Command, Kind, Name, Seq};
use serde_json::{Map, Value, json};

use super::{batch, create, services, wait};
use crate::args::{
    Batch, BrokerAccess, Common, FunctionFlags, FunctionWords, Global, Update, UpdateOne,
    UpdateServiceBroker, UpdateServiceInstance,
};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, note, print};

type Fields = Map<String, Value>;

/// Changes one resource, or replaces all of a file's.
pub(super) async fn run(connection: &Connection, global: &Global, update: Update) -> Result<Exit> {
    let (kind, fields, common) = match update.one {
        Some(UpdateOne::Function(function)) => self::function(connection, function).await?,
        Some(UpdateOne::ServiceBroker(broker)) => self::broker(connection, broker).await?,
        Some(UpdateOne::ServiceInstance(instance)) => self::instance(connection, instance).await?,
        Some(UpdateOne::Schedule(schedule)) => {
            super::schedule::update(connection, schedule).await?
        }
        None => {
            let Some(file) = update.batch.file else {
                bail!("say what to update, or -f FILE; 'dispatch update --help' lists the kinds");
            };
            let batch = Batch {
                file,
                work_dir: update.batch.work_dir,
                application: update.batch.application,
            };
            return batch::apply(connection, global, batch, batch::Wish::Update).await;
        }
    };
    change(connection, global, kind, fields, &common).await
}

async fn change(
    connection: &Connection,
    global: &Global,
    kind: Kind,
    mut fields: Fields,
    common: &Common,
) -> Result<Exit> {
    create::mark(&mut fields, common)?;
    let name = fields
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let key = connection.key(kind, &name)?;
    let spec = batch::read(connection, kind, fields).await?;
    let seq = connection
        .submit(key.clone(), Command::Update(spec))
        .await?;
    let (document, mut exit) = if common.wait {
        wait::until_settled(connection, global, &key, seq).await?
    } else {
        (connection.one(kind, &key.name, seq).await?, Exit::Done)
    };
    // What failed is the update: the instance may be READY as it was.
    if common.wait && document["update"]["state"] == "failed" {
        exit = Exit::EndedInError;
    }
    if global.format() != Format::Table {
        super::get::show(global, kind, vec![document], true)?;
        return Ok(exit);
    }
    let doing = match exit {
        Exit::Done if common.wait || document["update"].is_null() => "Updated",
        _ => "Updating",
    };
    print(&format!("{doing} {}: {name}\n", kind.token()))?;
    if exit == Exit::EndedInError {
        for reason in document["reason"].as_array().into_iter().flatten() {
            note(&format!("dispatch: {}", reason.as_str().unwrap_or("ERROR")));
        }
    }
    Ok(exit)
}

/// The document as it is, to be changed.
pub(super) async fn present(connection: &Connection, kind: Kind, name: &str) -> Result<Fields> {
    let document = connection.one(kind, &Name::new(name)?, Seq(0)).await?;
    Ok(services::map(document))
}

async fn function(
    connection: &Connection,
    mut function: FunctionWords,
) -> Result<(Kind, Fields, Common)> {
    let given = function.flags.clone();
    let name = match &function.words[..] {
        [name, _] => name,
        [_, name, ..] => name,
        _ => bail!("say NAME PATH"),
    };
    let known = present(connection, Kind::Function, name).await?;
    let flags = &mut function.flags;
    if function.words.len() == 2 && flags.image.is_none() {
        flags.image = known["image"].as_str().map(str::to_owned);
    }
    if flags.handler.is_none() {
        flags.handler = known["handler"].as_str().map(str::to_owned);
    }
    let (kind, mut fields, common) = create::function(connection, function).await?;
    keep(&mut fields, &known, &given);
    Ok((kind, fields, common))
}

/// Takes over from the document that is there what no flag gives anew.
pub(super) fn keep(fields: &mut Fields, known: &Fields, given: &FunctionFlags) {
    let stays = [
        ("handler", given.handler.is_some()),
        ("secrets", !given.secret.is_empty()),
        ("services", !given.service.is_empty()),
        ("timeout", given.timeout.is_some()),
        ("network", given.network.is_some()),
        ("memory", false),
        ("limits", false),
        ("workers", false),
        ("isolation", false),
        ("runs", false),
        ("tags", false),
    ];
    for (field, given) in stays {
        if !given && let Some(value) = known.get(field) {
            fields.insert(field.into(), value.clone());
        }
    }
    given.policy.put(fields);
    let schemas = [
        ("in", given.schema_in.is_some()),
        ("out", given.schema_out.is_some()),
    ];
    for (side, given) in schemas {
        if !given && let Some(schema) = known["schema"].get(side) {
            fields["schema"][side] = schema.clone();
        }
    }
}

async fn broker(
    connection: &Connection,
    broker: UpdateServiceBroker,
) -> Result<(Kind, Fields, Common)> {
    let BrokerAccess {
        username,
        token_file,
        client_certificate,
        ..
    } = &broker.access;
    let given = username.is_some() || token_file.is_some() || client_certificate.is_some();
    ensure!(
        given || broker.no_credentials,
        "credentials are sealed and cannot be read back: give those of '{}' again with --username \
         and --password-file, --token-file, or --client-certificate and --client-key; or say \
         --no-credentials for a broker that asks for none",
        broker.name
    );
    let mut fields = present(connection, Kind::ServiceBroker, &broker.name).await?;
    if let Some(url) = broker.url {
        fields.insert("url".into(), json!(url));
    }
    services::access(&mut fields, &broker.access)?;
    Ok((Kind::ServiceBroker, fields, broker.common))
}

async fn instance(
    connection: &Connection,
    instance: UpdateServiceInstance,
) -> Result<(Kind, Fields, Common)> {
    let UpdateServiceInstance {
        name,
        plan,
        parameters,
        upgrade,
        maintenance_version,
        common,
    } = instance;
    let parameters_given = services::parameters(&parameters)?;
    let version_given = upgrade || maintenance_version.is_some();
    let nothing = plan.is_none()
        && parameters_given.is_null()
        && parameters.secret.is_empty()
        && !version_given
        && common.tags.is_empty()
        && common.application.is_none();
    ensure!(
        !nothing,
        "say what to change of '{name}': --plan, --params, --secret-params, --upgrade, \
         --maintenance-version or --tag"
    );
    let mut fields = present(connection, Kind::ServiceInstance, &name).await?;
    if let Some(plan) = plan {
        fields.insert("servicePlan".into(), json!(plan));
    }
    fields.insert("parameters".into(), parameters_given);
    fields.insert("secretParameters".into(), json!(parameters.secret));
    let version = match maintenance_version {
        Some(version) => version,
        None if upgrade => newest(connection, &fields).await?,
        None => String::new(),
    };
    fields.insert("maintenanceVersion".into(), json!(version));
    Ok((Kind::ServiceInstance, fields, common))
}

/// The maintenance version that the plan offers, if that is another one than it has.
async fn newest(connection: &Connection, fields: &Fields) -> Result<String> {
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or("");
    let (class, plan) = (text("serviceClass"), text("servicePlan"));
    let document = connection
        .one(Kind::ServiceClass, &Name::new(class)?, Seq(0))
        .await?;
    let plans = document["plans"].as_array().into_iter().flatten();
    let offered = plans
        .filter(|of| of["name"] == plan)
        .min_by_key(|of| of["gone"] == true)
        .and_then(|of| of["maintenanceVersion"].as_str());
    match offered {
        None => bail!("there is nothing to upgrade to: plan {plan} has no maintenance versions"),
        Some(version) if version == text("maintenanceVersion") => {
            bail!("there is nothing to upgrade to: it has version {version}, as plan {plan} offers")
        }
        Some(version) => Ok(version.to_owned()),
    }
}
