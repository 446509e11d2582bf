//! The credentials of a function's services as files, for programs that look for them under
//! `$SERVICE_BINDING_ROOT` (servicebinding.io, sections Application Projection and Well-known Secret
//! Entries): `<binding>/<key>`, with `type` and `provider` beside the credentials.

use adapter_kit::ServiceFacts;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::packs::source::File;

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 253;

/// The files of one call.
pub(crate) struct Bindings {
    files: Vec<File>,
    digest: Vec<u8>,
}

impl Bindings {
    /// The files of `bindings`, a map of maps of strings, whose services `facts` tells of.
    pub(crate) fn new(bindings: &Value, facts: &[ServiceFacts]) -> Self {
        let mut files = Vec::new();
        let all = bindings.as_object().into_iter().flatten();
        for (name, credentials) in all.filter(|(name, _)| is_file_name(name)) {
            let Value::Object(entries) = credentials else {
                continue;
            };
            let facts = facts.iter().find(|facts| facts.name.as_str() == name);
            let said = facts.into_iter().flat_map(|facts| {
                [
                    ("type", facts.class.as_str()),
                    ("provider", facts.provider.as_str()),
                ]
            });
            // What the credentials themselves say of it goes first.
            for (key, value) in said.filter(|(key, _)| !entries.contains_key(*key)) {
                files.push(File(format!("{name}/{key}"), value.to_owned(), false));
            }
            for (key, value) in entries.iter().filter(|(key, _)| is_file_name(key)) {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                files.push(File(format!("{name}/{key}"), text, false));
            }
        }
        let digest = digest(&files);
        Self { files, digest }
    }

    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// Equal files have equal digests; empty when there are none.
    pub(crate) fn digest(&self) -> &Vec<u8> {
        &self.digest
    }
}

fn digest(files: &[File]) -> Vec<u8> {
    if files.is_empty() {
        return Vec::new();
    }
    let text = serde_json::to_vec(files).expect("strings always serialise");
    Sha256::digest(text).to_vec()
}

/// A key of credentials that is no name of a file is left out.
fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(bindings: &Bindings) -> Vec<String> {
        let text = serde_json::to_value(bindings.files()).expect("it serialises");
        let files = text.as_array().expect("a list").clone();
        files
            .iter()
            .map(|file| file[0].as_str().expect("a path").to_owned())
            .collect()
    }

    #[test]
    fn credentials_are_files_beside_type_and_provider_and_no_key_leads_out_of_the_folder() {
        let facts = [ServiceFacts {
            name: engine_model::Name::new("pg").expect("a name"),
            class: "postgresql".into(),
            provider: "local".into(),
        }];
        let given =
            json!({"pg": {"host": "db", "../x": "1", "a/b": "2", "": "3", "provider": "own"}});
        let bindings = Bindings::new(&given, &facts);
        assert_eq!(paths(&bindings), ["pg/type", "pg/host", "pg/provider"]);
        let other = json!({"pg": {"host": "other"}});
        assert_ne!(Bindings::new(&other, &facts).digest(), bindings.digest());
        assert!(Bindings::new(&Value::Null, &facts).digest().is_empty());
    }
}
