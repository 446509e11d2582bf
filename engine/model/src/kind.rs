//! The kinds of resources, named as Dispatch has always named them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $token:literal,)+) => {
        /// A kind of resource.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// Every kind, in the order in which an organization's resources build on each other.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The kind as a subject token and a word of the command line.
            #[must_use]
            pub fn token(self) -> &'static str {
                match self { $(Self::$kind => $token,)+ }
            }

            /// The kind as documents spell it in their field `kind`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)+ }
            }

            /// Reads a subject token.
            #[must_use]
            pub fn from_token(token: &str) -> Option<Self> {
                match token { $($token => Some(Self::$kind),)+ _ => None }
            }

            /// Reads the field `kind` of a document, in any case.
            #[must_use]
            pub fn from_document(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            }
        }
    };
}

kinds! {
    /// A tenant.
    Organization => "organization",
    /// A machine's way in.
    ServiceAccount => "serviceaccount",
    /// A label for resources that belong together.
    Application => "application",
    /// An interpreter and the root that it runs in.
    BaseImage => "baseimage",
    /// A base image and a layer of dependencies.
    Image => "image",
    /// A map of secret strings.
    Secret => "secret",
    /// A broker of services.
    ServiceBroker => "servicebroker",
    /// A service that a broker offers, with its plans.
    ServiceClass => "serviceclass",
    /// An instance of a class in one of its plans.
    ServiceInstance => "serviceinstance",
    /// The credentials to use an instance.
    ServiceBinding => "servicebinding",
    /// Source, handler and image, to be run.
    Function => "function",
    /// One execution of a function.
    Run => "run",
    /// An HTTP endpoint in front of a function.
    API => "api",
    /// A function that is run again and again.
    Schedule => "schedule",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_token(kind.token()), Some(*kind));
            assert_eq!(Kind::from_document(kind.as_str()), Some(*kind));
        }
        assert_eq!(Kind::from_token("gizmo"), None);
    }
}
