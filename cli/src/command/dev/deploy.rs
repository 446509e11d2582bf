//! Makes what is served what the sources are.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine_model::spec::Spec;
use engine_model::{
    Command, Event, FunctionEvent, Kind, Name, Recorded, ResourceKey, RevisionId, Seq,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use super::dependencies::Dependencies;
use crate::args::{Dev, FunctionFlags, Global};
use crate::client::Connection;
use crate::command::language::{self, Guess};
use crate::command::{batch, create, services, update};
use crate::output::note;

/// How often the view is asked where commits are not seen.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is asked where they are: for what does not end in a commit of the function.
const LOOK_BESIDE: Duration = Duration::from_millis(250);

/// What came of the sources.
pub(super) enum Outcome {
    /// What they hold is served already.
    Unchanged,
    Served,
    Failed(Vec<String>),
}

/// A function that follows its sources.
pub(super) struct Deployment<'a> {
    pub(super) connection: &'a Connection,
    pub(super) global: &'a Global,
    pub(super) name: Name,
    dev: Dev,
    key: ResourceKey,
    /// The document that was there before; what no flag gives anew stays as it was.
    before: Option<Map<String, Value>>,
    dependencies: Dependencies,
    /// What was asked for last, and whether that is served.
    last: Option<(Spec, bool)>,
    exists: bool,
    /// Whether any version is served.
    serves: bool,
    /// The version that was served last, where commits are seen.
    revision: Option<RevisionId>,
    commits: Option<BoxStream<'static, Recorded>>,
}

impl<'a> Deployment<'a> {
    /// Looks at what is there; changes nothing yet.
    pub(super) async fn of(
        connection: &'a Connection,
        global: &'a Global,
        dev: Dev,
    ) -> Result<Self> {
        let name = match &dev.name {
            Some(name) => Name::new(name)?,
            None => name_of(&dev.path)?,
        };
        services::uses(&dev.flags.service)?;
        let before = language::present(connection, Kind::Function, name.as_str()).await?;
        let key = connection.key(Kind::Function, name.as_str())?;
        Ok(Self {
            commits: connection.watch(&key).await?,
            serves: before.as_ref().is_some_and(|it| !it["faasId"].is_null()),
            exists: before.is_some(),
            before: before.map(services::map),
            dependencies: Dependencies::of(&name),
            last: None,
            revision: None,
            connection,
            global,
            name,
            dev,
            key,
        })
    }

    /// Whether a version of the function is served.
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    /// The version that a run is to be of, if that is known.
    pub(super) fn revision(&self) -> Option<RevisionId> {
        self.revision
    }

    /// The image that was made for the sources' own dependencies.
    pub(super) fn own_image(&self) -> Option<String> {
        self.dependencies.made()
    }

    /// Deploys the sources as they are now; returns when they are served, or cannot be.
    pub(super) async fn serve(&mut self) -> Result<Outcome> {
        let spec = self.spec().await?;
        if matches!(&self.last, Some((last, true)) if *last == spec) {
            return Ok(Outcome::Unchanged);
        }
        let command = match self.exists {
            true => Command::Update(spec.clone()),
            false => Command::Create(spec.clone()),
        };
        let seq = self.connection.submit(self.key.clone(), command).await?;
        self.exists = true;
        self.last = Some((spec, false));
        let reasons = self.settled(seq).await?;
        if !reasons.is_empty() {
            return Ok(Outcome::Failed(reasons));
        }
        self.serves = true;
        if let Some((_, served)) = &mut self.last {
            *served = true;
        }
        Ok(Outcome::Served)
    }

    async fn spec(&mut self) -> Result<Spec> {
        let guess = language::guess(&self.dev.path)?;
        let (name, path) = (self.name.to_string(), self.dev.path.clone());
        let flags = self.flags(&guess)?;
        let image = self.image(&guess).await?;
        let mut fields =
            create::function_fields(self.connection, &name, &image, &path, &flags).await?;
        if let Some(before) = &self.before {
            update::keep(&mut fields, before, &flags);
        }
        batch::read(self.connection, Kind::Function, fields).await
    }

    /// The flags, with the handler that the sources seem to have.
    fn flags(&self, guess: &Guess) -> Result<FunctionFlags> {
        let mut flags = self.dev.flags.clone();
        if flags.handler.is_some() || !self.dev.path.is_dir() {
            // A file has one that goes without saying, whatever it was before.
            flags.handler.get_or_insert_default();
            return Ok(flags);
        }
        let before = self.before.as_ref().and_then(|it| it["handler"].as_str());
        flags.handler = match (before.filter(|it| !it.is_empty()), &guess.handler) {
            (Some(before), _) => Some(before.to_owned()),
            (None, Some(guessed)) => Some(guessed.clone()),
            (None, None) => bail!(
                "say with --handler what to call: {} has no source, or several",
                self.dev.path.display()
            ),
        };
        Ok(flags)
    }

    /// The image that runs it: the one that was named, else that of its language, with the
    /// dependencies of the sources' own manifest.
    async fn image(&mut self, guess: &Guess) -> Result<String> {
        let known = self.before.as_ref().and_then(|it| it["image"].as_str());
        let known = known.filter(|image| !self.dependencies.is_own(image));
        let image = match (self.dev.flags.image.as_deref(), known, guess.language) {
            (Some(image), ..) | (None, Some(image), _) => image.to_owned(),
            (None, None, Some(language)) => language::image(self.connection, language).await?,
            (None, None, None) => bail!(
                "say with --image what runs it: the language of {} is not known by its name",
                self.dev.path.display()
            ),
        };
        let manifest = guess.manifest.as_ref();
        let (connection, global) = (self.connection, self.global);
        self.dependencies
            .image(connection, global, image, manifest)
            .await
    }

    /// Waits for what comes of the change at `seq`: nothing, or the reasons why it is not served.
    async fn settled(&mut self, seq: Seq) -> Result<Vec<String>> {
        let deadline = Instant::now() + self.global.wait_within();
        let every = match self.commits {
            Some(_) => LOOK_BESIDE,
            None => LOOK,
        };
        let mut said = Vec::new();
        loop {
            let look = Instant::now() + every;
            if let Some(came) = self.commit_after(seq, look).await {
                return Ok(came);
            }
            let document = self.connection.one(Kind::Function, &self.name, seq).await?;
            let reasons = reasons(&document);
            match document["status"].as_str() {
                Some("READY") => {
                    self.revision = serde_json::from_value(document["faasId"].clone()).ok();
                    return Ok(Vec::new());
                }
                Some("ERROR") => return Ok(reasons),
                _ if reasons != said => {
                    for reason in &reasons {
                        note(&format!("{}: waits: {reason}", self.name));
                    }
                    said = reasons;
                }
                _ => {}
            }
            if Instant::now() > deadline {
                bail!("it is still not loaded (--wait-timeout waits longer)");
            }
        }
    }

    /// What a commit after `seq` says of the newest version, if one comes before `until`.
    async fn commit_after(&mut self, seq: Seq, until: Instant) -> Option<Vec<String>> {
        loop {
            let next = async {
                match &mut self.commits {
                    Some(commits) => commits.next().await,
                    None => None,
                }
            };
            let Ok(Some(recorded)) = tokio::time::timeout_at(until, next).await else {
                sleep_until(until).await;
                return None;
            };
            if recorded.seq <= seq {
                continue;
            }
            for event in &recorded.commit.events {
                match event {
                    Event::Function(FunctionEvent::Loaded { revision, .. }) => {
                        self.revision = Some(*revision);
                        return Some(Vec::new());
                    }
                    Event::Function(FunctionEvent::LoadFailed { reason, .. }) => {
                        return Some(vec![reason.clone()]);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn reasons(document: &Value) -> Vec<String> {
    let reasons = document["reason"].as_array().into_iter().flatten();
    let text = |reason: &Value| reason.as_str().map(str::to_owned);
    reasons.filter_map(text).collect()
}

/// `hello_world.py` is `hello-world`.
fn name_of(path: &Path) -> Result<Name> {
    let whole = path
        .canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))?;
    let stem = match whole.is_dir() {
        true => whole.file_name(),
        false => whole.file_stem(),
    };
    let stem = stem.and_then(|stem| stem.to_str()).unwrap_or_default();
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
        _ => '-',
    };
    let name: String = stem.chars().map(plain).collect();
    Name::new(name.trim_matches('-')).context("say with --name what it is called")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_called_as_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("Hello_World.py");
        std::fs::write(&file, "").unwrap();
        assert_eq!(name_of(&file).unwrap().as_str(), "hello-world");
        let folder = dir.path().join("report.v2");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(name_of(&folder).unwrap().as_str(), "report-v2");
        assert!(name_of(&dir.path().join("absent.py")).is_err());
    }
}
