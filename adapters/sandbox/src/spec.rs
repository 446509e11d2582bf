//! What a sandbox is to look like: one serialisable value, checked before anything is done.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// More endpoints than descriptors fit into one message of the kernel's would be refused late.
const ENDPOINTS_MAX: usize = 64;

/// A sandboxed process to be: the program, all it may see, and its limits.
///
/// `Debug` hides the values of the environment, because callers put credentials there.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The program's absolute path inside the sandbox.
    pub program: PathBuf,
    /// Its arguments, without the program's own name. Never secrets: they show in process lists.
    pub args: Vec<String>,
    /// The complete environment.
    pub env: Vec<(String, String)>,
    /// The working directory, inside the sandbox.
    pub cwd: PathBuf,
    /// A directory of the host to be shown, read-only, in place of the host's own programs and
    /// libraries. Its `dev`, `proc`, `run`, `sys` and `tmp` are not shown; its `etc` must be a
    /// directory that holds the files named in [`Spec::OVERLAID`].
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// What is mounted besides the system's own directories, in this order.
    pub mounts: Vec<Mount>,
    /// What of the network can be reached.
    pub network: Network,
    /// What the sandbox may use up.
    pub limits: Limits,
    /// The host name inside.
    pub hostname: String,
    /// Whether it steps back behind all others who want a processor.
    #[serde(default)]
    pub background: bool,
    /// Whether the program has a [`Queue`](crate::Queue) as descriptor 4.
    #[serde(default)]
    pub queue: bool,
}

/// A directory or file of the host, shown inside.
///
/// As root the owner of the source (root) is shown as the sandbox's user where the file system
/// can map ids, so that what the engine owns is readable, or writable, inside as it is for an ordinary user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is to be inside; made when absent.
    pub target: PathBuf,
    /// Whether it can be written to.
    pub access: Access,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reads and execution only.
    ReadOnly,
    /// Writes too.
    ReadWrite,
}

/// What of the network a sandbox can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing: a network namespace that has only its own loopback.
    None,
    /// These endpoints, through listeners which the engine relays; otherwise as `None`.
    Relay(Vec<Endpoint>),
    /// Whatever the host can reach, including its own loopback and its abstract unix sockets.
    Host,
}

/// A TCP service as the function is told of it: a name or an address, and a port.
///
/// An address is bound as it is inside the sandbox; a name is given a loopback address of its own
/// there, and a line in `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// A host name, or an IPv4 or IPv6 address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// What a sandbox may use up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the whole sandbox, where a cgroup can be had.
    pub memory_bytes: Option<u64>,
    /// Hundredths of a processor, of the whole sandbox, where a cgroup can be had.
    pub cpu_hundredths: Option<u32>,
    /// Processes and threads at one time.
    pub processes: u32,
    /// Open files of each process.
    pub open_files: u32,
    /// The size of any file written.
    pub file_bytes: u64,
    /// The size of `/tmp`, and of `/dev/shm`, each.
    pub tmp_bytes: u64,
    /// Address space of each process: stands in for `memory_bytes` where there is no cgroup.
    pub address_space_bytes: Option<u64>,
}

impl Spec {
    /// Files of a root's `etc` that the sandbox lays its own over, where it has one.
    pub const OVERLAID: [&str; 5] = ["hosts", "resolv.conf", "nsswitch.conf", "passwd", "group"];

    /// A sandbox for `program` with no arguments, mounts or network, an empty environment and
    /// default limits.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            root: None,
            mounts: Vec::new(),
            network: Network::None,
            limits: Limits::default(),
            hostname: "sandbox".to_owned(),
            background: false,
            queue: false,
        }
    }

    /// All that is opened of the host for this sandbox: its root, if it has one, then its mounts.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Mount> {
        let root = self.root.iter().map(|root| Mount::read_only(root, "/"));
        root.chain(self.mounts.iter().cloned())
    }

    /// Refuses what could not be set up, or what would reach outside of the sandbox's root.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let plain = |what: &str, path: &Path| {
            let ok = path.is_absolute()
                && path
                    .components()
                    .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            ok.then_some(())
                .ok_or_else(|| invalid(format!("{what} is not a plain absolute path")))
        };
        plain("the program", &self.program)?;
        plain("the working directory", &self.cwd)?;
        if self.root.as_ref().is_some_and(|root| !root.is_absolute()) {
            return Err(invalid("the root is not an absolute path"));
        }
        for mount in &self.mounts {
            plain("a mount's target", &mount.target)?;
            if mount.target == Path::new("/") {
                return Err(invalid("a mount cannot replace the root"));
            }
            if !mount.source.is_absolute() {
                return Err(invalid("a mount's source is not an absolute path"));
            }
        }
        let strings = self
            .args
            .iter()
            .chain(self.env.iter().flat_map(|(k, v)| [k, v]));
        if strings
            .chain([&self.hostname])
            .any(|text| text.contains('\0'))
        {
            return Err(invalid("an argument or variable holds a NUL"));
        }
        if self
            .env
            .iter()
            .any(|(key, _)| key.is_empty() || key.contains('='))
        {
            return Err(invalid("a variable's name is empty or holds '='"));
        }
        if self.hostname.len() > 64 || !is_host_name(&self.hostname) {
            return Err(invalid(
                "the sandbox's name is not a host name of at most 64 bytes",
            ));
        }
        match &self.network {
            Network::None | Network::Host => Ok(()),
            Network::Relay(endpoints) if endpoints.len() > ENDPOINTS_MAX => {
                Err(invalid(format!("more than {ENDPOINTS_MAX} endpoints")))
            }
            Network::Relay(endpoints) => endpoints.iter().try_for_each(Endpoint::validate),
        }
    }
}

/// What is no name could write more than its own line into the sandbox's hosts file.
fn is_host_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=253).contains(&text.len()) && text.chars().all(letter)
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidSpec {
        reason: reason.into(),
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Spec")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("root", &self.root)
            .field("mounts", &self.mounts)
            .field("network", &self.network)
            .field("limits", &self.limits)
            .field("hostname", &self.hostname)
            .field("background", &self.background)
            .finish()
    }
}

impl Mount {
    /// A mount that cannot be written to.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            access: Access::ReadOnly,
        }
    }

    /// A mount that can be written to.
    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            access: Access::ReadWrite,
        }
    }
}

impl Endpoint {
    /// An endpoint of that host name or address, and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.port == 0 {
            return Err(invalid("an endpoint's port is 0"));
        }
        match self.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                Err(invalid("an endpoint's address cannot be bound"))
            }
            Ok(_) => Ok(()),
            Err(_) if is_host_name(&self.host) => Ok(()),
            Err(_) => Err(invalid(
                "an endpoint's host is neither a host name nor an address",
            )),
        }
    }

    /// The address bound for this endpoint inside; `names` are the host names seen before it.
    fn inside(&self, names: &mut Vec<String>) -> SocketAddr {
        let ip = match self.host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) if self.host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
            Err(_) => {
                let known = names
                    .iter()
                    .position(|name| name.eq_ignore_ascii_case(&self.host));
                let index = known.unwrap_or_else(|| {
                    names.push(self.host.clone());
                    names.len() - 1
                });
                name_address(index)
            }
        };
        SocketAddr::new(ip, self.port)
    }
}

/// The loopback address that stands for the host name of that number.
pub(crate) fn name_address(index: usize) -> IpAddr {
    let last = u8::try_from(index + 1).expect("there are at most 64 endpoints");
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, last))
}

/// What a relay binds inside: endpoints that come to the same address are one.
#[derive(Default)]
pub(crate) struct Bindings {
    /// The first endpoint of each address, in the order asked for.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The addresses, in the same order.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The host names to be found, by the number of their address.
    pub(crate) names: Vec<String>,
}

impl Bindings {
    pub(crate) fn of(endpoints: &[Endpoint]) -> Self {
        let mut bindings = Self::default();
        for endpoint in endpoints {
            let address = endpoint.inside(&mut bindings.names);
            if !bindings.addresses.contains(&address) {
                bindings.addresses.push(address);
                bindings.endpoints.push(endpoint.clone());
            }
        }
        bindings
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Default for Limits {
    /// No limit of memory or processor time; 64 processes, 1,024 open files, files of 1 GiB, 64 MiB of `/tmp`.
    fn default() -> Self {
        Self {
            memory_bytes: None,
            cpu_hundredths: None,
            processes: 64,
            open_files: 1024,
            file_bytes: 1 << 30,
            tmp_bytes: 64 << 20,
            address_space_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_climbs_out_is_refused() {
        for target in ["/fn/../../etc", "fn", "/"] {
            let mut spec = Spec::new("/usr/bin/true");
            spec.mounts.push(Mount::read_only("/tmp", target));
            assert!(spec.validate().is_err(), "{target}");
        }
    }

    #[test]
    fn a_host_that_is_no_name_is_refused() {
        for host in ["", "a b", "a\n127.0.0.1 b", "0.0.0.0", "::", "224.0.0.1"] {
            let mut spec = Spec::new("/usr/bin/true");
            spec.network = Network::Relay(vec![Endpoint::new(host, 80)]);
            assert!(spec.validate().is_err(), "{host:?}");
        }
    }

    #[test]
    fn one_name_has_one_address_and_two_names_have_two() {
        let endpoints = [("db.internal", 1), ("DB.internal", 2), ("mq.internal", 1)]
            .map(|(host, port)| Endpoint::new(host, port));
        let bindings = Bindings::of(&endpoints);
        let ips: Vec<_> = bindings.addresses.iter().map(SocketAddr::ip).collect();
        assert_eq!(ips[0], ips[1]);
        assert_ne!(ips[0], ips[2]);
        assert_eq!(bindings.names, ["db.internal", "mq.internal"]);
    }

    #[test]
    fn endpoints_of_the_same_address_are_one() {
        let endpoints = ["localhost", "127.0.0.1", "127.0.0.1"].map(|h| Endpoint::new(h, 5432));
        assert_eq!(
            Bindings::of(&endpoints).endpoints,
            [Endpoint::new("localhost", 5432)]
        );
    }

    #[test]
    fn debug_output_holds_no_values_of_the_environment() {
        let mut spec = Spec::new("/usr/bin/true");
        spec.env.push(("TOKEN".into(), "canary".into()));
        let text = format!("{spec:?}");
        assert!(text.contains("TOKEN") && !text.contains("canary"));
    }
}
