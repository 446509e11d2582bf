//! The configuration files of a dedicated server.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::firewall;
use crate::certificates::ADMIN_ROLE;
use crate::record::{Backing, Spec};

/// What keeps a server light. A plan may override these.
const DEFAULTS: &[(&str, &str)] = &[
    ("shared_buffers", "16MB"),
    ("min_wal_size", "16MB"),
    ("max_wal_size", "128MB"),
    // No replica is ever attached: less log, and fewer processes.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("jit", "off"),
    ("autovacuum_max_workers", "1"),
];

/// What a server listens on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Endpoint {
    pub(super) listen: IpAddr,
    pub(super) port: u16,
}

/// postgresql.conf. What the broker relies on comes last, because the last line of a name wins.
pub(super) fn postgresql(cluster: &str, endpoint: Endpoint, backing: &Backing) -> String {
    let mut text = String::from("# Written by the broker at each start; changes are lost.\n");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name} = '{}'", value.replace('\'', "''"))
            .expect("a String takes what is written to it");
    };
    for (name, value) in DEFAULTS {
        line(name, value);
    }
    if let Backing::Dedicated {
        connections_max,
        settings,
        ..
    } = backing
    {
        let settings: BTreeMap<_, _> = settings.iter().collect();
        for (name, value) in settings {
            line(name, &value.to_string());
        }
        // The broker's own connections must find room when clients have taken all of theirs.
        line("superuser_reserved_connections", "3");
        line("max_connections", &(connections_max + 3).to_string());
    }
    line("listen_addresses", &endpoint.listen.to_string());
    line("port", &endpoint.port.to_string());
    line("unix_socket_directories", "");
    line("ssl", "on");
    line("ssl_cert_file", "server.crt");
    line("ssl_key_file", "server.key");
    line("ssl_ca_file", "ca.crt");
    line("password_encryption", "scram-sha-256");
    line("cluster_name", cluster);
    line("logging_collector", "off");
    line("log_destination", "stderr");
    // Statements of clients may hold secrets.
    line("log_min_error_statement", "panic");
    line("log_statement", "none");
    text
}

/// pg_hba.conf: the broker by its certificate, everyone else by password from where the firewall
/// rules allow it, nobody without TLS.
pub(super) fn hba(spec: &Spec) -> String {
    let mut text = format!("hostssl all {ADMIN_ROLE} all cert\n");
    let from = firewall::prefixes(&spec.parameters).unwrap_or_else(|| vec!["all".to_owned()]);
    for prefix in from {
        writeln!(text, "hostssl all all {prefix} scram-sha-256")
            .expect("a String takes what is written to it");
    }
    text
}

/// Whether the configuration asks for files to be durable.
pub(super) fn is_durable(backing: &Backing) -> bool {
    match backing {
        Backing::Shared { .. } => true,
        Backing::Dedicated { settings, .. } => settings
            .get("fsync")
            .is_none_or(|value| value.to_string() != "off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Setting;

    #[test]
    fn a_plan_overrides_defaults_but_not_what_the_broker_relies_on() {
        let settings = [
            ("shared_buffers", "64MB"),
            ("ssl", "off"),
            ("search_path", "a'b"),
        ]
        .map(|(name, value)| (name.to_owned(), Setting::Text(value.to_owned())));
        let backing = Backing::Dedicated {
            connections_max: 7,
            settings: settings.into(),
            extensions: Vec::new(),
        };
        let endpoint = Endpoint {
            listen: "127.0.0.1".parse().unwrap(),
            port: 5,
        };
        let text = postgresql("c", endpoint, &backing);
        let last = |name: &str| {
            let start = format!("{name} = ");
            text.lines()
                .rfind(|line| line.starts_with(&start))
                .unwrap()
                .to_owned()
        };
        assert_eq!(last("shared_buffers"), "shared_buffers = '64MB'");
        assert_eq!(last("ssl"), "ssl = 'on'");
        assert_eq!(last("search_path"), "search_path = 'a''b'");
        assert_eq!(last("max_connections"), "max_connections = '10'");
    }
}
