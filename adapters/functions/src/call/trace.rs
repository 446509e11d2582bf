//! Errors as the function's author reads them: paths are relative to the source, and what is not
//! the author's is left out.

use crate::packs::language::FUNCTION_DIR;

/// A text in which the source's files are named as in the source.
pub(crate) fn relative(text: &str) -> String {
    if !text.contains(FUNCTION_DIR) {
        return text.to_owned();
    }
    let folder = format!("{FUNCTION_DIR}/");
    text.replace(&format!("file://{folder}"), "")
        .replace(&folder, "")
}

/// A stack trace without the frames of the interpreter's own machinery.
pub(crate) fn of_author(lines: &[impl AsRef<str>]) -> Vec<String> {
    let own = |line: &&str| {
        let line = line.trim_start();
        !(line.starts_with("at ") && line.contains("node:internal/"))
    };
    lines
        .iter()
        .map(AsRef::as_ref)
        .filter(own)
        .map(relative)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_within_the_source_is_relative_to_it_and_another_one_stays() {
        let lines = [
            "Error: broke",
            "    at inner (/tmp/function/lib/deep.js:3:11)",
            "    at file:///tmp/function/main.mjs:1:1",
            "    at other (/node_modules/x/index.js:1:1)",
            "    at Module._compile (node:internal/modules/cjs/loader:1554:14)",
            "    at /tmp/functions/x.js:1:1",
        ]
        .map(String::from);
        assert_eq!(
            of_author(&lines),
            [
                "Error: broke",
                "    at inner (lib/deep.js:3:11)",
                "    at main.mjs:1:1",
                "    at other (/node_modules/x/index.js:1:1)",
                "    at /tmp/functions/x.js:1:1",
            ]
        );
    }
}
