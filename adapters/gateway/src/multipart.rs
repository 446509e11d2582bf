//! The parts of a `multipart/form-data` body that is already in memory.

use crate::media::Media;

/// A field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) content: &'a [u8],
}

/// Splits a body at its boundary; `None` when it is not a well-formed form.
pub(crate) fn parse<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    if boundary.is_empty() {
        return None;
    }
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => split(body, &delimiter)?.1,
    };
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let padding = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        // The line's end stays, so that a part without headers begins like one with them.
        let (head, after) = split(&rest[padding..], b"\r\n\r\n")?;
        let (content, after) = split(after, &delimiter)?;
        parts.push(Part {
            name: name(head.strip_prefix(b"\r\n")?)?,
            content,
        });
        rest = after;
    }
}

/// The field's name in a part's headers.
fn name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let (_, disposition) = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(header, _)| header.trim().eq_ignore_ascii_case("content-disposition"))?;
    let disposition = Media::parse(disposition);
    let name = disposition
        .param("name")
        .filter(|_| disposition.essence == "form-data")?;
    // Browsers write a quote in a name this way.
    Some(name.replace("%22", "\""))
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..start], &bytes[start + at.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<&[(&str, &str)]>) {
        let body = body.replace('\n', "\r\n");
        let parts = parse(body.as_bytes(), "XX");
        let found: Option<Vec<_>> = parts.as_ref().map(|parts| {
            let text = |part: &Part<'_>| String::from_utf8(part.content.to_vec()).expect("utf-8");
            parts
                .iter()
                .map(|part| (part.name.clone(), text(part)))
                .collect()
        });
        let expected = expected.map(|all| {
            all.iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect()
        });
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn a_form_is_split_into_its_fields() {
        check(
            "preamble\n--XX \nContent-Disposition: form-data; name=\"a\"\n\n1\n--X\n2\n\
             --XX\ncontent-type: text/plain\ncontent-disposition: form-data; name=b%22; \
             filename=\"x;y\"\n\n\n--XX--\nepilogue",
            Some(&[("a", "1\r\n--X\r\n2"), ("b\"", "")]),
        );
        check("--XX--", Some(&[]));
        check("--XX--\n", Some(&[]));
    }

    #[test]
    fn what_is_not_a_form_is_refused() {
        check("", None);
        check("hello", None);
        check("--XX", None);
        check("--XX\n\nno headers\n--XX--", None);
        check(
            "--XX\nContent-Disposition: form-data; name=\"a\"\n\nno end",
            None,
        );
        check(
            "--XX\nContent-Disposition: attachment; name=\"a\"\n\n1\n--XX--",
            None,
        );
        check("--XX\nContent-Disposition: form-data\n\n1\n--XX--", None);
        check(
            "--XXa\nContent-Disposition: form-data; name=\"a\"\n\n1\n--XX--",
            None,
        );
        assert_eq!(parse(b"--", ""), None);
    }
}
