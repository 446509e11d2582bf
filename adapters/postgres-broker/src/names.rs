//! Names of databases and roles, made from ids, and how SQL quotes them.

use sha2::{Digest, Sha256};

/// The database of an instance, its owner role, and the prefix of every role of it.
///
/// Ids may be of any length and PostgreSQL cuts names at 63 bytes, so names hold digests: 80 bits
/// of each id, `dispatch_` + 20 + `_` + 20.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Names {
    pub(crate) instance_id: String,
    pub(crate) database: String,
    pub(crate) owner: String,
}

impl Names {
    pub(crate) fn of(instance_id: &str) -> Self {
        let database = format!("dispatch_{}", digest(instance_id));
        Self {
            instance_id: instance_id.to_owned(),
            owner: format!("{database}_owner"),
            database,
        }
    }

    /// The login role of a binding.
    pub(crate) fn login(&self, binding_id: &str) -> String {
        format!("{}_{}", self.database, digest(binding_id))
    }

    /// What the names of all roles of the instance begin with, and of no other's.
    pub(crate) fn role_prefix(&self) -> String {
        format!("{}_", self.database)
    }
}

fn digest(id: &str) -> String {
    Sha256::digest(id.as_bytes())
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string constant, right whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Whether an id can be a path segment and a file name: unreserved characters of RFC 3986, not
/// beginning with a dot, and at most 128 of them.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_63_bytes_and_differ_by_instance_and_binding() {
        let one = Names::of(&"x".repeat(128));
        let two = Names::of("y");
        assert!(one.login(&"b".repeat(128)).len() <= 63);
        assert_ne!(one.login("b"), two.login("b"));
        assert_ne!(one.login("b"), one.login("c"));
        assert!(one.owner.starts_with(&one.role_prefix()));
    }

    #[test]
    fn quoting_keeps_quotes_inside() {
        assert_eq!(identifier("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(literal("it's \\ ok"), "E'it''s \\\\ ok'");
    }

    #[test]
    fn ids_that_could_leave_the_directory_are_refused() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(!is_id(bad), "{bad}");
        }
        assert!(is_id("3f1b0b3e-6e7b-4f0c-8a0e-0d6b2b8f3a11"));
    }
}
