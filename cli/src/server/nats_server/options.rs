//! The configuration of the embedded NATS server.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, bail};
use engine_stream::{Auth, Permissions, User as Kind, permissions};

use crate::client::read_credentials;
use crate::server::home::Home;
use crate::server::install::NATS_USERS;

/// A user of the server, and what it may do.
pub(crate) struct User {
    name: String,
    password: String,
    permissions: Permissions,
}

/// What the server is told.
pub(crate) struct Options {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) users: Vec<User>,
}

/// The options of the server of a data directory.
pub(crate) fn server_options(home: &Home, host: IpAddr, port: u16) -> Result<Options> {
    let mut users = Vec::new();
    for (user, kind) in NATS_USERS.iter().zip([Kind::Engine, Kind::Client]) {
        let Auth::Password {
            user: name,
            password,
        } = read_credentials(&home.nats_user(user))?
        else {
            bail!("the embedded server knows passwords only");
        };
        users.push(User {
            name,
            password,
            permissions: permissions(kind),
        });
    }
    Ok(Options { host, port, users })
}

impl Options {
    /// The configuration file. `sync_interval: always`, because a commit drives the outer world.
    pub(super) fn render(&self, directory: &Path) -> String {
        let store = directory.join("jetstream");
        let mut text = format!(
            "server_name: dispatch\nlisten: {}\nmax_payload: 1MB\nmax_connections: 4096\n\
             lame_duck_grace_period: 100ms\n\
             jetstream {{\n  store_dir: {}\n  sync_interval: always\n}}\n\
             authorization {{\n  timeout: 5\n  users: [\n",
            quote(&std::net::SocketAddr::new(self.host, self.port).to_string()),
            quote(&store.display().to_string()),
        );
        for user in &self.users {
            let _ = writeln!(
                text,
                "    {{\n      user: {}\n      password: {}\n      permissions: {{\n        \
                 publish: {{ allow: {} }}\n        subscribe: {{ allow: {} }}\n      }}\n    }}",
                quote(&user.name),
                quote(&user.password),
                list(&user.permissions.publish),
                list(&user.permissions.subscribe),
            );
        }
        text.push_str("  ]\n}\n");
        text
    }
}

fn list(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects.iter().map(|subject| quote(subject)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A JSON string is a string of this configuration language too.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
