//! What one can type.

mod create;
mod function;
mod person;
mod policy;
mod revisions;
mod schedule;
mod services;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use engine_model::{Kind, Timestamp};

pub use create::{Common, Create, CreateApi, CreateOne};
pub use function::{CreateFunction, FunctionFlags, FunctionWords};
pub use person::{Dev, Templates, Test};
pub use policy::{Isolate, Policy, RetryOn};
pub use revisions::{Rollback, Route};
pub use schedule::{CreateSchedule, Overlap, ScheduleFlags, UpdateSchedule};
pub use services::{
    Abandon, Adopt, AdoptOne, AdoptServiceInstance, BrokerAccess, BrokerScope,
    CreateServiceBinding, CreateServiceBroker, CreateServiceInstance, Named, Parameters, Rotate,
    Update, UpdateOne, UpdateServiceBroker, UpdateServiceInstance, What,
};

use crate::output::Format;

/// Functions with the services they need, orchestrated by events.
#[derive(Debug, Parser)]
#[command(
    name = "dispatch",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "EXAMPLES:\n  dispatch up\n  dispatch create -f seed.yaml\n  dispatch \
    create serviceinstance azure-pg azure-postgresql basic50 --params '{\"location\":\"westus\"}'\
    \n  dispatch get serviceinstance azure-pg --wait\n  dispatch exec hello-py --wait --input \
    '{\"name\":\"Jon\"}'\n\nEXIT CODES: 0 done, 1 failed or refused, 2 wrong usage, 3 the function \
    failed, 4 what was waited for ended in ERROR, 5 the server cannot be reached"
)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: ~/.dispatch/config.json]
    #[arg(long, global = true, env = "DISPATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Host of the REST API
    #[arg(long, global = true, env = "DISPATCH_HOST")]
    pub host: Option<String>,
    /// Port of the REST API
    #[arg(long, global = true, env = "DISPATCH_PORT")]
    pub port: Option<u16>,
    /// Scheme of the REST API: http or https
    #[arg(long, global = true, env = "DISPATCH_SCHEME")]
    pub scheme: Option<String>,
    /// Organization to work in
    #[arg(long, global = true, env = "DISPATCH_ORGANIZATION")]
    pub organization: Option<String>,
    /// Take the server's certificate unchecked
    #[arg(long, global = true, env = "DISPATCH_INSECURE")]
    pub insecure: bool,
    /// Bearer token for the REST API
    #[arg(long, global = true, env = "DISPATCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where NATS listens; 'none' uses the REST API only
    #[arg(long, global = true, env = "DISPATCH_NATS", value_name = "URL")]
    pub nats: Option<String>,
    /// Folder with more language packs, to know their sources and templates
    #[arg(long, global = true, env = "DISPATCH_PACKS", value_name = "FOLDER")]
    pub packs: Option<PathBuf>,
    /// How to show data
    #[arg(short, long, global = true, value_enum)]
    pub output: Option<Format>,
    /// Show data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Seconds to wait for an answer or, with --wait, for the end
    #[arg(
        long,
        global = true,
        env = "DISPATCH_WAIT_TIMEOUT",
        value_name = "SECONDS"
    )]
    pub wait_timeout: Option<u64>,
}

impl Global {
    /// How data is to be shown.
    #[must_use]
    pub fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            self.output.unwrap_or(Format::Table)
        }
    }

    /// How long an answer may take.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        Duration::from_secs(self.wait_timeout.unwrap_or(30))
    }

    /// How long `--wait` waits: a database at a provider takes ten minutes and more.
    #[must_use]
    pub fn wait_within(&self) -> Duration {
        Duration::from_secs(self.wait_timeout.unwrap_or(3600))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a data directory, keys, certificates and a configuration file
    Install(Install),
    /// Run all of Dispatch in one process, with its own NATS server
    Up(Up),
    /// Run Dispatch against an existing NATS server
    Serve(Serve),
    /// Run a service broker
    #[command(subcommand)]
    Broker(Broker),
    /// Make a resource, or all of a file's
    Create(Create),
    /// Change a resource, or replace all of a file's
    Update(Update),
    /// Take on record what exists at a broker already
    Adopt(Adopt),
    /// Show resources
    Get(Get),
    /// Take a resource away, or all of a file's
    Delete(Delete),
    /// Run a function
    Exec(Exec),
    /// Show what runs of a function printed
    #[command(alias = "log")]
    Logs(Logs),
    /// Run a function once, and say how long each stage took and whether it answered as expected
    Test(Test),
    /// Serve a function from its sources, and serve it anew whenever they change
    Dev(Dev),
    /// Show what a function can be begun from
    Templates(Templates),
    /// End a run: what is carried out is killed, and what waits is not begun
    Cancel(Cancel),
    /// Show everything that happened to a resource
    History {
        /// Its kind
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Its name
        name: String,
    },
    /// Read a broker's catalog now
    #[command(after_help = "EXAMPLE:\n  dispatch refresh servicebroker azure")]
    Refresh(Named),
    /// Replace the credentials of a service binding by new ones
    Rotate(Rotate),
    /// Give a function the document of an earlier revision again
    Rollback(Rollback),
    /// Divide the runs of a function among its revisions
    Route(Route),
    /// Try again what failed
    Retry {
        /// The resource's kind
        #[arg(value_parser = kind)]
        kind: Kind,
        /// The resource's name
        name: String,
    },
    /// End a service instance or binding on record, without a call to its broker
    Abandon(Abandon),
    /// Make the views anew from the log
    Rebuild,
    /// Show what could not be processed, or try it again
    Deadletters {
        /// Try this one again
        #[arg(long, value_name = "NUMBER")]
        retry: Option<u64>,
    },
    /// Seal a secret for a command that is sent by other means
    Seal {
        /// A file with the secret's JSON, '-' for standard input
        file: PathBuf,
    },
    /// Show what the server is
    Info,
    /// Show the versions of client and server
    Version,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Fork sandboxes for a worker; not for people
    #[command(hide = true, name = "sandbox-launcher")]
    SandboxLauncher,
}

/// `install`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE:\n  dispatch install -f docs/examples/config.yaml")]
pub struct Install {
    /// The server's configuration (YAML)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where everything is kept [default: ~/.dispatch]
    #[arg(short, long, value_name = "DIR")]
    pub destination: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `up`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  dispatch up\n  dispatch up --nats-server \
    /opt/nats/nats-server --destination /var/lib/dispatch")]
pub struct Up {
    /// Where everything is kept [default: ~/.dispatch]
    #[arg(short, long, value_name = "DIR")]
    pub destination: Option<PathBuf>,
    /// The nats-server executable, 2.12 or newer
    #[arg(long, env = "DISPATCH_NATS_SERVER", value_name = "FILE")]
    pub nats_server: Option<PathBuf>,
}

/// `serve`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLE:\n  dispatch serve --nats-url nats://a:4222,nats://b:4222 \
    --nats-credentials engine.json --roles engine,worker"
)]
pub struct Serve {
    /// Where keys, views and layers are kept [default: ~/.dispatch]
    #[arg(short, long, value_name = "DIR")]
    pub destination: Option<PathBuf>,
    /// NATS servers, comma-separated
    #[arg(long, value_name = "URLS")]
    pub nats_url: String,
    /// A 0600 file with {"username":…,"password":…} of a user that may do everything below dispatch.>
    #[arg(long, value_name = "FILE")]
    pub nats_credentials: Option<PathBuf>,
    /// What this node does
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "engine,worker,gateway,rest,views"
    )]
    pub roles: Vec<String>,
}

/// `broker`
#[derive(Debug, Subcommand)]
pub enum Broker {
    /// An Open Service Broker for PostgreSQL
    #[command(after_help = "EXAMPLE:\n  dispatch broker postgres --catalog \
        docs/examples/azure-catalog.yaml --state-dir /var/lib/pg-broker --username platform \
        --password-file secret.txt --listen 127.0.0.1:8088")]
    Postgres(PostgresBroker),
}

/// `broker postgres`
#[derive(Debug, Args)]
pub struct PostgresBroker {
    /// What is offered (YAML)
    #[arg(long, value_name = "FILE")]
    pub catalog: PathBuf,
    /// Where instances are kept
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// The platform's user name
    #[arg(long, default_value = "dispatch")]
    pub username: String,
    /// A file with the platform's password
    #[arg(long, value_name = "FILE")]
    pub password_file: PathBuf,
    /// A file with the URL of the server in which plans of kind 'shared' make databases
    #[arg(long, value_name = "FILE")]
    pub server_url_file: Option<PathBuf>,
    /// Certificates (PEM) that that server's certificate is verified against
    #[arg(long, value_name = "FILE", requires = "server_url_file")]
    pub server_ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) to serve HTTPS with; plain HTTP without it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Where PostgreSQL's executables are
    #[arg(long, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// Write the address to this file once it is listened on
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
}

/// Resources of a file.
#[derive(Debug, Args)]
pub struct Batch {
    /// A YAML file with one document per resource; '-' for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where the files that it names lie [default: the directory of FILE]
    #[arg(short, long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Tag everything with this application
    #[arg(short, long)]
    pub application: Option<String>,
}

/// Resources of a file, if one is named.
#[derive(Debug, Args)]
pub struct OptionalBatch {
    /// A YAML file with one document per resource; '-' for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the files that it names lie [default: the directory of FILE]
    #[arg(short, long, value_name = "DIR", requires = "file")]
    pub work_dir: Option<PathBuf>,
    /// Tag everything with this application
    #[arg(short, long, requires = "file")]
    pub application: Option<String>,
}

/// `get`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch get serviceinstance azure-pg --wait\n  dispatch get \
    runs pg-example --last\n  dispatch get functions -o yaml\n  dispatch get serviceinstance \
    azure-pg --live\n  dispatch get orphans\n  dispatch get revisions pg-example"
)]
pub struct Get {
    /// The kind, singular or plural; 'revisions', of a function; or 'orphans', what may have been
    /// left at brokers
    #[arg(value_parser = services::what)]
    pub kind: What,
    /// One resource; for runs and revisions, the function
    pub name: Option<String>,
    /// One run
    pub run: Option<String>,
    /// Wait until it is READY, and say how it is going
    #[arg(long, requires = "name")]
    pub wait: bool,
    /// Ask its broker how a service instance is now, and show what differs from the record
    #[arg(long, requires = "name", conflicts_with = "wait")]
    pub live: bool,
    /// Only those tagged with this application
    #[arg(short, long)]
    pub application: Option<String>,
    /// Only APIs of this function
    #[arg(short, long, value_name = "FUNCTION")]
    pub func: Option<String>,
    /// Only the latest run
    #[arg(long)]
    pub last: bool,
}

/// `delete`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch delete function pg-example\n  dispatch delete \
    serviceinstance azure-pg --wait\n  dispatch delete -f seed.yaml"
)]
pub struct Delete {
    /// The kind
    #[arg(value_parser = kind, required_unless_present = "file", requires = "name")]
    pub kind: Option<Kind>,
    /// The resource
    pub name: Option<String>,
    /// A YAML file with one document per resource
    #[arg(short, long, value_name = "FILE", conflicts_with = "kind")]
    pub file: Option<PathBuf>,
    /// Delete what uses it as well
    #[arg(long)]
    pub cascade: bool,
    /// Wait until it is gone
    #[arg(long)]
    pub wait: bool,
    /// Only if tagged with this application
    #[arg(short, long)]
    pub application: Option<String>,
}

/// `exec`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE:\n  dispatch exec hello-py --wait --input '{\"name\":\"Jon\"}'")]
pub struct Exec {
    /// The function
    pub function: String,
    /// Wait for its end
    #[arg(long)]
    pub wait: bool,
    /// Show on standard error what it prints, as it prints it
    #[arg(long, requires = "wait")]
    pub logs: bool,
    /// The input, any JSON value
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub input: String,
    /// A file with the input; '-' for standard input
    #[arg(long, conflicts_with = "input", value_name = "FILE")]
    pub input_file: Option<PathBuf>,
    /// A secret besides the function's own; may be repeated or comma-separated
    #[arg(long, value_delimiter = ',')]
    pub secret: Vec<String>,
    /// Requests with the same key ask for one run
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Begin it after so long, as 90s, 10m, 2h or 1d
    #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
    pub delay: Option<Duration>,
    /// Begin it at this moment (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "delay", value_parser = moment)]
    pub at: Option<Timestamp>,
}

/// `cancel`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE:\n  dispatch cancel 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct Cancel {
    /// The run's id
    pub run: engine_model::RunId,
}

/// Reads a moment.
fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "it is not RFC 3339, as 2030-01-31T12:00:00Z".into())
}

/// Reads a length of time: numbers with units, from long to short.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no length of time, as 90s, 10m, 2h, 1d or 1h30m");
    let (mut seconds, mut number) = (0u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        let more = count.checked_mul(unit).and_then(|s| seconds.checked_add(s));
        seconds = more.ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() || text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

/// `logs`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch logs hello-py --follow\n  dispatch logs image python3-pg"
)]
pub struct Logs {
    /// FUNCTION, or image NAME for what the build of an image printed
    #[arg(required = true, num_args = 1..=2, value_name = "FUNCTION|image NAME")]
    pub words: Vec<String>,
    /// Go on with what is printed from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Of so many of the latest runs
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    pub runs: u32,
}

/// Reads a kind in any of its spellings.
///
/// # Errors
/// A text that lists the kinds.
pub fn kind(text: &str) -> Result<Kind, String> {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let plain = plain.to_ascii_lowercase();
    let named = |kind: &Kind| {
        let token = kind.token();
        let plural = match token.strip_suffix("class") {
            Some(stem) => format!("{stem}classes"),
            None => format!("{token}s"),
        };
        plain == token || plain == plural
    };
    let short = match plain.as_str() {
        "app" | "apps" => Some(Kind::Application),
        _ => None,
    };
    short
        .or_else(|| Kind::ALL.iter().copied().find(named))
        .ok_or_else(|| {
            let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.token()).collect();
            format!("no such kind; there are {}", all.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_length_of_time_needs_its_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "-1s", "1w", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kind_is_read_in_each_of_its_spellings() {
        for text in [
            "serviceclass",
            "serviceclasses",
            "service-class",
            "ServiceClass",
        ] {
            assert_eq!(kind(text), Ok(Kind::ServiceClass), "{text}");
        }
        for text in ["app", "apps", "applications"] {
            assert_eq!(kind(text), Ok(Kind::Application), "{text}");
        }
        assert!(kind("gizmo").unwrap_err().contains("serviceinstance"));
    }
}
