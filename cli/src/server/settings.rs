//! The server's configuration: `server.yaml` in the data directory, from `install -f`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine_model::{Name, OrgName};
use engine_stream::{Durability, Replicas, RunRetention, Settings as StreamSettings};
use serde::{Deserialize, Serialize};

/// Everything that may be set; each field has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The first organization.
    pub(crate) organization: OrgName,
    /// The first service account.
    pub(crate) service_account: Name,
    /// The address that everything binds to.
    pub(crate) host: IpAddr,
    /// The REST API.
    pub(crate) rest: Rest,
    /// The gateway.
    pub(crate) gateway: Gateway,
    /// The embedded NATS server, or the one that `serve` uses.
    pub(crate) nats: Nats,
    /// The run stream.
    pub(crate) runs: Runs,
    /// The workers.
    pub(crate) worker: Worker,
}

/// The REST API.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Rest {
    /// Its port; 0 takes a free one and keeps it.
    pub(crate) port: u16,
}

/// The gateway.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Gateway {
    /// Port of plain HTTP; 0 takes a free one and keeps it.
    pub(crate) http_port: u16,
    /// Port of HTTPS; 0 takes a free one and keeps it.
    pub(crate) https_port: u16,
    /// A PEM certificate chain of your own; with `key`.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key.
    pub(crate) key: Option<PathBuf>,
    /// More names for the self-signed certificate.
    pub(crate) names: Vec<String>,
}

/// NATS.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Nats {
    /// Port of the embedded server; 0 takes a free one and keeps it.
    pub(crate) port: u16,
    /// On how many servers each stream is kept: 1 or 3.
    pub(crate) replicas: Option<u8>,
}

/// The record of a schedule is moved once an hour: what came after is known from the runs alone.
const KEEP_HOURS_MIN: u64 = 2;

/// The run stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Runs {
    /// `fast` or `fsync`; docs/durability.md says what each survives.
    pub(crate) durability: RunDurability,
    /// Hours that runs are kept.
    pub(crate) keep_hours: u64,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            durability: RunDurability::Fast,
            keep_hours: 7 * 24,
        }
    }
}

/// What an acknowledged run survives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunDurability {
    /// The death of any process.
    Fast,
    /// The loss of power as well.
    Fsync,
}

/// The workers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Worker {
    /// The most workers of one function; by default 16.
    pub(crate) workers_max: Option<usize>,
    /// Runs of one organization that are carried out at once; by default as many as there are.
    pub(crate) runs_per_organization: Option<usize>,
    /// Megabytes of memory that all workers together may take; by default 2048.
    pub(crate) memory_mb: Option<u64>,
    /// A folder with more language packs, each a folder of its own.
    pub(crate) packs: Option<PathBuf>,
    /// Registries, as `HOST:PORT`, that are spoken to without encryption; this machine always is.
    pub(crate) insecure_registries: Vec<String>,
    /// The file with the registries' credentials, as `docker login` writes it; by default its own.
    pub(crate) registry_credentials: Option<PathBuf>,
    /// Folders below which base images that are files of this node may lie; by default none.
    pub(crate) image_folders: Vec<PathBuf>,
    /// What builds of images can reach, as `HOST:PORT`; by default whatever the node can.
    pub(crate) build_hosts: Option<Vec<String>>,
    /// Interpreters by language, instead of the ones that are found.
    pub(crate) interpreters: BTreeMap<String, PathBuf>,
    /// The Python interpreter.
    pub(crate) python3: Option<PathBuf>,
    /// The Node interpreter.
    pub(crate) nodejs: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            organization: OrgName::new("dispatch").expect("it is a name"),
            service_account: Name::new("default-svc").expect("it is a name"),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rest: Rest::default(),
            gateway: Gateway::default(),
            nats: Nats::default(),
            runs: Runs::default(),
            worker: Worker::default(),
        }
    }
}

impl Settings {
    /// Reads a file; a field that is not known is refused with its name.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let settings: Self = serde_norway::from_str(&text)
            .with_context(|| format!("{} is not a server configuration", path.display()))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        if self.gateway.certificate.is_some() != self.gateway.key.is_some() {
            bail!("gateway.certificate and gateway.key go together");
        }
        if !matches!(self.nats.replicas, None | Some(1 | 3)) {
            bail!("nats.replicas is 1 or 3");
        }
        if self.runs.keep_hours < KEEP_HOURS_MIN {
            bail!(
                "runs.keepHours is {} and has to be {KEEP_HOURS_MIN} at least: a schedule looks \
                 for its last run of the past hour",
                self.runs.keep_hours
            );
        }
        Ok(())
    }

    /// What is chosen about the streams.
    pub(crate) fn streams(&self) -> StreamSettings {
        StreamSettings {
            replicas: match self.nats.replicas {
                Some(3) => Replicas::Three,
                _ => Replicas::One,
            },
            run_durability: match self.runs.durability {
                RunDurability::Fast => Durability::Fast,
                RunDurability::Fsync => Durability::Fsync,
            },
            run_retention: RunRetention {
                age: Duration::from_secs(self.runs.keep_hours.saturating_mul(3600)),
                ..RunRetention::default()
            },
            ..StreamSettings::default()
        }
    }

    /// An address to listen on.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }
}

/// Ports in use: those of the settings, and for each 0 a free one that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ports {
    pub(crate) nats: u16,
    pub(crate) rest: u16,
    pub(crate) http: u16,
    pub(crate) https: u16,
}

impl Ports {
    /// Chooses the ports. One that was kept and is taken by another process now is chosen anew.
    pub(crate) fn choose(settings: &Settings, kept: &Path) -> Result<Self> {
        let before: Self = match fs::read(kept) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Self::default(),
        };
        let mut held = Vec::new();
        let mut pick = |wished: u16, before: u16| -> Result<u16> {
            if wished != 0 {
                return Ok(wished);
            }
            let kept = (before != 0).then(|| TcpListener::bind(settings.address(before)).ok());
            let listener = match kept.flatten() {
                Some(listener) => listener,
                None => TcpListener::bind(settings.address(0)).context("no port is free")?,
            };
            let port = listener.local_addr()?.port();
            // Held until all are chosen, so that no two are the same.
            held.push(listener);
            Ok(port)
        };
        let ports = Self {
            nats: pick(settings.nats.port, before.nats)?,
            rest: pick(settings.rest.port, before.rest)?,
            http: pick(settings.gateway.http_port, before.http)?,
            https: pick(settings.gateway.https_port, before.https)?,
        };
        crate::config::write_private(kept, &serde_json::to_vec(&ports)?)?;
        Ok(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let settings: Settings = serde_norway::from_str("{}").unwrap();
        assert_eq!(settings.organization.as_str(), "dispatch");
        assert!(settings.host.is_loopback());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_norway::from_str::<Settings>("colour: red").unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn runs_are_kept_for_as_long_as_schedules_look_back() {
        let mut settings = Settings::default();
        assert!(settings.check().is_ok());
        settings.runs.keep_hours = 1;
        let error = settings.check().unwrap_err();
        assert!(error.to_string().contains("runs.keepHours"), "{error}");
    }

    #[test]
    fn chosen_ports_differ_and_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("ports.json");
        let first = Ports::choose(&Settings::default(), &kept).unwrap();
        let all = [first.nats, first.rest, first.http, first.https];
        assert!(
            (0..4).all(|i| !all[i + 1..].contains(&all[i]) && all[i] != 0),
            "{first:?}"
        );
        assert_eq!(Ports::choose(&Settings::default(), &kept).unwrap(), first);
    }
}
