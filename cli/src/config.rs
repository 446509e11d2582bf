//! The client's configuration file, with the keys that Dispatch's always had and what NATS needs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How to reach a Dispatch. It is written with mode 0600, because it holds a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Where the REST API listens.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `https` or `http`.
    pub scheme: String,
    /// The organization to work in.
    pub organization: String,
    /// A session cookie; kept as found.
    pub cookie: String,
    /// Whether the server's certificate is taken unchecked.
    pub insecure: bool,
    /// Where the gateway serves HTTPS.
    #[serde(rename = "api-https-port")]
    pub api_https_port: u16,
    /// Where the gateway serves HTTP.
    #[serde(rename = "api-http-port")]
    pub api_http_port: u16,
    /// The service account that the token belongs to.
    #[serde(rename = "serviceAccount", skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// The bearer token for the REST API.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// A PEM file with the REST API's certificate authority.
    #[serde(rename = "ca-file", skip_serializing_if = "String::is_empty")]
    pub ca_file: String,
    /// Where NATS listens, such as `nats://127.0.0.1:4222`; empty to use REST only.
    #[serde(rename = "nats-url", skip_serializing_if = "String::is_empty")]
    pub nats_url: String,
    /// A 0600 file with `{"username":…,"password":…}` for NATS.
    #[serde(rename = "nats-credentials", skip_serializing_if = "String::is_empty")]
    pub nats_credentials: String,
    /// A folder with more language packs, of which the templates and the sources are known then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub packs: String,
}

impl ClientConfig {
    /// Reads a configuration file; one that is not there is empty.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a configuration file", path.display()))
    }

    /// Writes the file, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_private(
            path,
            format!("{}\n", serde_json::to_string_pretty(self)?).as_bytes(),
        )
    }
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(what)?;
    }
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&partial).with_context(what)?;
    file.write_all(bytes).with_context(what)?;
    file.sync_all().with_context(what)?;
    fs::rename(&partial, path).with_context(what)
}

/// `~/.dispatch`, or what `DISPATCH_HOME` says.
///
/// # Errors
/// When neither `DISPATCH_HOME` nor `HOME` is set.
pub fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("DISPATCH_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = std::env::var_os("HOME").context("neither DISPATCH_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".dispatch"))
}
