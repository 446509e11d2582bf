//! Reads a page into the steps of a story.
//!
//! A fenced block of language `console` holds commands, each after `$ `; a line that ends in a
//! backslash goes on in the next one. The block's other lines show what the answer looks like.
//! Comments below a block are about its last command:
//!
//! ```text
//! <!-- expect: TEXT -->            the answer contains the text
//! <!-- expect-not: TEXT -->        it does not
//! <!-- expect-json: $.a[0].b == 1 -->   so does the JSON on standard output
//! <!-- exit: 1 -->                 it ends with this number, and not with 0
//! <!-- within: 300 -->             seconds that it may take, and not 60
//! <!-- background: TEXT -->        it goes on, and is ready when it has said the text
//! <!-- take-down -->               from here on everything is taken away
//! ```

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::expect::Expectation;

/// How long a command may take unless its page says otherwise.
const WITHIN: Duration = Duration::from_secs(60);

/// A part of a story.
pub(super) enum Part {
    /// A section begins.
    Heading(String),
    /// A command.
    Step(Step),
    /// From here on everything is taken away.
    TakeDown,
}

/// A command, and what it has to answer.
#[derive(Debug)]
pub(super) struct Step {
    /// Where it stands on the page.
    pub(super) line: usize,
    pub(super) command: String,
    /// What it says when it is ready, if it is to go on.
    pub(super) background: Option<String>,
    pub(super) expectations: Vec<Expectation>,
    pub(super) exit: i32,
    pub(super) within: Duration,
}

/// Reads a page.
pub(super) fn parse(page: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut fence: Option<bool> = None;
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let number = at + 1;
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() {
                None
            } else {
                Some(language.trim() == "console")
            };
            continue;
        }
        match fence {
            Some(true) => {
                if let Some(begin) = line.strip_prefix("$ ") {
                    let mut command = begin.to_owned();
                    while command.ends_with('\\') {
                        let (_, next) = lines.next().context("a command goes on after the end")?;
                        command.push('\n');
                        command.push_str(next);
                    }
                    parts.push(Part::Step(Step::new(number, command)));
                }
            }
            Some(false) => {}
            None if line.starts_with('#') => {
                parts.push(Part::Heading(
                    line.trim_start_matches(['#', ' ']).to_owned(),
                ));
            }
            None if line.starts_with("<!--") => {
                let inner = line
                    .strip_prefix("<!--")
                    .and_then(|rest| rest.strip_suffix("-->"));
                let inner =
                    inner.with_context(|| format!("line {number}: the comment does not end"))?;
                directive(inner.trim(), &mut parts).with_context(|| format!("line {number}"))?;
            }
            None => {}
        }
    }
    Ok(parts)
}

fn directive(text: &str, parts: &mut Vec<Part>) -> Result<()> {
    if text == "take-down" {
        parts.push(Part::TakeDown);
        return Ok(());
    }
    let (word, rest) = text
        .split_once(':')
        .with_context(|| format!("'{text}' says nothing"))?;
    let rest = rest.trim();
    let Some(Part::Step(step)) = parts.last_mut() else {
        bail!("'{text}' is about no command");
    };
    match word {
        "expect" => step.expectations.push(Expectation::Says(rest.into())),
        "expect-not" => step.expectations.push(Expectation::SaysNot(rest.into())),
        "expect-json" => step.expectations.push(Expectation::json(rest)?),
        "exit" => step.exit = rest.parse()?,
        "within" => step.within = Duration::from_secs(rest.parse()?),
        "background" => step.background = Some(rest.into()),
        other => bail!("'{other}' is no word of a story"),
    }
    Ok(())
}

impl Step {
    pub(super) fn new(line: usize, command: String) -> Self {
        Self {
            line,
            command,
            background: None,
            expectations: Vec::new(),
            exit: 0,
            within: WITHIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(page: &str) -> Vec<Step> {
        let step = |part| match part {
            Part::Step(step) => Some(step),
            Part::Heading(_) | Part::TakeDown => None,
        };
        parse(page).unwrap().into_iter().filter_map(step).collect()
    }

    #[test]
    fn commands_and_what_is_said_of_them_are_read() {
        let page = "# A\n```console\n$ one \\\n  more\nanswer\n$ two\n```\n<!-- expect: x y -->\n\
                    <!-- within: 5 -->\n```sh\n$ not this\n```\n";
        let steps = steps(page);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].command, "one \\\n  more");
        assert_eq!((steps[1].command.as_str(), steps[1].line), ("two", 6));
        assert_eq!(steps[1].within, Duration::from_secs(5));
        assert_eq!(steps[1].expectations.len(), 1);
        assert!(steps[0].expectations.is_empty());
    }

    #[test]
    fn a_comment_that_is_not_understood_is_refused() {
        let page = "```console\n$ one\n```\n<!-- expekt: x -->\n";
        assert!(parse(page).is_err());
        assert!(parse("<!-- expect: x -->\n").is_err());
    }
}
