//! `dispatch install`: keys, credentials, a server configuration, and the client's.

use std::fs;
use std::path::{self, Path};

use adapter_vault::MasterKeys;
use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::json;

use super::home::Home;
use super::settings::Settings;
use crate::args::{Global, Install};
use crate::config::{ClientConfig, write_private};
use crate::exit::Exit;
use crate::output::{note, print};

/// Users of the embedded NATS server: the engine does everything, clients only what people may.
pub(super) const NATS_USERS: [&str; 2] = ["engine", "client"];

/// Characters of a drawn password or token: 6 bits each, 240 in all.
const DRAWN_CHARS: usize = 40;

/// Makes what is missing; what is there stays.
pub(crate) async fn install(global: &Global, install: Install) -> Result<Exit> {
    let home = Home::open(install.destination)?;
    let settings = match &install.file {
        Some(file) => Settings::read(file)?,
        None => Settings::default(),
    };
    if install.dry_run {
        let done = if home.settings().exists() {
            "replaced"
        } else {
            "made"
        };
        print(&format!(
            "Data directory: {}\nServer configuration: {} would be {done}\n",
            home.path().display(),
            home.settings().display()
        ))?;
        return Ok(Exit::Done);
    }
    prepare(&home, Some(&settings))?;
    let config = global.config.clone().unwrap_or_else(|| home.config());
    client_config(&home, &settings)?.write(&config)?;
    print(&format!("Data directory: {}\n", home.path().display()))?;
    print(&format!("Organization: {}\n", settings.organization))?;
    print(&format!("Service account: {}\n", settings.service_account))?;
    print(&format!("Config file written to: {}\n", config.display()))?;
    Ok(Exit::Done)
}

/// Makes keys, credentials and the server configuration, each unless it is there. `settings`
/// replaces a configuration that is there.
pub(super) fn prepare(home: &Home, settings: Option<&Settings>) -> Result<Settings> {
    let file = home.settings();
    let settings = match settings {
        Some(settings) => settings.clone(),
        None if file.exists() => return finish(home, Settings::read(&file)?),
        None => {
            note(&format!(
                "Nothing is installed in {}: using defaults",
                home.path().display()
            ));
            Settings::default()
        }
    };
    write_private(&file, serde_norway::to_string(&settings)?.as_bytes())?;
    finish(home, settings)
}

fn finish(home: &Home, settings: Settings) -> Result<Settings> {
    let master = home.master_key();
    if !master.exists() {
        fs::create_dir_all(master.parent().context("the master key has a directory")?)?;
        MasterKeys::create(&master)?;
    }
    if !home.token().exists() {
        write_private(&home.token(), draw().as_bytes())?;
    }
    for user in NATS_USERS {
        let file = home.nats_user(user);
        if !file.exists() {
            let credentials = json!({ "username": user, "password": draw() });
            write_private(&file, credentials.to_string().as_bytes())?;
        }
    }
    Ok(settings)
}

/// The client's configuration as far as it is known; `up` adds the ports.
pub(super) fn client_config(home: &Home, settings: &Settings) -> Result<ClientConfig> {
    let token = fs::read_to_string(home.token())
        .with_context(|| format!("cannot read {}", home.token().display()))?;
    Ok(ClientConfig {
        host: settings.host.to_string(),
        port: settings.rest.port,
        scheme: "https".into(),
        organization: settings.organization.to_string(),
        api_https_port: settings.gateway.https_port,
        api_http_port: settings.gateway.http_port,
        service_account: settings.service_account.to_string(),
        token,
        ca_file: home
            .certificates()
            .join("gateway.crt")
            .display()
            .to_string(),
        nats_credentials: home.nats_user("client").display().to_string(),
        packs: match &settings.worker.packs {
            Some(folder) => whole(folder)?,
            None => String::new(),
        },
        ..ClientConfig::default()
    })
}

/// The folder as the server finds it from where it is started: whoever reads the client's
/// configuration takes a relative one for a neighbour of that file.
fn whole(folder: &Path) -> Result<String> {
    let whole = path::absolute(folder)
        .with_context(|| format!("cannot find the folder {}", folder.display()))?;
    Ok(whole.display().to_string())
}

/// A password that needs no quoting anywhere.
fn draw() -> String {
    let mut random = rand::rng();
    (0..DRAWN_CHARS)
        .map(|_| char::from(random.sample(rand::distr::Alphanumeric)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_of_packs_wherever_its_configuration_lies() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::open(Some(folder.path().to_owned())).expect("it opens");
        let mut settings = Settings::default();
        settings.worker.packs = Some("packs".into());
        let settings = prepare(&home, Some(&settings)).expect("it installs");
        let config = client_config(&home, &settings).expect("it is known");
        let here = std::env::current_dir().expect("there is one");
        assert_eq!(Path::new(&config.packs), here.join("packs"));
    }
}
