//! What a request asks for.

use adapter_osb::fake::On;

/// What a request asks for, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) on: On,
    pub(super) instance: String,
    pub(super) binding: String,
    pub(super) query: Vec<(String, String)>,
}

impl Target {
    /// Reads a method, and a path with its query.
    pub(super) fn read(method: &str, target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (on, instance, binding) = match (method, &words[..]) {
            ("GET", ["v2", "catalog"]) => (On::Catalog, "", ""),
            ("PUT", ["v2", "service_instances", id]) => (On::Provision, *id, ""),
            ("PATCH", ["v2", "service_instances", id]) => (On::Update, *id, ""),
            ("DELETE", ["v2", "service_instances", id]) => (On::Deprovision, *id, ""),
            ("GET", ["v2", "service_instances", id]) => (On::FetchInstance, *id, ""),
            ("GET", ["v2", "service_instances", id, "last_operation"]) => {
                (On::PollInstance, *id, "")
            }
            (method, ["v2", "service_instances", id, "service_bindings", own]) => match method {
                "PUT" => (On::Bind, *id, *own),
                "DELETE" => (On::Unbind, *id, *own),
                "GET" => (On::FetchBinding, *id, *own),
                _ => return None,
            },
            (
                "GET",
                [
                    "v2",
                    "service_instances",
                    id,
                    "service_bindings",
                    own,
                    "last_operation",
                ],
            ) => (On::PollBinding, *id, *own),
            _ => return None,
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Some(Self {
            on,
            instance: decode(instance),
            binding: decode(binding),
            query: pairs
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        })
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let mut found = self.query.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// Undoes percent-encoding; a plus sign stands for itself.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_asked_for() {
        let path = "/v2/service_instances/i%20/service_bindings/b/last_operation?operation=a%2Bb+c";
        let read = Target::read("GET", path).expect("it is a route");
        assert_eq!(read.on, On::PollBinding);
        assert_eq!((read.instance.as_str(), read.binding.as_str()), ("i ", "b"));
        assert_eq!(read.query("operation"), Some("a+b+c"));
        assert_eq!(Target::read("POST", "/v2/catalog"), None);
        assert_eq!(Target::read("GET", "/v2/service_instances"), None);
    }
}
