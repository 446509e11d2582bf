//! What a binding brings besides credentials, without what could be a secret.

use engine_model::broker::BoundExtras;
use serde_json::{Map, Value};
use url::Url;

use crate::wire::{Binding, Hidden};

/// More mounts than this are not kept.
const MOUNTS_MAX: usize = 16;

/// The longest word of a mount that is kept.
const WORD_CHARS_MAX: usize = 512;

pub(super) fn of(binding: &Binding) -> BoundExtras {
    let address = |url: &Option<Hidden<String>>| url.as_ref().and_then(|url| bare(url.reveal()));
    BoundExtras {
        syslog_drain_url: address(&binding.syslog_drain_url),
        route_service_url: address(&binding.route_service_url),
        volume_mounts: binding
            .volume_mounts
            .iter()
            .filter_map(mount)
            .take(MOUNTS_MAX)
            .collect(),
    }
}

/// An address without user, password, query and fragment, any of which may hold a token. What is
/// no URL may hold one anywhere.
fn bare(text: &str) -> Option<String> {
    let mut url: Url = text.trim().parse().ok()?;
    if !url.has_host() {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    super::translate::url(url.into())
}

/// A mount as JSON text: the words that the API knows, and of the device its name. Its
/// configuration, and what else a broker may add, can hold passwords.
fn mount(mount: &Value) -> Option<String> {
    let mut kept = words(mount, &["driver", "container_dir", "mode", "device_type"]);
    let device = words(mount.get("device")?, &["volume_id"]);
    kept.insert("device".to_owned(), Value::Object(device));
    Some(Value::Object(kept).to_string())
}

fn words(object: &Value, names: &[&str]) -> Map<String, Value> {
    let word = |name: &&str| {
        let text = object.get(*name)?.as_str()?;
        let kept: String = text.chars().take(WORD_CHARS_MAX).collect();
        Some(((*name).to_owned(), Value::from(kept)))
    };
    names.iter().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Message as _;

    fn found(body: Value) -> BoundExtras {
        let Value::Object(object) = body else {
            panic!("not an object")
        };
        of(&Binding::read(object).unwrap())
    }

    #[test]
    fn addresses_are_kept_without_anything_that_could_be_a_secret() {
        let extras = found(json!({
            "syslog_drain_url": "syslog-tls://canary:canary@logs.example:6514/in?token=canary#canary",
            "route_service_url": "https://canary@route.example/x?y=canary",
        }));
        assert_eq!(
            extras.syslog_drain_url.as_deref(),
            Some("syslog-tls://logs.example:6514/in")
        );
        assert_eq!(
            extras.route_service_url.as_deref(),
            Some("https://route.example/x")
        );
        let odd = found(json!({
            "syslog_drain_url": "canary", "route_service_url": "mailto:canary",
        }));
        assert!(odd.is_empty(), "{odd:?}");
        assert!(found(json!({"credentials": {}})).is_empty());
    }

    #[test]
    fn mounts_are_kept_as_json_without_their_configuration() {
        let extras = found(json!({"volume_mounts": [
            {"driver": "cephdriver", "container_dir": "/data", "mode": "r", "device_type": "shared",
             "device": {"volume_id": "v1", "mount_config": {"key": "canary"}},
             "vendor:password": "canary"},
            "canary",
        ]}));
        let [mount] = &extras.volume_mounts[..] else {
            panic!("{extras:?}")
        };
        let mount: Value = serde_json::from_str(mount).unwrap();
        let expected = json!({
            "driver": "cephdriver", "container_dir": "/data", "mode": "r",
            "device_type": "shared", "device": {"volume_id": "v1"},
        });
        assert_eq!(mount, expected);
        let many = vec![json!({"device": {"volume_id": "v"}}); 99];
        let extras = found(json!({ "volume_mounts": many }));
        assert_eq!(extras.volume_mounts.len(), MOUNTS_MAX);
    }
}
