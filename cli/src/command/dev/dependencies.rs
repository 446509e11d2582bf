//! An image for what the sources themselves say that they depend on.

use anyhow::{Context, Result, bail};
use engine_model::{Command, Kind, Name};
use serde_json::{Value, json};

use crate::args::Global;
use crate::client::Connection;
use crate::command::{batch, language, services, wait};
use crate::exit::Exit;
use crate::output::note;

/// The image `NAME-deps` of a function.
pub(super) struct Dependencies {
    name: String,
    /// The manifest and the base image that it is made of, once it is.
    made: Option<(String, String)>,
}

impl Dependencies {
    pub(super) fn of(function: &Name) -> Self {
        Self {
            name: format!("{function}-deps"),
            made: None,
        }
    }

    /// The image, if it was made.
    pub(super) fn made(&self) -> Option<String> {
        self.made.as_ref().map(|_| self.name.clone())
    }

    /// Whether an image is the function's own.
    pub(super) fn is_own(&self, image: &str) -> bool {
        self.name == image
    }

    /// The image that runs the sources: `plain`, with what their manifest adds to it.
    pub(super) async fn image(
        &mut self,
        connection: &Connection,
        global: &Global,
        plain: String,
        manifest: Option<&(&'static str, String)>,
    ) -> Result<String> {
        let Some((file, text)) = manifest else {
            return Ok(plain);
        };
        let image = language::present(connection, Kind::Image, &plain).await?;
        let image = image.with_context(|| format!("there is no image {plain}"))?;
        let base = image["baseImageName"].as_str().unwrap_or_default();
        let wanted = (text.clone(), base.to_owned());
        if self.made.as_ref() == Some(&wanted) {
            return Ok(self.name.clone());
        }
        note(&format!("Building {} of {file}", self.name));
        let (document, exit) = self.build(connection, global, base, text).await?;
        self.made = Some(wanted);
        if exit == Exit::EndedInError {
            // It is to be tried again with the next change, whatever that is.
            self.made = Some((String::new(), String::new()));
            let reason = document["reason"][0].as_str().unwrap_or("ERROR");
            bail!("{file}: {reason}");
        }
        Ok(self.name.clone())
    }

    async fn build(
        &self,
        connection: &Connection,
        global: &Global,
        base: &str,
        manifest: &str,
    ) -> Result<(Value, Exit)> {
        let document = json!({
            "name": self.name, "baseImageName": base,
            "runtimeDependencies": { "manifest": manifest },
        });
        let there = language::present(connection, Kind::Image, &self.name).await?;
        let spec = batch::read(connection, Kind::Image, services::map(document)).await?;
        let command = match there {
            Some(_) => Command::Update(spec),
            None => Command::Create(spec),
        };
        let key = connection.key(Kind::Image, &self.name)?;
        let seq = connection.submit(key.clone(), command).await?;
        wait::until_settled(connection, global, &key, seq).await
    }
}
