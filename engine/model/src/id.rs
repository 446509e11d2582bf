//! One newtype per id. Names are parsed at the edge; inside they cannot be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Longest resource or organization name, in bytes: it must fit a subject token and a file name.
const NAME_BYTES_MAX: usize = 128;

/// Namespace of every id that is derived rather than drawn, so that a repeat derives it again.
const DERIVED: Uuid = Uuid::from_u128(0x6d15_7a7c_4f0e_5c0b_9a7e_d15b_a7c4_0001);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id that belongs to `parts`, the same each time.
            #[must_use]
            pub fn derived(parts: fmt::Arguments<'_>) -> Self {
                Self(Uuid::new_v5(&DERIVED, parts.to_string().as_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// Names one command for ever; a repeat bears the same id.
    CommandId
);
uuid_id!(
    /// Names one commit; derived from what caused it, so that a repeated append is recognised.
    CommitId
);
uuid_id!(
    /// The id that a resource shows to people; the id of the command that created it.
    ResourceId
);
uuid_id!(
    /// A service instance at its broker, and the name of the secret that holds its credentials.
    InstanceId
);
uuid_id!(
    /// One attempt to bind at the broker. A new attempt has a new id.
    BindingId
);
uuid_id!(
    /// One request to the outer world; sent as `X-Broker-API-Request-Identity`.
    RequestId
);
uuid_id!(
    /// A function, across its revisions.
    FunctionId
);
uuid_id!(
    /// One immutable revision of a function; shown as `faasId`.
    RevisionId
);
uuid_id!(
    /// One run of a function.
    RunId
);

impl BindingId {
    /// The data key that seals the credentials of this binding.
    #[must_use]
    pub fn data_key(self) -> crate::KeyId {
        crate::KeyId(format!("binding-{self}"))
    }
}

impl From<ResourceId> for InstanceId {
    fn from(id: ResourceId) -> Self {
        Self(id.0)
    }
}

impl From<ResourceId> for FunctionId {
    fn from(id: ResourceId) -> Self {
        Self(id.0)
    }
}

/// A position in a stream, from 1. Zero is before the first message.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a name: 1 to {NAME_BYTES_MAX} letters, digits, '_' or '-', \
     beginning with a letter, a digit or '_'"
)]
pub struct InvalidName {
    /// The refused text, cut to a length that can be shown.
    pub text: String,
}

fn check_name(text: &str) -> Result<(), InvalidName> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || b == b'-');
    if fits {
        Ok(())
    } else {
        Err(InvalidName {
            text: text.chars().take(80).collect(),
        })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// `InvalidName` when it does not match `^[\w\d][\w\d\-]*$` or is too long.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check_name(&text).map(|()| Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a resource, unique per organization and kind.
    Name
);
name!(
    /// The name of an organization, the tenant.
    OrgName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_subject_token() {
        for good in ["a", "azure-pg", "_x", "9-lives", "A_b-C"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "-x", "a.b", "a b", "a*", "a>", "ä", long.as_str()] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_does_not_deserialize() {
        assert!(serde_json::from_str::<Name>("\"a.b\"").is_err());
    }

    #[test]
    fn a_derived_id_is_the_same_each_time() {
        let one = RequestId::derived(format_args!("{}-{}", 7, 1));
        assert_eq!(one, RequestId::derived(format_args!("7-1")));
        assert_ne!(one, RequestId::derived(format_args!("7-2")));
    }
}
