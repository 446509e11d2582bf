//! The version of the API that requests announce. What a broker refuses is tried with older ones
//! only when its catalog is read, which changes nothing; anything else is told to a person.

use crate::endpoint::ApiVersion;
use crate::verdict::{Answer, Progress, Refusal};

/// The oldest minor version that is spoken: before it the context was another.
const MINOR_MIN: u16 = 12;

/// The version on record, or the newest.
pub(super) fn announced(on_record: Option<&str>) -> ApiVersion {
    on_record
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// What to try, in this order: the one on record, then from the newest down.
pub(super) fn candidates(on_record: Option<&str>) -> Vec<ApiVersion> {
    let first = announced(on_record);
    let newest = ApiVersion::default();
    let older = (MINOR_MIN..=newest.minor)
        .rev()
        .map(|minor| ApiVersion { minor, ..newest })
        .filter(|version| *version != first);
    std::iter::once(first).chain(older).collect()
}

/// Whether the broker refuses the version: 412, or 400 with the header's name.
pub(super) fn is_refused(refusal: &Refusal) -> bool {
    refusal.status == 412 || (refusal.status == 400 && names_version(&refusal.description))
}

fn names_version(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["x-broker-api-version", "api version", "api-version"]
        .iter()
        .any(|name| text.contains(name))
}

/// An answer whose refusal of the version says which one was sent.
pub(super) fn named<T>(answer: Answer<T>, sent: ApiVersion) -> Answer<T> {
    match answer {
        Answer::Rejected(refusal) if is_refused(&refusal) => Answer::Rejected(Refusal {
            description: told(sent, &refusal.description),
            ..refusal
        }),
        other => other,
    }
}

/// The same of a poll.
pub(super) fn named_poll(progress: Progress, sent: ApiVersion) -> Progress {
    match progress {
        Progress::Unclear {
            status: Some(status @ (400 | 412)),
            reason,
            retry_after,
        } if status == 412 || names_version(&reason) => Progress::Unclear {
            status: Some(status),
            reason: told(sent, &reason),
            retry_after,
        },
        other => other,
    }
}

/// No version is taken; `first` is what the broker said of the first one.
pub(super) fn none(first: &str) -> String {
    let ApiVersion { major, minor } = ApiVersion::default();
    format!("no version from {major}.{minor} down to {major}.{MINOR_MIN} is taken: {first}")
}

fn told(sent: ApiVersion, said: &str) -> String {
    format!("the broker does not take version {sent} of the API: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, description: &str) -> Refusal {
        Refusal {
            status,
            code: None,
            description: description.to_owned(),
            instance_usable: true,
            update_repeatable: true,
        }
    }

    #[test]
    fn the_version_on_record_comes_first_and_then_all_from_the_newest_down() {
        let tried = |on_record| {
            let versions = candidates(on_record);
            versions.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let all = ["2.17", "2.16", "2.15", "2.14", "2.13", "2.12"];
        assert_eq!(tried(None), all);
        assert_eq!(tried(Some("nonsense")), all);
        let known = ["2.14", "2.17", "2.16", "2.15", "2.13", "2.12"];
        assert_eq!(tried(Some("2.14")), known);
    }

    #[test]
    fn a_refused_version_is_told_from_other_refusals() {
        assert!(is_refused(&refusal(412, "whatever")));
        assert!(is_refused(&refusal(400, "missing X-Broker-API-Version")));
        assert!(is_refused(&refusal(400, "Unsupported API version")));
        assert!(!is_refused(&refusal(400, "bad parameters")));
        assert!(!is_refused(&refusal(403, "X-Broker-API-Version")));
    }

    #[test]
    fn a_refusal_names_the_version_that_was_sent_and_what_the_broker_said() {
        let sent = "2.15".parse().unwrap();
        let answer = named::<()>(Answer::Rejected(refusal(412, "I want 2.11")), sent);
        let Answer::Rejected(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert!(refusal.description.contains("2.15") && refusal.description.contains("2.11"));
        let unclear = |status, reason: &str| Progress::Unclear {
            status: Some(status),
            reason: reason.to_owned(),
            retry_after: None,
        };
        let Progress::Unclear { reason, .. } = named_poll(unclear(412, "I want 2.11"), sent) else {
            panic!("unclear it stays")
        };
        assert!(
            reason.contains("2.15") && reason.contains("2.11"),
            "{reason}"
        );
        let other = unclear(400, "bad operation");
        assert_eq!(named_poll(other.clone(), sent), other);
    }
}
