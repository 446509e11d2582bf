//! That the pages are complete, and lead somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use clap::CommandFactory;
use dispatch_cli::args::Cli;
use engine_model::{Code, Command, Query, RunCommand};

use super::none;
use super::tree::{File, files, root};

/// Pages of `docs/errors/` that are no code's, besides the index.
const INDEX: &str = "docs/errors/README.md";

fn error_pages(files: &[File], codes: &[&str]) -> Vec<String> {
    let page = |code: &str| format!("docs/errors/{code}.md");
    let mut found = Vec::new();
    for code in codes {
        match files.iter().find(|file| file.path == page(code)) {
            None => found.push(format!("{} is missing", page(code))),
            Some(file) => {
                let heading = format!("# {code}\n");
                if !file.text.starts_with(&heading) {
                    found.push(format!("{} does not begin with {heading:?}", file.path));
                }
                for section in ["## What it means", "## What to check", "## Example"] {
                    if !file.text.contains(section) {
                        found.push(format!("{} lacks '{section}'", file.path));
                    }
                }
            }
        }
    }
    let extra = files.iter().filter(|file| {
        file.path.starts_with("docs/errors/")
            && file.path != INDEX
            && !codes.iter().any(|code| page(code) == file.path)
    });
    found.extend(extra.map(|file| format!("{} is no code's page", file.path)));
    found
}

/// A link of a page: where it leads, and on which line it stands.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push((number + 1, &rest[..end]));
            }
        }
    }
    found
}

/// A heading as its anchor: lower case, words joined by dashes, other characters dropped.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let dashed = |c: char| if c == ' ' { '-' } else { c };
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(dashed)
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Joins a link to the page that it stands on.
fn target(page: &str, link: &str) -> String {
    let mut path = PathBuf::new();
    let parent = Path::new(page).parent().unwrap_or(Path::new(""));
    for part in parent.join(link).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path.display().to_string()
}

fn dead_links(files: &[File], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for page in files.iter().filter(|file| file.ends_with(".md")) {
        for (number, link) in links(&page.text) {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() {
                page.path.clone()
            } else {
                target(&page.path, path)
            };
            if !exists(&path) {
                found.push(format!(
                    "{}:{number} leads to {path}, which is not there",
                    page.path
                ));
                continue;
            }
            let known = files.iter().find(|file| file.path == path);
            if !fragment.is_empty()
                && known.is_none_or(|file| !anchors(&file.text).contains(fragment))
            {
                found.push(format!(
                    "{}:{number} leads to no heading of {path}: #{fragment}",
                    page.path
                ));
            }
        }
    }
    found
}

/// Every command has a section of the page, and every flag of it is named there.
fn undocumented(page: &str, cli: &clap::Command) -> Vec<String> {
    let mut found = Vec::new();
    commands(page, "dispatch", cli, &mut found);
    found
}

fn commands(page: &str, path: &str, command: &clap::Command, found: &mut Vec<String>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        let words = path.trim_start_matches("dispatch ");
        let Some(section) = section(page, words) else {
            found.push(format!("docs/cli.md has no section '{words}'"));
            continue;
        };
        for flag in sub.get_arguments().filter(|flag| !flag.is_hide_set()) {
            if let Some(long) = flag.get_long()
                && !flag.is_global_set()
                && !section.contains(&format!("`--{long}"))
            {
                found.push(format!("docs/cli.md does not name --{long} of '{words}'"));
            }
        }
        commands(page, &path, sub, found);
    }
}

/// The text below the heading that is `words` in backticks, up to the next heading.
fn section<'a>(page: &'a str, words: &str) -> Option<&'a str> {
    let heading = format!("# `{words}`\n");
    let begin = page.find(&heading)? + heading.len();
    let rest = &page[begin..];
    Some(rest.find("\n#").map_or(rest, |end| &rest[..end]))
}

/// The blocks of `docs/nats.md` that say what they are, and cannot be read as that.
fn misleading(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut blocks = page.split("\n```json ").skip(1).peekable();
    assert!(blocks.peek().is_some(), "the page has examples");
    for block in blocks {
        let Some((what, rest)) = block.split_once('\n') else {
            continue;
        };
        let text = rest.split("\n```").next().unwrap_or_default();
        let read = match what {
            "command" => serde_json::from_str::<Command>(text).map(drop),
            "run" => serde_json::from_str::<RunCommand>(text).map(drop),
            "query" => serde_json::from_str::<Query>(text).map(drop),
            other => {
                found.push(format!("docs/nats.md: nobody can read a {other}"));
                continue;
            }
        };
        if let Err(error) = read {
            found.push(format!("docs/nats.md: {text} is no {what}: {error}"));
        }
    }
    found
}

#[test]
fn every_example_of_a_message_can_be_read() {
    let files = files();
    let page = files
        .iter()
        .find(|file| file.path == "docs/nats.md")
        .expect("it is there");
    none(misleading(&page.text));
}

#[test]
fn every_error_code_has_its_page() {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    none(error_pages(&files(), &codes));
}

#[test]
fn every_link_leads_somewhere() {
    let root = root();
    none(dead_links(&files(), &|path| root.join(path).exists()));
}

#[test]
fn every_command_and_flag_is_on_the_page() {
    let files = files();
    let page = files
        .iter()
        .find(|file| file.path == "docs/cli.md")
        .expect("docs/cli.md is there");
    let cli = Cli::command();
    let mut found = undocumented(&page.text, &cli);
    let global = section(&page.text, "dispatch").unwrap_or_default();
    for flag in cli.get_arguments().filter_map(clap::Arg::get_long) {
        if !global.contains(&format!("`--{flag}")) {
            found.push(format!(
                "docs/cli.md does not name --{flag} in section 'dispatch'"
            ));
        }
    }
    none(found);
}

#[test]
fn each_gap_is_found() {
    let whole = "# busy\n\n## What it means\n## What to check\n## Example\n";
    let page = |path: &str, text: &str| File::new(path, text);
    let good = [page("docs/errors/busy.md", whole), page(INDEX, "")];
    assert_eq!(error_pages(&good, &["busy"]).len(), 0);
    assert_eq!(
        error_pages(&good, &["busy", "in-use"]),
        ["docs/errors/in-use.md is missing"]
    );
    assert_eq!(
        error_pages(&good, &[]),
        ["docs/errors/busy.md is no code's page"]
    );
    assert_eq!(
        error_pages(&[page("docs/errors/busy.md", "# busy\n")], &["busy"]).len(),
        3
    );

    let files = [
        page(
            "README.md",
            "[a](docs/a.md#one-two) [b](docs/b.md) [c](docs/a.md#three) [d](#x)",
        ),
        page(
            "docs/a.md",
            "# One, two\n```\n[no](link)\n```\n[up](../README.md)",
        ),
    ];
    let dead = dead_links(&files, &|path| path == "README.md" || path == "docs/a.md");
    assert_eq!(dead.len(), 3, "{dead:?}");

    assert_eq!(misleading("\n```json command\n\"Retry\"\n```").len(), 0);
    assert_eq!(misleading("\n```json command\n\"Retri\"\n```").len(), 1);

    let cli = clap::Command::new("dispatch")
        .subcommand(clap::Command::new("up").arg(clap::Arg::new("x").long("exact")));
    assert_eq!(undocumented("## `up`\n\n`--exact`\n", &cli).len(), 0);
    assert_eq!(
        undocumented("## `up`\n\n## `down`\n`--exact`\n", &cli).len(),
        1
    );
    assert_eq!(undocumented("", &cli), ["docs/cli.md has no section 'up'"]);
}
