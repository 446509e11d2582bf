//! What one can type after `create`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    CreateFunction, CreateSchedule, CreateServiceBinding, CreateServiceBroker,
    CreateServiceInstance, OptionalBatch,
};

/// `create`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "EXAMPLES:\n  dispatch create -f seed.yaml\n  dispatch create image \
    python3-pg python3-base --runtime-deps requirements.txt\n  dispatch create function \
    python3-pg pg-example postgres.py --service azure-pg\n  dispatch create function python3-pg \
    report report.py --service azure-pg:own\n  dispatch create function pg-example \
    ./src --image python3-pg --handler postgres.handle"
)]
pub struct Create {
    /// What a file holds
    #[command(flatten)]
    pub batch: OptionalBatch,
    /// One resource
    #[command(subcommand)]
    pub one: Option<CreateOne>,
}

/// What all single resources understand.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Tag it with this application
    #[arg(short, long)]
    pub application: Option<String>,
    /// Label it with KEY=VALUE; may be repeated or comma-separated
    #[arg(
        long = "tag",
        visible_alias = "tags",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    pub tags: Vec<String>,
    /// Wait until it is READY
    #[arg(long)]
    pub wait: bool,
}

/// One resource to be made.
#[derive(Debug, Subcommand)]
pub enum CreateOne {
    /// An interpreter and its root
    #[command(name = "base-image", visible_aliases = ["baseimage"])]
    BaseImage {
        /// Its name
        name: String,
        /// Where it comes from; 'host' for this machine's own interpreter
        image_url: String,
        /// The language pack
        #[arg(long)]
        language: String,
        /// What all understand
        #[command(flatten)]
        common: Common,
    },
    /// A base image with dependencies
    Image {
        /// Its name
        name: String,
        /// The base image
        base_image: String,
        /// The language's own manifest: requirements.txt, package.json and so on
        #[arg(long, value_name = "FILE")]
        runtime_deps: Option<PathBuf>,
        /// Packages of the operating system: {"packages":[{"name":…,"version":…}]}
        #[arg(long, value_name = "FILE")]
        system_deps: Option<PathBuf>,
        /// What all understand
        #[command(flatten)]
        common: Common,
    },
    /// Something to run: IMAGE NAME FILE, or NAME PATH --image IMAGE, or from a template
    Function(CreateFunction),
    /// A map of strings
    Secret {
        /// Its name
        name: String,
        /// A JSON file with a map of strings; '-' for standard input
        file: PathBuf,
        /// What all understand
        #[command(flatten)]
        common: Common,
    },
    /// A broker of services
    #[command(name = "servicebroker", visible_aliases = ["service-broker"])]
    ServiceBroker(CreateServiceBroker),
    /// An instance of a service class in one of its plans
    #[command(name = "serviceinstance", visible_aliases = ["service-instance"])]
    ServiceInstance(CreateServiceInstance),
    /// One more binding of a service instance, besides its own
    #[command(name = "servicebinding", visible_aliases = ["service-binding"])]
    ServiceBinding(CreateServiceBinding),
    /// An HTTP endpoint in front of a function
    Api(CreateApi),
    /// A function that is run again and again
    Schedule(CreateSchedule),
    /// A label for resources that belong together
    #[command(visible_aliases = ["app"])]
    Application {
        /// Its name
        name: String,
    },
    /// A tenant
    Organization {
        /// Its name
        name: String,
    },
}

/// `create api`
#[derive(Debug, Args)]
pub struct CreateApi {
    /// Its name
    pub name: String,
    /// The function
    pub function: String,
    /// Who may call it
    #[arg(long, default_value = "public")]
    pub auth: String,
    /// Host to match; may be repeated
    #[arg(short, long)]
    pub domain: Vec<String>,
    /// Path to match; may be repeated
    #[arg(short, long, default_value = "/")]
    pub path: Vec<String>,
    /// Method to match; may be repeated
    #[arg(short, long, default_value = "GET")]
    pub method: Vec<String>,
    /// Refuse plain HTTP
    #[arg(long)]
    pub https_only: bool,
    /// Do not serve it yet
    #[arg(long)]
    pub disable: bool,
    /// Answer cross-origin requests
    #[arg(long)]
    pub cors: bool,
    /// Keep no run of its requests: faster, and nothing to look up afterwards
    #[arg(long)]
    pub no_record: bool,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}
