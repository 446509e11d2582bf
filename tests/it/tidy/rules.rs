//! That every rule of the Open Service Broker API has its line, and every test that it names exists.

use std::collections::BTreeSet;

use super::none;
use super::tree::{File, files};

const PAGE: &str = "docs/osbapi.md";

/// Rules that bear a letter besides.
const LETTERED: [&str; 5] = ["P37a", "P37b", "P37c", "P37d", "P37e"];

fn rules() -> Vec<String> {
    let numbered = |letter: char, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let lettered = LETTERED.iter().map(|rule| (*rule).to_owned());
    numbered('P', 114)
        .chain(lettered)
        .chain(numbered('B', 71))
        .collect()
}

/// The names of all functions of the tests and sources.
fn functions(files: &[File]) -> BTreeSet<&str> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs"));
    let lines = sources.flat_map(|file| file.text.lines());
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("fn ")?;
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            Some(&rest[..end])
        })
        .collect()
}

fn findings(page: &str, functions: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [rule, what, kept, shown] = cells[..] else {
            found.push(format!("not four cells: {line}"));
            continue;
        };
        if rule == "rule" || rule == "answer" {
            continue;
        }
        if !seen.insert(rule.to_owned()) {
            found.push(format!("{rule} has two lines"));
        }
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let reason = kept.strip_prefix("not applicable: ");
        if what.is_empty() || kept.is_empty() {
            found.push(format!("{rule} does not say what it is, or what keeps it"));
        }
        match reason {
            Some(why) if why.len() < 10 => found.push(format!("{rule} does not say why not")),
            Some(_) => {}
            None if named.is_empty() => found.push(format!("{rule} names no test")),
            None => {}
        }
        for name in named.into_iter().filter(|name| !functions.contains(name)) {
            found.push(format!("{rule} names {name}, which does not exist"));
        }
    }
    let missing = rules().into_iter().filter(|rule| !seen.contains(rule));
    found.extend(missing.map(|rule| format!("{rule} has no line")));
    found
}

#[test]
fn every_rule_of_the_broker_api_has_a_line_that_names_a_test() {
    let files = files();
    let page = files.iter().find(|file| file.path == PAGE);
    let page = page.unwrap_or_else(|| panic!("{PAGE} is missing"));
    none(findings(&page.text, &functions(&files)));
}

#[test]
fn a_line_that_is_missing_and_a_test_that_does_not_exist_are_found() {
    let known = BTreeSet::from(["a_test"]);
    let all: String = rules()
        .iter()
        .map(|rule| format!("| {rule} | what | `f` | `a_test` |\n"))
        .collect();
    assert_eq!(findings(&all, &known), Vec::<String>::new());
    let cut = all.replacen("| P7 | what | `f` | `a_test` |\n", "", 1);
    assert_eq!(findings(&cut, &known), ["P7 has no line"]);
    let other = all.replacen("`a_test`", "`no_test`", 1);
    assert_eq!(findings(&other, &known).len(), 1);
    let bare = all.replacen("| `a_test` |", "| |", 1);
    assert_eq!(findings(&bare, &known).len(), 1, "{bare}");
    let excused = all.replacen(
        "| `f` | `a_test` |",
        "| not applicable: there is no such thing | |",
        1,
    );
    assert_eq!(findings(&excused, &known), Vec::<String>::new());
}
