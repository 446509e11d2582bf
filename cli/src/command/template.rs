//! What a function can be begun from: the template in the folder of each language's pack.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use adapter_functions::Language;
use anyhow::{Context, Result, bail, ensure};
use engine_model::Name;
use serde_json::{Value, json};

use super::language;
use crate::args::{FunctionWords, Global};
use crate::client::{Connection, add_packs};
use crate::exit::Exit;
use crate::output::{Format, note, print_data, print_table};

/// The page that comes with every template that has none of its own.
const README: &str = include_str!("template.md");

/// A starter.
struct Template {
    language: Language,
    /// The source file to begin with, and what is called in it.
    source: String,
    handler: String,
}

/// Those of all languages that have one, by name.
fn all() -> Vec<Template> {
    Language::all()
        .into_iter()
        .filter_map(Template::of)
        .collect()
}

impl Template {
    fn of(language: Language) -> Option<Self> {
        let names = language.template().map(|(name, _)| name.to_owned());
        let own = |name: &String| Language::of_file(name) == Some(language);
        let source = language::entry(names.filter(own).collect())?;
        Some(Self {
            language,
            handler: language.handler_in(&source),
            source,
        })
    }

    /// The language, as base images label it.
    fn name(&self) -> &'static str {
        self.language.label()
    }

    fn about(&self) -> String {
        match self.manifest() {
            Some(manifest) => format!("{}, with a {manifest}", self.language.about()),
            None => self.language.about().to_owned(),
        }
    }

    /// The language's own list of dependencies, if there is one to begin with.
    fn manifest(&self) -> Option<&'static str> {
        let manifest = self.language.dependencies()?;
        let mut files = self.language.template();
        files.any(|(name, _)| name == manifest).then_some(manifest)
    }

    /// All its files, filled in.
    fn files(&self, name: &str) -> BTreeMap<&'static str, Vec<u8>> {
        let manifest = self.manifest();
        let row = manifest.map(|file| format!("| `{file}` | what it depends on |\n"));
        let pairs = [
            ("{{name}}", name),
            ("{{template}}", self.name()),
            ("{{source}}", &self.source),
            ("{{handler}}", &self.handler),
            ("{{manifest}}", row.as_deref().unwrap_or_default()),
        ];
        let fill = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => pairs
                .iter()
                .fold(text.to_owned(), |text, (mark, value)| {
                    text.replace(mark, value)
                })
                .into_bytes(),
            Err(_) => bytes.to_owned(),
        };
        let readme = [("README.md", README.as_bytes())];
        let all = readme.into_iter().chain(self.language.template());
        all.map(|(name, bytes)| (name, fill(bytes))).collect()
    }
}

/// Shows the templates.
pub(super) fn list(global: &Global) -> Result<Exit> {
    add_packs(global)?;
    let names = |template: &Template| -> Vec<&str> { template.files("NAME").into_keys().collect() };
    if global.format() != Format::Table {
        let document = |template: &Template| {
            json!({
                "name": template.name(),
                "about": template.about(),
                "handler": template.handler,
                "files": names(template),
            })
        };
        let all = all().iter().map(document).collect();
        print_data(global.format(), &Value::Array(all))?;
        return Ok(Exit::Done);
    }
    let row = |template: &Template| {
        vec![
            template.name().to_owned(),
            template.about(),
            names(template).join(" "),
        ]
    };
    print_table(
        &["Template", "For", "Files"],
        all().iter().map(row).collect(),
    )?;
    Ok(Exit::Done)
}

/// Writes a template's files, and puts into `function` what makes a function of them.
pub(super) async fn lay_out(
    connection: &Connection,
    global: &Global,
    template: &str,
    function: &mut FunctionWords,
) -> Result<()> {
    add_packs(global)?;
    let known = all();
    let Some(template) = known.iter().find(|known| known.name() == template) else {
        let all: Vec<&str> = known.iter().map(Template::name).collect();
        bail!(
            "there is no template '{template}'; there are {}",
            all.join(", ")
        );
    };
    let (name, path) = match &function.words[..] {
        [name] => (name, name),
        [name, path] => (name, path),
        _ => bail!("say NAME [PATH] with --from-template; the image is said with --image"),
    };
    ensure!(
        function.flags.handler.is_none(),
        "a template knows its handler; leave out --handler"
    );
    // Nothing is written for what would be refused.
    Name::new(name)?;
    let (name, path) = (name.clone(), PathBuf::from(path));
    write(template, &name, &path)?;
    note(&format!("Wrote {}", path.display()));
    let flags = &mut function.flags;
    flags.handler = Some(template.handler.clone());
    if flags.image.is_none() {
        flags.image = Some(language::image(connection, template.language).await?);
    }
    function.words = vec![name, path.display().to_string()];
    Ok(())
}

fn write(template: &Template, name: &str, path: &Path) -> Result<()> {
    let empty = fs::read_dir(path).map_or(!path.exists(), |mut entries| entries.next().is_none());
    ensure!(
        empty,
        "{} is there already and not empty; nothing was written",
        path.display()
    );
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    for (file, bytes) in template.files(name) {
        let file = path.join(file);
        let runs = bytes.starts_with(b"#!");
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(if runs { 0o777 } else { 0o666 })
            .open(&file)
            .and_then(|mut out| out.write_all(&bytes))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_written_whole_and_never_over_something() {
        let dir = tempfile::tempdir().unwrap();
        for template in &all() {
            let path = dir.path().join(template.name());
            write(template, "hello", &path).unwrap();
            let readme = fs::read_to_string(path.join("README.md")).unwrap();
            assert!(readme.starts_with("# hello\n"), "{readme}");
            for file in template.files("hello").keys() {
                let text = fs::read_to_string(path.join(file)).unwrap();
                assert!(
                    !text.contains("{{"),
                    "{file} of {}: {text}",
                    template.name()
                );
            }
            fs::write(path.join("README.md"), "mine").unwrap();
            assert!(write(template, "hello", &path).is_err());
            assert_eq!(fs::read_to_string(path.join("README.md")).unwrap(), "mine");
        }
    }

    #[test]
    fn a_template_is_recognised_by_its_own_source() {
        let dir = tempfile::tempdir().unwrap();
        for template in &all() {
            let path = dir.path().join(template.name());
            write(template, "hello", &path).unwrap();
            let guess = language::guess(&path).unwrap();
            assert_eq!(guess.language, Some(template.language));
            assert_eq!(guess.handler.as_ref(), Some(&template.handler));
        }
    }
}
