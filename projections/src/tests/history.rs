//! Everything that happened to a resource.

use super::fixture::*;
use crate::history::entries;

#[test]
fn a_history_tells_who_when_why_and_what_without_secrets() {
    let tape = story();
    let broker: Vec<_> = tape
        .0
        .iter()
        .filter(|one| one.commit.key.name.as_str() == "azure")
        .flat_map(entries)
        .collect();
    insta::assert_json_snapshot!("history_of_a_broker", broker);
    let all: Vec<_> = tape.0.iter().flat_map(entries).collect();
    let text = serde_json::to_string(&all).unwrap();
    for canary in ["Y2lwaGVy", "bm9uY2U=", "c0ffee"] {
        assert!(!text.contains(canary), "{canary}");
    }
}

#[test]
fn an_event_without_data_has_a_name_all_the_same() {
    let mut tape = story();
    tape.instance("azure-pg", engine_model::InstanceEvent::DeleteRequested);
    let last = entries(tape.0.last().unwrap()).pop().unwrap();
    assert_eq!(
        (last.event.as_str(), last.data),
        ("DeleteRequested", serde_json::json!({}))
    );
}
