//! `dispatch up`: everything in one process. `dispatch serve`: the same roles on an existing NATS.

use std::path::Path;

use adapter_kit::{Commands, Submission};
use anyhow::{Context, Result, bail};
use engine_model::spec::{OrganizationSpec, ServiceAccountSpec, Spec, Tags};
use engine_model::{Actor, Code, Command, CommandId, Kind, Name, Reply, ResourceKey};
use engine_stream::{Client, Connection};
use tracing::{info, warn};

use super::home::Home;
use super::install::{client_config, prepare};
use super::nats_server::{NatsServer, find, server_options};
use super::parts::{Parts, Plan, Roles};
use super::settings::{Ports, Settings};
use super::{logs, rest, signals};
use crate::args::{Global, Serve, Up};
use crate::client::read_credentials;
use crate::config::ClientConfig;
use crate::exit::Exit;
use crate::output::print;

/// Runs all of Dispatch, with a NATS server of its own, until it is asked to end.
pub(crate) async fn up(global: &Global, up: Up) -> Result<Exit> {
    logs::start();
    let executable = find(up.nats_server)?;
    let home = Home::open(up.destination)?;
    let _lock = home.lock()?;
    let settings = prepare(&home, None)?;
    let ports = Ports::choose(&settings, &home.ports())?;
    let options = server_options(&home, settings.host, ports.nats)?;
    let server = NatsServer::start(executable, home.nats(), ports.nats, options).await?;
    let url = format!("nats://{}", settings.address(ports.nats));
    let connection = Connection::to(&url)
        .named("dispatch")
        .with_auth(read_credentials(&home.nats_user("engine"))?);
    let plan = Plan {
        home,
        settings,
        ports,
        connection,
        roles: Roles::all(),
    };
    let ended = run(global, &plan, &url).await;
    server.stop().await;
    ended
}

/// Runs roles against an existing NATS server until it is asked to end.
pub(crate) async fn serve(global: &Global, serve: Serve) -> Result<Exit> {
    logs::start();
    let roles = Roles::read(&serve.roles)?;
    let home = Home::open(serve.destination)?;
    let _lock = home.lock()?;
    let settings = prepare(&home, None)?;
    let ports = Ports::choose(&settings, &home.ports())?;
    let mut connection = Connection::to(&serve.nats_url).named("dispatch");
    if let Some(file) = &serve.nats_credentials {
        connection = connection.with_auth(read_credentials(file)?);
    }
    let url = connection.shown();
    let plan = Plan {
        home,
        settings,
        ports,
        connection,
        roles,
    };
    run(global, &plan, &url).await
}

/// Starts the parts, says where they listen, and waits for the end.
async fn run(global: &Global, plan: &Plan, url: &str) -> Result<Exit> {
    let parts = Parts::start(plan).await?;
    let failed = parts.failed();
    let started = async {
        if plan.roles.engine {
            bootstrap(&parts.client, plan).await?;
        }
        announce(global, plan, url)
    };
    let ended = match started.await {
        Ok(()) => tokio::select! {
            asked = signals::asked_to_end() => asked,
            () = failed.cancelled() => Err(anyhow::anyhow!("the node stopped; the log says why")),
        },
        Err(error) => Err(error),
    };
    let graceful = parts.drain().await;
    info!(graceful, "stopped");
    ended.map(|()| Exit::Done)
}

/// Says where everything listens, and tells the client's configuration.
fn announce(global: &Global, plan: &Plan, url: &str) -> Result<()> {
    let Plan {
        home,
        settings,
        ports,
        roles,
        ..
    } = plan;
    let config = global.config.clone().unwrap_or_else(|| home.config());
    write_client_config(&config, home, settings, *ports, url)?;
    print(&format!("NATS:     {url}\n"))?;
    if roles.rest {
        print(&format!(
            "REST:     https://{}\n",
            settings.address(ports.rest)
        ))?;
    }
    if roles.gateway {
        print(&format!(
            "Gateway:  https://{}\n",
            settings.address(ports.https)
        ))?;
        print(&format!(
            "          http://{}\n",
            settings.address(ports.http)
        ))?;
    }
    print(&format!("Config:   {}\n", config.display()))?;
    print("Dispatch is up. Stop it with Ctrl-C.\n")
}

fn write_client_config(
    file: &Path,
    home: &Home,
    settings: &Settings,
    ports: Ports,
    url: &str,
) -> Result<()> {
    let before = ClientConfig::read(file)?;
    let known = client_config(home, settings)?;
    let config = ClientConfig {
        port: ports.rest,
        api_https_port: ports.https,
        api_http_port: ports.http,
        nats_url: url.to_owned(),
        cookie: before.cookie,
        insecure: before.insecure,
        packs: match known.packs.is_empty() {
            true => before.packs, // the server has none to tell of
            false => known.packs,
        },
        ..known
    };
    config.write(file)
}

/// Founds the first organization and its service account. The commands' ids are derived, so that
/// every start sends the same ones.
async fn bootstrap(client: &Client, plan: &Plan) -> Result<()> {
    let org = &plan.settings.organization;
    let organization = Name::new(org.as_str())?;
    let found = Spec::Organization(OrganizationSpec::default());
    submit(
        client,
        ResourceKey::new(org.clone(), Kind::Organization, organization),
        found,
    )
    .await?;
    let token = std::fs::read_to_string(plan.home.token())
        .with_context(|| format!("cannot read {}", plan.home.token().display()))?;
    let account = ServiceAccountSpec {
        token_sha256: rest::hash(token.trim()),
        tags: Tags::default(),
    };
    let name = plan.settings.service_account.clone();
    let key = ResourceKey::new(org.clone(), Kind::ServiceAccount, name);
    submit(client, key, Spec::ServiceAccount(account)).await
}

async fn submit(client: &Client, key: ResourceKey, spec: Spec) -> Result<()> {
    let id = CommandId::derived(format_args!("bootstrap {key}"));
    let command = Command::Create(spec);
    let submission = Submission {
        id,
        key: key.clone(),
        command,
        actor: Actor::engine(),
    };
    match client.submit(submission).await? {
        Reply::Done { .. } => Ok(()),
        Reply::Rejected { rejection, .. } if rejection.code == Code::AlreadyExists => {
            warn!(resource = %key, "made by someone else before");
            Ok(())
        }
        Reply::Rejected { rejection, .. } => bail!("{key}: {rejection}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_of_the_client_stay_unless_the_server_has_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::open(Some(folder.path().to_owned())).expect("it opens");
        let mut settings = prepare(&home, Some(&Settings::default())).expect("it installs");
        let file = folder.path().join("config.json");
        let own = ClientConfig {
            packs: "of-the-client".into(),
            ..ClientConfig::default()
        };
        own.write(&file).expect("it is written");
        for (server, told) in [(None, "of-the-client"), (Some("/packs"), "/packs")] {
            settings.worker.packs = server.map(Into::into);
            write_client_config(&file, &home, &settings, Ports::default(), "nats://x")
                .expect("it is written");
            assert_eq!(ClientConfig::read(&file).expect("it is read").packs, told);
        }
    }
}
