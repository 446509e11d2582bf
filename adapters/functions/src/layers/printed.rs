//! What a build printed, as it lies in the blob store: after a line with the build's key. Its
//! digest is then that of no other build's log and of nothing else, whatever the tools print, so
//! that it can be removed without taking somebody else's blob.

use adapter_kit::Digest;

/// How the first line begins.
const FIRST: &str = "the build of ";

/// The bytes that are stored.
pub(super) fn stored(key: &Digest, text: &[u8]) -> Vec<u8> {
    [format!("{FIRST}{key}\n").as_bytes(), text].concat()
}

/// What a build printed, of the bytes that [`Built::log`](super::Built::log) names.
#[must_use]
pub fn printed(stored: &[u8]) -> &[u8] {
    let without = || {
        let rest = stored.strip_prefix(FIRST.as_bytes())?;
        let (key, text) = rest.split_at_checked(64)?;
        Digest::parse(str::from_utf8(key).ok()?)?;
        text.strip_prefix(b"\n")
    };
    without().unwrap_or(stored) // an earlier version stored the text alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_depends_on_the_key_and_is_shown_without_it() {
        let keys = [Digest::of(b"one"), Digest::of(b"other")];
        let [one, other] = keys.map(|key| stored(&key, b"said\n"));
        assert_ne!(Digest::of(&one), Digest::of(&other));
        for stored in [&one[..], &other, b"said\n"] {
            assert_eq!(printed(stored), b"said\n");
        }
        for other in ["the build of x\n", "the build of ", ""] {
            assert_eq!(printed(other.as_bytes()), other.as_bytes());
        }
    }
}
