//! What a function can be begun from: a folder of `cli/templates` for each language.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use engine_model::Name;
use serde_json::{Value, json};

use super::language;
use crate::args::{FunctionWords, Global};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::{Format, note, print_data, print_table};

/// A starter.
struct Template {
    /// The language, as base images label it.
    name: &'static str,
    about: &'static str,
    source: (&'static str, &'static str),
    handler: &'static str,
    /// The language's own list of dependencies, if it has one.
    manifest: Option<(&'static str, &'static str)>,
    input: &'static str,
}

/// The files of a folder below `cli/templates`.
macro_rules! file {
    ($folder:literal, $name:literal) => {
        (
            $name,
            include_str!(concat!("../../templates/", $folder, "/", $name)),
        )
    };
}

const README: &str = include_str!("../../templates/README.md");

const TEMPLATES: &[Template] = &[
    Template {
        name: "python3",
        about: "Python, with a requirements.txt",
        source: file!("python3", "handler.py"),
        handler: "handler.handle",
        manifest: Some(file!("python3", "requirements.txt")),
        input: file!("python3", "input.json").1,
    },
    Template {
        name: "nodejs",
        about: "JavaScript for Node, with a package.json",
        source: file!("nodejs", "handler.js"),
        handler: "./handler.js",
        manifest: Some(file!("nodejs", "package.json")),
        input: file!("nodejs", "input.json").1,
    },
    Template {
        name: "java",
        about: "Java, with a pom.xml",
        source: file!("java", "Handler.java"),
        handler: "Handler",
        manifest: Some(file!("java", "pom.xml")),
        input: file!("java", "input.json").1,
    },
    Template {
        name: "powershell",
        about: "PowerShell, with a requirements.psd1",
        source: file!("powershell", "handler.ps1"),
        handler: "./handler.ps1::handle",
        manifest: Some(file!("powershell", "requirements.psd1")),
        input: file!("powershell", "input.json").1,
    },
    Template {
        name: "binary",
        about: "any executable, begun as a shell script",
        source: file!("binary", "handler.sh"),
        handler: "./handler.sh",
        manifest: None,
        input: file!("binary", "input.json").1,
    },
];

/// Shows the templates.
pub(super) fn list(global: &Global) -> Result<Exit> {
    if global.format() != Format::Table {
        let all = TEMPLATES.iter().map(|template| {
            json!({
                "name": template.name,
                "about": template.about,
                "handler": template.handler,
                "files": files(template, "NAME").map(|(name, _)| name).collect::<Vec<_>>(),
            })
        });
        print_data(global.format(), &Value::Array(all.collect()))?;
        return Ok(Exit::Done);
    }
    let row = |template: &Template| {
        let files: Vec<String> = files(template, "NAME").map(|(name, _)| name).collect();
        vec![
            template.name.to_owned(),
            template.about.to_owned(),
            files.join(" "),
        ]
    };
    print_table(
        &["Template", "For", "Files"],
        TEMPLATES.iter().map(row).collect(),
    )?;
    Ok(Exit::Done)
}

/// Writes a template's files, and puts into `function` what makes a function of them.
pub(super) async fn lay_out(
    connection: &Connection,
    template: &str,
    function: &mut FunctionWords,
) -> Result<()> {
    let Some(template) = TEMPLATES.iter().find(|known| known.name == template) else {
        let all: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
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
    flags.handler = Some(template.handler.to_owned());
    if flags.image.is_none() {
        flags.image = Some(language::image(connection, template.name).await?);
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
    for (file, text) in files(template, name) {
        let file = path.join(file);
        let runs = text.starts_with("#!");
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(if runs { 0o777 } else { 0o666 })
            .open(&file)
            .and_then(|mut out| out.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// All files of a template, filled in.
fn files(template: &Template, name: &str) -> impl Iterator<Item = (String, String)> {
    let manifest = template
        .manifest
        .map(|(file, _)| format!("| `{file}` | what it depends on |\n"));
    let pairs = [
        ("{{name}}", name.to_owned()),
        ("{{template}}", template.name.to_owned()),
        ("{{source}}", template.source.0.to_owned()),
        ("{{handler}}", template.handler.to_owned()),
        ("{{manifest}}", manifest.unwrap_or_default()),
    ];
    let fill = move |text: &str| {
        let fill = |text: String, (mark, value): &(&str, String)| text.replace(mark, value);
        pairs.iter().fold(text.to_owned(), fill)
    };
    let all = [
        Some(template.source),
        template.manifest,
        Some(("input.json", template.input)),
        Some(("README.md", README)),
    ];
    let filled = |(file, text): (&str, &str)| (file.to_owned(), fill(text));
    let all: Vec<_> = all.into_iter().flatten().map(filled).collect();
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_written_whole_and_never_over_something() {
        let dir = tempfile::tempdir().unwrap();
        for template in TEMPLATES {
            let path = dir.path().join(template.name);
            write(template, "hello", &path).unwrap();
            let readme = fs::read_to_string(path.join("README.md")).unwrap();
            assert!(readme.starts_with("# hello\n"), "{readme}");
            for (file, _) in files(template, "hello") {
                let text = fs::read_to_string(path.join(&file)).unwrap();
                assert!(!text.contains("{{"), "{file} of {}: {text}", template.name);
            }
            fs::write(path.join("README.md"), "mine").unwrap();
            assert!(write(template, "hello", &path).is_err());
            assert_eq!(fs::read_to_string(path.join("README.md")).unwrap(), "mine");
        }
    }

    #[test]
    fn a_template_is_recognised_by_its_own_source() {
        let dir = tempfile::tempdir().unwrap();
        for template in TEMPLATES {
            let path = dir.path().join(template.name);
            write(template, "hello", &path).unwrap();
            let guess = language::guess(&path).unwrap();
            assert_eq!(guess.language, Some(template.name));
            assert_eq!(guess.handler.as_deref(), Some(template.handler));
        }
    }
}
