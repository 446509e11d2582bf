//! The hosts and ports that a binding names: what a function must be able to reach.

use std::collections::BTreeSet;

use engine_model::broker::Endpoint;
use serde_json::{Map, Value};

use crate::wire::{Binding, NetworkEndpoint, Protocol};

/// More addresses than this make no useful rule.
const ENDPOINTS_MAX: usize = 64;

/// Credentials nested deeper than this hold no addresses that are looked for.
const DEPTH_MAX: usize = 4;

/// The broker's own list when it gives one, which then is complete; what the credentials say
/// otherwise.
pub(super) fn of(binding: &Binding) -> Vec<Endpoint> {
    let mut found = BTreeSet::new();
    if binding.endpoints.is_empty() {
        if let Some(credentials) = &binding.credentials {
            object(credentials.reveal(), 0, &mut found);
        }
    } else {
        binding
            .endpoints
            .iter()
            .for_each(|endpoint| listed(endpoint, &mut found));
    }
    found.into_iter().take(ENDPOINTS_MAX).collect()
}

fn listed(endpoint: &NetworkEndpoint, found: &mut BTreeSet<Endpoint>) {
    if endpoint.protocol == Protocol::Udp {
        return;
    }
    for ports in &endpoint.ports {
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>())
        else {
            continue;
        };
        for port in (first..=last).take(ENDPOINTS_MAX) {
            found.insert(Endpoint {
                host: endpoint.host.clone(),
                port,
            });
        }
    }
}

fn object(fields: &Map<String, Value>, depth: usize, found: &mut BTreeSet<Endpoint>) {
    let host = ["host", "hostname", "ip", "address", "server"]
        .iter()
        .find_map(|name| fields.get(*name).and_then(Value::as_str));
    if let (Some(host), Some(port)) = (host, fields.get("port").and_then(port))
        && !host.is_empty()
    {
        found.insert(Endpoint {
            host: host.to_owned(),
            port,
        });
    }
    for value in fields.values() {
        inside(value, depth, found);
    }
}

fn inside(value: &Value, depth: usize, found: &mut BTreeSet<Endpoint>) {
    match value {
        Value::String(text) => uri(text, found),
        Value::Object(fields) if depth < DEPTH_MAX => object(fields, depth + 1, found),
        Value::Array(values) if depth < DEPTH_MAX => {
            values
                .iter()
                .for_each(|value| inside(value, depth + 1, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_) => {}
    }
}

fn port(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|port| *port != 0)
}

/// Reads `scheme://user:password@host:port,host:port/…`, the form of databases with several
/// hosts, which is not quite a URL.
fn uri(text: &str, found: &mut BTreeSet<Endpoint>) {
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    // `jdbc:postgresql://…`
    let scheme = scheme.rsplit(':').next().unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    for host in hosts.split(',') {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, usual_port(scheme)),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if let (false, Some(port)) = (name.is_empty(), port) {
            found.insert(Endpoint {
                host: name.to_owned(),
                port,
            });
        }
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        "postgres" | "postgresql" => 5432,
        "mysql" | "mariadb" => 3306,
        "mongodb" => 27017,
        "redis" => 6379,
        "rediss" => 6380,
        "amqp" => 5672,
        "amqps" => 5671,
        "nats" => 4222,
        "kafka" => 9092,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Message as _;

    fn found(body: Value) -> Vec<String> {
        let Value::Object(object) = body else {
            panic!("not an object")
        };
        let binding = Binding::read(object).unwrap();
        of(&binding)
            .iter()
            .map(|e| format!("{}:{}", e.host, e.port))
            .collect()
    }

    #[test]
    fn credentials_name_their_addresses_in_many_ways() {
        let cases = [
            (
                json!({"host": "db", "port": 5432, "uri": "postgres://u:p@db:5432/x"}),
                vec!["db:5432"],
            ),
            (json!({"hostname": "db", "port": "6000"}), vec!["db:6000"]),
            (json!({"uri": "postgresql://u:p%40@db/x"}), vec!["db:5432"]),
            (
                json!({"jdbcUrl": "jdbc:mysql://db/x?user=u"}),
                vec!["db:3306"],
            ),
            (
                json!({"uri": "mongodb://u:p@a:1,b:2,c/x"}),
                vec!["a:1", "b:2", "c:27017"],
            ),
            (
                json!({"url": "https://[::1]:8443/", "v6": "redis://[::1]"}),
                vec!["::1:6379", "::1:8443"],
            ),
            (json!({"urls": [{"uri": "amqps://q"}]}), vec!["q:5671"]),
            (
                json!({"host": "db", "port": 0, "x": "see ://", "y": "odd://h"}),
                vec![],
            ),
            (json!({}), vec![]),
        ];
        for (credentials, expected) in cases {
            let body = json!({ "credentials": credentials });
            assert_eq!(found(body.clone()), expected, "{body}");
        }
    }

    #[test]
    fn the_brokers_own_list_is_complete() {
        let body = json!({
            "credentials": {"host": "db", "port": 5432},
            "endpoints": [
                {"host": "a", "ports": ["443", "9000-9002", "x", "9-1"]},
                {"host": "b", "ports": ["53"], "protocol": "udp"},
                {"host": "c", "ports": ["1-65535"], "protocol": "all"},
            ],
        });
        let found = found(body);
        assert_eq!(found[..4], ["a:443", "a:9000", "a:9001", "a:9002"]);
        assert!(
            !found
                .iter()
                .any(|e| e.starts_with('b') || e.starts_with("db"))
        );
        assert_eq!(found.len(), ENDPOINTS_MAX);
    }
}
