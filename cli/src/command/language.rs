//! Which language a source is in, what of it is called, and the image that runs it.

use std::fs;
use std::path::Path;

use adapter_functions::Language;
use adapter_kit::ClientError;
use anyhow::{Context, Result};
use engine_model::{Code, Command, Kind, Name, Seq};
use serde_json::{Value, json};

use super::{batch, services};
use crate::client::Connection;
use crate::output::note;

/// Names of files that are the one to call when there are several.
const ENTRIES: [&str; 5] = ["handler", "Handler", "main", "index", "function"];

/// What a source seems to be.
pub(super) struct Guess {
    /// Its language, as base images label it.
    pub(super) language: Option<Language>,
    /// What to call, in a directory; a single file needs no handler.
    pub(super) handler: Option<String>,
    /// The name and the text of the language's own list of dependencies, if it names any.
    pub(super) manifest: Option<(&'static str, String)>,
}

/// Looks at a source.
///
/// # Errors
/// When it cannot be read.
pub(super) fn guess(path: &Path) -> Result<Guess> {
    let unreadable = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(unreadable)?.is_file() {
        let name = path.file_name().and_then(|name| name.to_str());
        return Ok(Guess {
            language: name.and_then(Language::of_file),
            handler: None,
            manifest: None,
        });
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(path).with_context(unreadable)? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.path().is_file(), entry.file_name().into_string())
            && Language::of_file(&name).is_some()
        {
            sources.push(name);
        }
    }
    sources.sort();
    let first = sources.first().cloned();
    let entry = entry(sources);
    let language = entry.as_deref().or(first.as_deref());
    let language = language.and_then(Language::of_file);
    let handler = entry.zip(language);
    let handler = handler.map(|(entry, language)| language.handler_in(&entry));
    let manifest = language.and_then(|language| {
        let name = language.dependencies()?;
        let text = fs::read_to_string(path.join(name)).ok()?;
        language.depends(&text).then_some((name, text))
    });
    Ok(Guess {
        language,
        handler,
        manifest,
    })
}

/// Of these source files, the one to call, if that can be told.
pub(super) fn entry(mut sources: Vec<String>) -> Option<String> {
    if let [_] = &sources[..] {
        return sources.pop();
    }
    let stem = |name: &str| Path::new(name).file_stem().map(ToOwned::to_owned);
    let entry = ENTRIES.iter().find_map(|entry| {
        let named = |name: &&String| stem(name).is_some_and(|stem| stem == *entry);
        sources.iter().find(named)
    });
    entry.cloned()
}

/// The image without dependencies of a language, which is made if it is not there.
pub(super) async fn image(connection: &Connection, language: Language) -> Result<String> {
    let language = language.label();
    if present(connection, Kind::Image, language).await?.is_some() {
        return Ok(language.to_owned());
    }
    let base = format!("{language}-base");
    if present(connection, Kind::BaseImage, &base).await?.is_none() {
        let document = json!({ "name": base, "dockerUrl": "host", "language": language });
        create(connection, Kind::BaseImage, document).await?;
    }
    let document = json!({ "name": language, "baseImageName": base });
    create(connection, Kind::Image, document).await?;
    note(&format!(
        "Made the image {language}, of this machine's own interpreter"
    ));
    Ok(language.to_owned())
}

/// A document, if it is there.
pub(super) async fn present(
    connection: &Connection,
    kind: Kind,
    name: &str,
) -> Result<Option<Value>> {
    match connection.one(kind, &Name::new(name)?, Seq(0)).await {
        Ok(document) => Ok(Some(document)),
        Err(ClientError::Rejected(rejection)) if rejection.code == Code::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn create(connection: &Connection, kind: Kind, document: Value) -> Result<Seq> {
    let name = document["name"].as_str().unwrap_or_default().to_owned();
    let spec = batch::read(connection, kind, services::map(document)).await?;
    let key = connection.key(kind, &name)?;
    connection.submit(key, Command::Create(spec)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_sources_the_one_that_is_named_as_an_entry_is_called() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("helper.py", ""),
            ("main.py", ""),
            ("requirements.txt", "x"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let seen = guess(dir.path()).unwrap();
        assert_eq!(seen.handler.as_deref(), Some("main.handle"));
        assert_eq!(seen.manifest, Some(("requirements.txt", "x".into())));
        fs::remove_file(dir.path().join("main.py")).unwrap();
        fs::write(dir.path().join("other.py"), "").unwrap();
        let seen = guess(dir.path()).unwrap();
        let python = Language::parse("python3");
        assert_eq!((seen.language, seen.handler), (python, None));
    }
}
