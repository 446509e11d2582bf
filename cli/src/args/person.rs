//! What one types while writing a function.

use std::path::PathBuf;

use clap::Args;

use super::FunctionFlags;

/// `test`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch test hello --input '{\"name\":\"Jon\"}'\n  dispatch test \
    hello --input @input.json --expect @output.json\n\nIt ends with 1 when the function failed, or \
    answered otherwise than expected."
)]
pub struct Test {
    /// The function
    pub function: String,
    /// The input: JSON, @FILE, or @- for standard input
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE")]
    pub input: String,
    /// What the function is to return: JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub expect: Option<String>,
    /// A secret besides the function's own; may be repeated or comma-separated
    #[arg(long, value_delimiter = ',')]
    pub secret: Vec<String>,
}

/// `dev`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch dev hello.py --input '{\"name\":\"Jon\"}'\n  dispatch dev \
    ./report --image python3 --handler report.handle --service azure-pg --input @input.json \
    --rm\n\nThe language's own list of dependencies (such as a requirements.txt) in the directory makes \
    an image of its own, NAME-deps. Ctrl-C ends it; the function stays, unless --rm was said."
)]
pub struct Dev {
    /// The source: a file or a directory
    pub path: PathBuf,
    /// The function's name [default: that of the file or the directory]
    #[arg(long)]
    pub name: Option<String>,
    /// Run it with this after each change: JSON, @FILE or FILE
    #[arg(long, value_name = "JSON|FILE")]
    pub input: Option<String>,
    /// Delete the function, and the image made for it, at the end
    #[arg(long)]
    pub rm: bool,
    /// What it is besides its source
    #[command(flatten)]
    pub flags: FunctionFlags,
}

/// `templates`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch templates\n  dispatch create function hello \
    --from-template python3\n  dispatch dev hello --input @hello/input.json"
)]
pub struct Templates {}
