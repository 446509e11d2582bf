//! What one can type about brokers, service instances and bindings.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use engine_model::{InstanceId, Kind};

use super::create::Common;
use super::{FunctionWords, OptionalBatch, UpdateSchedule, kind};

/// How to reach a broker.
#[derive(Debug, Clone, Default, Args)]
pub struct BrokerAccess {
    /// Basic authentication: the user
    #[arg(long, requires = "password_file")]
    pub username: Option<String>,
    /// Basic authentication: a file with the password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// Bearer authentication: a file with the token
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    pub token_file: Option<PathBuf>,
    /// PEM certificates to trust instead of the system's
    #[arg(long, visible_alias = "ca-file", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A PEM certificate that shows who asks
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
    /// Who may use its classes; 'all' in the organization 'dispatch' only
    #[arg(long, value_enum)]
    pub scope: Option<BrokerScope>,
    /// Requests under way at once; 0 for the node's own limit
    #[arg(long, value_name = "N")]
    pub max_concurrent: Option<u32>,
    /// Requests in a second; 0 for the node's own limit
    #[arg(long, value_name = "N")]
    pub max_per_second: Option<u32>,
}

/// Who may use the classes of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BrokerScope {
    /// The organization that it is registered in.
    Organization,
    /// Every organization.
    All,
}

/// `create servicebroker`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch create servicebroker azure https://broker.example \
    --username platform --password-file secret.txt\n  dispatch create servicebroker shared \
    https://broker.example --token-file token.txt --scope all --organization dispatch"
)]
pub struct CreateServiceBroker {
    /// Its name
    pub name: String,
    /// The URL below which /v2/catalog lies
    pub url: String,
    /// How to reach it
    #[command(flatten)]
    pub access: BrokerAccess,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// Parameters, given on the command line or in a file.
#[derive(Debug, Clone, Default, Args)]
pub struct Parameters {
    /// Parameters, a JSON object
    #[arg(short, long, value_name = "JSON")]
    pub params: Option<String>,
    /// A file with the parameters; '-' for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "params")]
    pub params_file: Option<PathBuf>,
    /// A secret whose keys are merged into the parameters; may be repeated or comma-separated
    #[arg(
        short,
        long = "secret-params",
        visible_alias = "secret",
        value_name = "SECRET",
        value_delimiter = ','
    )]
    pub secret: Vec<String>,
}

/// `create serviceinstance`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLE:\n  dispatch create serviceinstance azure-pg azure-postgresql basic50 \
    --params '{\"location\":\"westus\"}' --wait"
)]
pub struct CreateServiceInstance {
    /// Its name
    pub name: String,
    /// The service class
    pub class: String,
    /// The plan
    pub plan: String,
    /// Of the provisioning
    #[command(flatten)]
    pub parameters: Parameters,
    /// Parameters of the binding, a JSON object
    #[arg(short = 'P', long, value_name = "JSON")]
    pub binding_params: Option<String>,
    /// A secret whose keys are merged into the binding's parameters
    #[arg(short = 'S', long, value_delimiter = ',')]
    pub binding_secret: Vec<String>,
    /// Kept with the binding
    #[arg(short = 'B', long, value_name = "KEY")]
    pub binding_secret_key: Option<String>,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// `create servicebinding`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch create servicebinding reports azure-pg --wait\n  dispatch \
    create function report report.py --image python3-pg --service azure-pg:reports"
)]
pub struct CreateServiceBinding {
    /// Its name
    pub name: String,
    /// The service instance
    pub instance: String,
    /// Of the binding
    #[command(flatten)]
    pub parameters: Parameters,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// `update`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "EXAMPLES:\n  dispatch update -f seed.yaml\n  dispatch update serviceinstance \
    azure-pg --plan basic100 --wait\n  dispatch update serviceinstance azure-pg --upgrade\n  \
    dispatch update servicebroker azure --max-concurrent 4 --username platform --password-file \
    secret.txt"
)]
pub struct Update {
    /// What a file holds
    #[command(flatten)]
    pub batch: OptionalBatch,
    /// One resource
    #[command(subcommand)]
    pub one: Option<UpdateOne>,
}

/// One resource to be changed; what is not given stays.
#[derive(Debug, Subcommand)]
pub enum UpdateOne {
    /// Change a function; what is not given stays, but its source has to be given
    Function(FunctionWords),
    /// Change a broker; what is not given stays, but its credentials have to be given
    #[command(name = "servicebroker", visible_aliases = ["service-broker"])]
    ServiceBroker(UpdateServiceBroker),
    /// Change a service instance: its plan, its parameters, its maintenance version, its tags
    #[command(name = "serviceinstance", visible_aliases = ["service-instance"])]
    ServiceInstance(UpdateServiceInstance),
    /// Change a schedule, pause it or go on; what is not given stays
    Schedule(UpdateSchedule),
}

/// `update servicebroker`
#[derive(Debug, Args)]
pub struct UpdateServiceBroker {
    /// Its name
    pub name: String,
    /// The URL below which /v2/catalog lies
    #[arg(long)]
    pub url: Option<String>,
    /// It asks for no credentials
    #[arg(long, conflicts_with_all = ["username", "token_file"])]
    pub no_credentials: bool,
    /// How to reach it
    #[command(flatten)]
    pub access: BrokerAccess,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// `update serviceinstance`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch update serviceinstance azure-pg --plan basic100 --wait\n  \
    dispatch update serviceinstance azure-pg --params '{\"connections\":50}'\n  dispatch update \
    serviceinstance azure-pg --upgrade"
)]
pub struct UpdateServiceInstance {
    /// Its name
    pub name: String,
    /// The plan to change to
    #[arg(long)]
    pub plan: Option<String>,
    /// Those that change; others stay
    #[command(flatten)]
    pub parameters: Parameters,
    /// Take the maintenance version that the plan offers
    #[arg(long)]
    pub upgrade: bool,
    /// Take this maintenance version
    #[arg(long, value_name = "VERSION", conflicts_with = "upgrade")]
    pub maintenance_version: Option<String>,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// `adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// What exists at a broker
    #[command(subcommand)]
    pub one: AdoptOne,
}

/// What exists at a broker, and is to be taken on record.
#[derive(Debug, Subcommand)]
pub enum AdoptOne {
    /// A service instance; nothing is ever removed at the broker because of it
    #[command(name = "serviceinstance", visible_aliases = ["service-instance"])]
    #[command(
        after_help = "EXAMPLE:\n  dispatch adopt serviceinstance azure-pg azure-postgresql basic50 \
        --instance-id 0b1b7a52-9b0f-4c14-8f0e-0b5f6c1e2a43 --wait"
    )]
    ServiceInstance(AdoptServiceInstance),
}

/// `adopt serviceinstance`
#[derive(Debug, Args)]
pub struct AdoptServiceInstance {
    /// Its id at the broker, a UUID
    #[arg(long, value_name = "UUID", value_parser = instance_id)]
    pub instance_id: InstanceId,
    /// What it is
    #[command(flatten)]
    pub is: CreateServiceInstance,
}

fn instance_id(text: &str) -> Result<InstanceId, String> {
    text.parse()
        .map_err(|_| "an instance's id at its broker is a UUID, as in the broker's own list".into())
}

/// A kind and a name, or a name alone.
#[derive(Debug, Args)]
pub struct Named {
    /// The kind, and the name; a name alone is of the first kind that the command is for
    #[arg(num_args = 1..=2, required = true, value_names = ["KIND", "NAME"])]
    pub words: Vec<String>,
}

impl Named {
    /// The kind and the name; `kinds` are those that the command is for, and the first is meant
    /// when only a name is given.
    ///
    /// # Errors
    /// A text that says for which kinds the command is.
    pub fn of(&self, kinds: &[Kind]) -> Result<(Kind, &str), String> {
        match &self.words[..] {
            [of, name] => {
                let found = kind(of)?;
                if kinds.contains(&found) {
                    return Ok((found, name));
                }
                let all: Vec<&str> = kinds.iter().map(|kind| kind.token()).collect();
                Err(format!(
                    "this is for {}, not for {}",
                    all.join(" and "),
                    found.token()
                ))
            }
            [name] => Ok((kinds[0], name)),
            _ => Err("say a kind and a name".into()),
        }
    }
}

/// `abandon`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch abandon serviceinstance azure-pg --reason 'the broker is \
    gone for good' --yes\n  dispatch abandon servicebinding reports --reason 'unbound by hand'"
)]
pub struct Abandon {
    /// A service instance, or a service binding
    #[command(flatten)]
    pub named: Named,
    /// Why; kept on record
    #[arg(long)]
    pub reason: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `rotate`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLE:\n  dispatch rotate servicebinding azure-pg --wait")]
pub struct Rotate {
    /// A service binding
    #[command(flatten)]
    pub named: Named,
    /// Wait until the new credentials are there
    #[arg(long)]
    pub wait: bool,
}

/// What `get` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Resources of a kind.
    Kind(Kind),
    /// What may have been left at brokers.
    Orphans,
    /// The revisions of a function.
    Revisions,
}

/// Reads a kind in any of its spellings, `revisions` or `orphans`.
///
/// # Errors
/// A text that lists the kinds.
pub(super) fn what(text: &str) -> Result<What, String> {
    match text.to_ascii_lowercase().as_str() {
        "orphan" | "orphans" => Ok(What::Orphans),
        "revision" | "revisions" => Ok(What::Revisions),
        _ => kind(text)
            .map(What::Kind)
            .map_err(|error| format!("{error}, revisions and orphans")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(words: &[&str]) -> Named {
        Named {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn a_name_alone_is_of_the_first_kind() {
        let kinds = [Kind::ServiceInstance, Kind::ServiceBinding];
        assert_eq!(named(&["pg"]).of(&kinds), Ok((Kind::ServiceInstance, "pg")));
        assert_eq!(
            named(&["service-binding", "pg"]).of(&kinds),
            Ok((Kind::ServiceBinding, "pg"))
        );
        let refused = named(&["function", "pg"]).of(&kinds).unwrap_err();
        assert!(refused.contains("servicebinding"), "{refused}");
    }

    #[test]
    fn orphans_are_shown_like_a_kind() {
        assert_eq!(what("Orphans"), Ok(What::Orphans));
        assert_eq!(what("revisions"), Ok(What::Revisions));
        assert_eq!(what("functions"), Ok(What::Kind(Kind::Function)));
        assert!(what("gizmos").unwrap_err().contains("no such kind"));
    }
}
