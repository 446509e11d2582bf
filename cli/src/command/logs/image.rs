//! What the build of an image printed, and what it prints.

use anyhow::Result;
use engine_model::{Kind, Name, Seq};
use futures::StreamExt as _;
use serde_json::json;

use super::text;
use crate::args::Global;
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, print, print_data};

/// Shows what the last build printed, and then what builds print until it is ended.
pub(super) async fn run(
    connection: &Connection,
    global: &Global,
    image: &str,
    follow: bool,
) -> Result<Exit> {
    let image = Name::new(image)?;
    // Before the document is read, so that no line falls between.
    let lines = match follow {
        true => Some(connection.follow_build(&image).await?),
        false => None,
    };
    let document = connection.one(Kind::Image, &image, Seq(0)).await?;
    let kept = match document["buildLog"].as_str() {
        Some(digest) => {
            let stored = connection.blob(digest).await?;
            String::from_utf8_lossy(adapter_functions::printed(&stored)).into_owned()
        }
        None => String::new(),
    };
    match global.format() {
        Format::Table => print(&kept)?,
        format => {
            let lines: Vec<&str> = kept.lines().collect();
            print_data(format, &json!({ "image": image, "lines": lines }))?;
        }
    }
    let Some(mut lines) = lines else {
        return Ok(Exit::Done);
    };
    while let Some(line) = lines.next().await {
        match global.format() {
            Format::Table => print(&text(None, &line))?,
            _ => {
                let data = json!({ "image": image, "text": line.text, "lost": line.lost });
                print(&format!("{data}\n"))?;
            }
        }
    }
    anyhow::bail!("the connection is closed")
}
