//! The URLs of the API. Only unreserved characters go in as they are.

use std::fmt::Write as _;

use url::Url;

use crate::wire::{Id, Offer};

/// The path and query of a request, built piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    text: String,
    queried: bool,
}

impl Path {
    pub(crate) fn catalog() -> Self {
        Self {
            text: "/v2/catalog".to_owned(),
            queried: false,
        }
    }

    pub(crate) fn instance(instance: &Id) -> Self {
        let text = format!("/v2/service_instances/{}", encode(instance.as_str()));
        Self {
            text,
            queried: false,
        }
    }

    pub(crate) fn binding(instance: &Id, binding: &Id) -> Self {
        let mut path = Self::instance(instance);
        path.text.push_str("/service_bindings/");
        path.text.push_str(&encode(binding.as_str()));
        path
    }

    pub(crate) fn last_operation(mut self) -> Self {
        self.text.push_str("/last_operation");
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.queried { '&' } else { '?' });
        self.queried = true;
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&encode(value));
        self
    }

    pub(crate) fn offer(self, offer: &Offer) -> Self {
        self.query("service_id", &offer.service_id)
            .query("plan_id", &offer.plan_id)
    }

    pub(crate) fn incomplete(self, accepted: bool) -> Self {
        if accepted {
            self.query("accepts_incomplete", "true")
        } else {
            self
        }
    }

    pub(crate) fn operation(self, operation: Option<&str>) -> Self {
        match operation {
            Some(operation) => self.query("operation", operation),
            None => self,
        }
    }

    /// The whole URL, under the broker's base.
    pub(crate) fn under(&self, base: &Url) -> Url {
        let whole = format!("{}{}", base.as_str().trim_end_matches('/'), self.text);
        Url::parse(&whole).expect("a base URL followed by an encoded path is a URL")
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        "https://broker.example/prefix/".parse().unwrap()
    }

    #[test]
    fn a_base_path_is_kept() {
        let url = Path::catalog().under(&base());
        assert_eq!(url.as_str(), "https://broker.example/prefix/v2/catalog");
    }

    #[test]
    fn each_operation_has_its_url() {
        let (i, b) = (Id::parse("i/1").unwrap(), Id::parse("b?1").unwrap());
        let offer = Offer {
            service_id: "s&1".to_owned(),
            plan_id: "p 1".to_owned(),
        };
        let poll = Path::binding(&i, &b)
            .last_operation()
            .offer(&offer)
            .operation(Some("a+b=c"));
        assert_eq!(
            poll.under(&base()).as_str(),
            "https://broker.example/prefix/v2/service_instances/i%2F1/service_bindings/b%3F1\
             /last_operation?service_id=s%261&plan_id=p%201&operation=a%2Bb%3Dc"
        );
        let put = Path::instance(&i).incomplete(true).under(&base());
        assert_eq!(put.query(), Some("accepts_incomplete=true"));
        assert_eq!(
            Path::instance(&i).incomplete(false).under(&base()).query(),
            None
        );
    }

    proptest! {
        #[test]
        fn any_id_and_operation_come_back_unchanged(id in "\\PC{1,40}", operation in any::<String>()) {
            prop_assume!(Id::parse(&id).is_ok());
            let id = Id::parse(&id).unwrap();
            let url = Path::instance(&id).last_operation().operation(Some(&operation)).under(&base());
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 5);
            prop_assert_eq!(decode(segments[3]), id.as_str());
            let echoed = url.query().unwrap().strip_prefix("operation=").unwrap();
            prop_assert_eq!(decode(echoed), operation);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            prop_assert!(echoed.bytes().all(plain));
        }
    }

    fn decode(text: &str) -> String {
        let bytes = text.as_bytes();
        let (mut decoded, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if bytes[at] == b'%' {
                decoded.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
                at += 3;
            } else {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
        String::from_utf8(decoded).unwrap()
    }
}
