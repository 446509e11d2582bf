//! Which language a source is in, what of it is called, and the image that runs it.

use std::fs;
use std::path::Path;

use adapter_kit::ClientError;
use anyhow::{Context, Result};
use engine_model::{Code, Command, Kind, Name, Seq};
use serde_json::{Value, json};

use super::{batch, services};
use crate::client::Connection;
use crate::output::note;

/// How a language's sources look.
struct Look {
    language: &'static str,
    suffixes: &'static [&'static str],
    manifest: Option<&'static str>,
    /// The handler in a file of this stem and this name.
    handler: fn(&str, &str) -> String,
}

const LOOKS: &[Look] = &[
    Look {
        language: "python3",
        suffixes: &["py"],
        manifest: Some("requirements.txt"),
        handler: |stem, _| format!("{stem}.handle"),
    },
    Look {
        language: "nodejs",
        suffixes: &["js", "mjs", "cjs"],
        manifest: Some("package.json"),
        handler: |_, name| format!("./{name}"),
    },
    Look {
        language: "java",
        suffixes: &["java"],
        manifest: Some("pom.xml"),
        handler: |stem, _| stem.to_owned(),
    },
    Look {
        language: "powershell",
        suffixes: &["ps1"],
        manifest: Some("requirements.psd1"),
        handler: |_, name| format!("./{name}::handle"),
    },
    Look {
        language: "binary",
        suffixes: &["sh"],
        manifest: None,
        handler: |_, name| format!("./{name}"),
    },
    Look {
        language: "wasm",
        suffixes: &["wasm"],
        manifest: None,
        handler: |_, name| format!("./{name}"),
    },
];

/// Names of files that are the one to call when there are several.
const ENTRIES: [&str; 5] = ["handler", "Handler", "main", "index", "function"];

/// What a source seems to be.
pub(super) struct Guess {
    /// Its language, as base images label it.
    pub(super) language: Option<&'static str>,
    /// What to call, in a directory; a single file needs no handler.
    pub(super) handler: Option<String>,
    /// The name and the text of the language's own list of dependencies.
    pub(super) manifest: Option<(&'static str, String)>,
}

/// Looks at a source.
///
/// # Errors
/// When it cannot be read.
pub(super) fn guess(path: &Path) -> Result<Guess> {
    let unreadable = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(unreadable)?.is_file() {
        return Ok(Guess {
            language: look_of(path).map(|look| look.language),
            handler: None,
            manifest: None,
        });
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(path).with_context(unreadable)? {
        let file = entry?.path();
        if file.is_file()
            && let Some(look) = look_of(&file)
        {
            sources.push((file, look));
        }
    }
    sources.sort_by(|one, other| one.0.cmp(&other.0));
    let stem = |file: &Path| {
        file.file_stem()
            .and_then(|stem| stem.to_str().map(String::from))
    };
    let entry = match &sources[..] {
        [one] => Some(one),
        several => ENTRIES.iter().find_map(|entry| {
            several
                .iter()
                .find(|(file, _)| stem(file).as_deref() == Some(entry))
        }),
    };
    let look = entry.or(sources.first()).map(|(_, look)| *look);
    let handler = entry.and_then(|(file, look)| {
        let name = file.file_name()?.to_str()?;
        Some((look.handler)(&stem(file)?, name))
    });
    let manifest = look.and_then(|look| {
        let name = look.manifest?;
        let text = fs::read_to_string(path.join(name)).ok()?;
        Some((name, text))
    });
    Ok(Guess {
        language: look.map(|look| look.language),
        handler,
        manifest,
    })
}

fn look_of(file: &Path) -> Option<&'static Look> {
    let suffix = file.extension()?.to_str()?;
    LOOKS.iter().find(|look| look.suffixes.contains(&suffix))
}

/// Whether a list of dependencies names any.
pub(super) fn depends(manifest: &str, text: &str) -> bool {
    match manifest {
        "package.json" => {
            let read = serde_json::from_str::<Value>(text);
            // What cannot be read is for the language's own tool to say.
            read.map_or(true, |read| {
                let some = |field: &str| read[field].as_object().is_some_and(|all| !all.is_empty());
                some("dependencies") || some("overrides")
            })
        }
        "pom.xml" => text.contains("<dependency>"),
        _ => text.lines().any(|line| {
            let line: String = line.split_whitespace().collect();
            !line.is_empty() && !line.starts_with('#') && line != "@{}"
        }),
    }
}

/// The image without dependencies of a language, which is made if it is not there.
pub(super) async fn image(connection: &Connection, language: &str) -> Result<String> {
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
    fn a_list_of_comments_names_no_dependencies() {
        for (file, none, some) in [
            ("requirements.txt", "# x==1\n\n", "# x\nx==1\n"),
            (
                "package.json",
                "{\"dependencies\": {}}",
                "{\"dependencies\": {\"x\": \"1\"}}",
            ),
            ("pom.xml", "<dependencies/>", "<dependency>"),
            ("requirements.psd1", "# x\n@{ }\n", "@{ x = '1' }"),
        ] {
            assert!(!depends(file, none), "{file}");
            assert!(depends(file, some), "{file}");
        }
    }

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
        assert_eq!((seen.language, seen.handler), (Some("python3"), None));
    }
}
