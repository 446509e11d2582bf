//! What the settings of the node's owner hold of secrets, so that no log of a build repeats it.

use std::path::Path;
use std::sync::Arc;

use adapter_kit::LineSink;
use engine_model::LogLine;

/// A shorter value would be found in ordinary words.
const VALUE_BYTES_MIN: usize = 4;
/// How much is looked at of what a tool is configured by: links may lead to anything.
const DEPTH_MAX: usize = 4;
const FILES_MAX: usize = 1000;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What the name of a setting has in it whose value is a secret.
const NAMES: [&str; 6] = ["auth", "token", "pass", "secret", "credential", "apikey"];

/// Values that are not to be shown.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Takes note of a variable.
    pub(super) fn variable(&mut self, name: &str, value: &str) {
        if is_secret(name) {
            self.add(value);
        }
        self.of_urls(value);
    }

    /// Takes note of a configuration file: lines with `name=value` or `name: value`, and elements
    /// of XML.
    pub(super) fn file(&mut self, text: &str) {
        for line in text.lines() {
            for separator in ['=', ':'] {
                // The name of npm's own has a colon in it, the value may have an equals sign.
                for (at, _) in line.match_indices(separator) {
                    let (name, value) = (&line[..at], &line[at + 1..]);
                    if is_secret(name) && !value.starts_with("//") {
                        self.add(value.trim().trim_matches(['"', '\'']));
                    }
                }
            }
            let mut rest = line;
            while let Some((_, element)) = rest.split_once('<') {
                let Some((name, after)) = element.split_once('>') else {
                    break;
                };
                let (value, _) = after.split_once('<').unwrap_or((after, ""));
                if is_secret(name) {
                    self.add(value.trim());
                }
                rest = after;
            }
            self.of_urls(line);
        }
    }

    /// Takes note of the configuration files that are there, a folder's too.
    pub(super) fn files(&mut self, path: &Path) {
        let mut left = FILES_MAX;
        self.below(path, DEPTH_MAX, &mut left);
    }

    fn below(&mut self, path: &Path, depth: usize, left: &mut usize) {
        let Ok(about) = std::fs::metadata(path) else {
            return;
        };
        if about.is_dir() && depth > 0 {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                self.below(&entry.path(), depth - 1, left);
            }
        } else if about.is_file() && about.len() <= FILE_BYTES_MAX && *left > 0 {
            *left -= 1;
            if let Ok(content) = std::fs::read(path) {
                self.file(&String::from_utf8_lossy(&content));
            }
        }
    }

    fn of_urls(&mut self, text: &str) {
        for (at, _) in text.match_indices("://") {
            let after = &text[at + 3..];
            let end = after.find(|c: char| c == '/' || c.is_whitespace());
            let authority = &after[..end.unwrap_or(after.len())];
            if let Some((user, _)) = authority.rsplit_once('@') {
                let password = user.split_once(':').map_or(user, |(_, password)| password);
                self.add(password);
            }
        }
    }

    fn add(&mut self, value: &str) {
        let word = matches!(value, "true" | "false");
        if value.len() >= VALUE_BYTES_MIN && !word && !self.0.iter().any(|known| known == value) {
            self.0.push(value.to_owned());
            // A secret that another begins with must not leave the other's end.
            self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// The text without them, and without what URLs hold of users and passwords.
    pub(super) fn hide(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| text.replace(secret.as_str(), "***");
        self.0.iter().fold(without_passwords(text), hide)
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    NAMES.iter().any(|part| name.contains(part))
}

/// Passes lines on without secrets.
pub(super) struct Plain {
    pub(super) secrets: Secrets,
    pub(super) to: Arc<dyn LineSink>,
}

impl LineSink for Plain {
    fn line(&self, line: LogLine) -> bool {
        let text = self.secrets.hide(&line.text);
        self.to.line(LogLine { text, ..line })
    }
}

fn without_passwords(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        plain.push_str(before);
        let authority = after
            .find(|c: char| c == '/' || c.is_whitespace())
            .unwrap_or(after.len());
        let user = after[..authority].rfind('@').map_or(0, |end| end + 1);
        if user > 0 {
            plain.push_str("***@");
        }
        rest = &after[user..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_not_repeated() {
        let said = "Looking in https://joe:s3cret@host/simple, http://host/x and ftp://t0ken@h";
        assert_eq!(
            Secrets::default().hide(said),
            "Looking in https://***@host/simple, http://host/x and ftp://***@h"
        );
    }

    #[test]
    fn folders_and_files_of_settings_are_searched_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("conf.d/more");
        std::fs::create_dir_all(&below).expect("it is ours");
        std::os::unix::fs::symlink(folder.path(), below.join("loop")).expect("it is ours");
        std::fs::write(below.join("a"), b"password = f1rst\n\xff\n").expect("it is ours");
        let file = folder.path().join("pip.conf");
        std::fs::write(&file, "token: sec0nd").expect("it is ours");
        let mut secrets = Secrets::default();
        secrets.files(&file);
        secrets.files(&folder.path().join("absent"));
        assert_eq!(secrets.hide("f1rst sec0nd"), "f1rst ***");
        secrets.files(&folder.path().join("conf.d"));
        assert_eq!(secrets.hide("f1rst sec0nd"), "*** ***");
    }

    #[test]
    fn what_the_owners_settings_hold_is_not_repeated_wherever_it_appears() {
        let mut secrets = Secrets::default();
        secrets.variable("PIP_INDEX_URL", "https://joe:f1rst@host/simple");
        secrets.variable("NPM_CONFIG__AUTH", "c2Vjb25k");
        secrets.variable("PIP_RETRIES", "1000");
        secrets.file("//host/:_authToken=npm_Th1rd=\nregistry=https://host/\n");
        secrets
            .file("<server><id>x</id><username>joe</username><password>f0urth</password></server>");
        secrets.file("password: \"f1fth\"\nalways-auth=true\ntrusted: everyone");
        let said = "true f1rst c2Vjb25k npm_Th1rd= f0urth f1fth joe 1000 https://host/ everyone";
        assert_eq!(
            secrets.hide(said),
            "true *** *** *** *** *** joe 1000 https://host/ everyone"
        );
    }
}
