//! How to reach the server, and what may be chosen about the streams.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A delivery that is neither ended nor renewed comes again after this time, unless the settings
/// say otherwise. Short enough that a killed node's work is soon taken over; who needs longer
/// renews it, every 5 seconds at most, so that one renewal may be lost.
pub const ACK_WAIT: Duration = Duration::from_secs(12);

/// How to reach the server.
#[derive(Clone)]
pub struct Connection {
    /// One URL, or several of one cluster with commas between them.
    pub url: String,
    /// Who we are.
    pub auth: Auth,
    /// PEM certificates to trust; with it, the connection must be encrypted.
    pub ca: Option<PathBuf>,
    /// The connection's name, shown by the server's monitoring.
    pub name: String,
    /// For how long the first connection is tried. A lost one is tried for ever.
    pub patience: Duration,
}

impl Connection {
    /// To `url`, without credentials.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: Auth::None,
            ca: None,
            name: "dispatch".into(),
            patience: Duration::from_secs(10),
        }
    }

    /// The same, with these credentials.
    #[must_use]
    pub fn with_auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// The same, under this name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The URL as it may be shown: what stands before an `@` is left out.
    #[must_use]
    pub fn shown(&self) -> String {
        let host = |url: &str| match url.rsplit_once('@') {
            Some((before, host)) => match before.split_once("://") {
                Some((scheme, _)) => format!("{scheme}://{host}"),
                None => host.to_owned(),
            },
            None => url.to_owned(),
        };
        self.url.split(',').map(host).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.shown())
            .field("auth", &self.auth)
            .field("ca", &self.ca)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Credentials; never shown.
#[derive(Clone, Default)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// The seed of an nkey.
    Nkey(String),
    /// A credentials file, as `nsc` writes it.
    Credentials(PathBuf),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::Nkey(_) => f.write_str("Nkey(hidden)"),
            Self::Credentials(path) => write!(f, "Credentials({})", path.display()),
        }
    }
}

/// On how many servers each stream is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replicas {
    /// One server.
    #[default]
    One,
    /// A cluster; one server may be away.
    Three,
}

impl Replicas {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

/// What an acknowledged message of the run stream survives on a single server. Replicated, both
/// mean that a majority of the servers has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The death of the server's process in nearly all cases; a power cut loses what the
    /// operating system had not yet written, at most the last moments. A run that is lost so was
    /// either never started or is never seen to end; its sender is told nothing and may repeat it.
    #[default]
    Fast,
    /// A power cut as well; four times slower, and a few thousand messages a second at most.
    Fsync,
}

/// How much of the past the run stream keeps. Whichever limit is met first drops the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRetention {
    /// Nothing older.
    pub age: Duration,
    /// Nothing beyond so many bytes.
    pub bytes: u64,
    /// Nothing beyond so many messages. A run is three messages on two subjects, and the server
    /// holds a quarter of a kilobyte of memory for each subject.
    pub messages: u64,
}

impl Default for RunRetention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 24 * 3600),
            bytes: 4 << 30,
            messages: 1_500_000,
        }
    }
}

/// What may be chosen about the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// On how many servers.
    pub replicas: Replicas,
    /// What a run survives.
    pub run_durability: Durability,
    /// How long runs are kept.
    pub run_retention: RunRetention,
    /// When an unended delivery comes again.
    pub ack_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replicas: Replicas::One,
            run_durability: Durability::Fast,
            run_retention: RunRetention::default(),
            ack_wait: ACK_WAIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        let connection =
            Connection::to("nats://u:hunter2@a:1,nats://b:2").with_auth(Auth::Password {
                user: "engine".into(),
                password: "hunter3".into(),
            });
        let shown = format!("{connection:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert_eq!(connection.shown(), "nats://a:1,nats://b:2");
        assert_eq!(format!("{:?}", Auth::Nkey("SUAXX".into())), "Nkey(hidden)");
    }
}
