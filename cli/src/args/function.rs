//! What one can type about a function.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Policy};

/// `create function`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch create function python3 hello hello.py\n  dispatch create \
    function report ./report --image python3-pg --handler report.handle --service azure-pg \
    --memory 128 --max 4\n  dispatch create function hello --from-template python3\n\n'dispatch \
    templates' lists the templates."
)]
pub struct CreateFunction {
    /// The function
    #[command(flatten)]
    pub function: FunctionWords,
    /// Write this template's files to PATH (else NAME), a directory that is not there yet, and make
    /// the function of them
    #[arg(long, value_name = "TEMPLATE")]
    pub from_template: Option<String>,
}

/// A function by its words and flags.
#[derive(Debug, Args)]
pub struct FunctionWords {
    /// IMAGE NAME FILE, or NAME PATH with --image
    #[arg(num_args = 1..=3, required = true, value_names = ["NAME", "PATH"])]
    pub words: Vec<String>,
    /// What it is besides its source
    #[command(flatten)]
    pub flags: FunctionFlags,
    /// What all understand
    #[command(flatten)]
    pub common: Common,
}

/// What a function is besides its source.
#[derive(Debug, Clone, Default, Args)]
pub struct FunctionFlags {
    /// The image
    #[arg(long)]
    pub image: Option<String>,
    /// What to call: module.function for Python, a module's path for Node
    #[arg(long)]
    pub handler: Option<String>,
    /// A file with the JSON schema of the input
    #[arg(long, value_name = "FILE")]
    pub schema_in: Option<PathBuf>,
    /// A file with the JSON schema of the output
    #[arg(long, value_name = "FILE")]
    pub schema_out: Option<PathBuf>,
    /// A secret that the function may see; may be repeated or comma-separated
    #[arg(long, value_delimiter = ',')]
    pub secret: Vec<String>,
    /// A service instance that the function may use, by the instance's own binding, by one of the
    /// function's own (:own), or by one that was created (:NAME); may be repeated or comma-separated
    #[arg(long, value_delimiter = ',', value_name = "INSTANCE[:own|:BINDING]")]
    pub service: Vec<String>,
    /// Milliseconds that a run may take
    #[arg(long, value_name = "MS")]
    pub timeout: Option<u64>,
    /// What the function may reach: none, services or host
    #[arg(long)]
    pub network: Option<String>,
    /// How it is run
    #[command(flatten)]
    pub policy: Policy,
}
