//! Polls, and all that they can be answered with.

use adapter_osb::fake::{Options, Pace};
use engine_model::Kind;
use harness::faulty::{Fault, On};

use crate::osb::bed::Bed;
use crate::osb::run::at_once;

fn slow(polls: u32) -> Bed {
    Bed::with(Options {
        pace: Pace::Polls(polls),
        ..Options::default()
    })
}

/// As long as the API allows, with all that a URL reserves and a letter that is no ASCII.
fn operation() -> String {
    let mut text = "a/b?c=d&e#f+g %41ü\"<>;:@".repeat(500);
    text = text.chars().take(10_000).collect();
    assert_eq!(text.chars().count(), 10_000);
    text
}

/// 9: what the broker calls its operation is kept with the operation: it survives polls, a crash,
/// and another request's refusal, and comes back exactly as it was given.
#[test]
pub(crate) fn story_09_an_operation_of_ten_thousand_characters_comes_back_with_every_poll() {
    let mut bed = slow(2);
    let operation = operation();
    bed.broker.set_operation(Some(&operation));
    bed.order("db");
    bed.eventually("it is polled", || bed.broker.count(On::PollInstance) > 0);
    bed.crash();
    bed.until_ready("db");
    bed.goes("db");
    let polls = [On::PollInstance, On::PollBinding].map(|on| bed.broker.sent(on));
    for poll in polls.iter().flatten() {
        assert_eq!(poll.query.get("operation"), Some(&operation));
    }
    assert!(polls.iter().all(|polls| polls.len() > 4), "{}", bed.story());
}

/// 9: a broker that gives no name to its operation is polled without one.
#[test]
pub(crate) fn story_09_an_operation_without_a_name_is_polled_without_one() {
    let bed = slow(1);
    bed.broker.set_operation(None);
    bed.order("db");
    bed.lives_and_goes("db");
    for poll in bed.broker.sent(On::PollInstance) {
        assert_eq!(poll.query.get("operation"), None, "{}", poll.target);
    }
}

/// All that is no answer to a poll.
fn nonsense() -> Vec<Fault> {
    vec![
        Fault::html(502),
        Fault::error(500, "Boom", "try later"),
        Fault::error(400, "BadRequest", "which operation?"),
        Fault::say(401, ""),
        Fault::say(404, "{}"),
        Fault::say(410, "{}"),
        Fault::reset_unread(),
        Fault::reset(),
        Fault::half_head(),
        Fault::half_body(),
        Fault::redirect("/elsewhere"),
        Fault::say(204, ""),
        Fault::huge(3 << 20),
    ]
}

/// 10: one poll, or a dozen, that go wrong end nothing.
#[test]
pub(crate) fn story_10_polls_that_go_wrong_do_not_end_what_the_broker_goes_on_with() {
    let bed = slow(4);
    bed.broker.script(On::PollInstance, nonsense());
    bed.broker.script(On::PollBinding, nonsense());
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    let events = bed.events(Kind::ServiceInstance, "db");
    assert!(
        !events.contains(&"ProvisionFailed".to_owned()),
        "{events:?}"
    );
    bed.lives_and_goes("db");
}

/// 11: a deletion that is done is polled by 404. The deletion is asked for again, and its answer
/// counts.
#[test]
pub(crate) fn story_11_a_deletion_whose_poll_finds_nothing_is_asked_for_again() {
    let bed = slow(0);
    bed.order("db");
    bed.until_ready("db");
    for poll in [On::PollBinding, On::PollInstance] {
        bed.broker.script(poll, [Fault::say(404, "{}").applied()]);
    }
    bed.delete("db");
    bed.until_gone("db");
    for on in [On::Unbind, On::Deprovision] {
        let sent = bed.broker.sent(on);
        assert_eq!(sent.len(), 2, "{}", bed.story());
        assert_eq!(sent[1].status, Some(410), "{}", bed.story());
    }
    bed.nothing_is_left(&["db"]);
}

/// 12: 200, and a body that says nothing. It is shown, and asked again.
#[test]
pub(crate) fn story_12_a_poll_without_a_state_is_shown_and_asked_again() {
    let page = "<html><body>Whoops</body></html>";
    let bodies = [
        ("null", "not an object"),
        (page, "markup"),
        ("{}", "state"),
        (r#"{"state": "almost"}"#, "state"),
        ("", "empty"),
    ];
    at_once(bodies, |(body, shows)| {
        let bed = slow(1);
        let vague = || Fault::say(200, body);
        bed.broker
            .script(On::PollInstance, [vague(), vague(), vague()]);
        bed.order("db");
        let shown = bed.until(Kind::ServiceInstance, "db", "says why", |shown| {
            shown.reason().contains("no valid answer to a poll")
        });
        assert!(shown.reason().contains(shows), "{body}: {shown:?}");
        assert!(!shown.reason().contains("<html"), "{shown:?}");
        bed.until_ready("db");
        assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
        bed.lives_and_goes("db");
    });
}

/// A broker that says one thing and then another: what is over is over.
#[test]
pub(crate) fn a_state_that_flips_after_the_end_is_not_asked_for() {
    let bed = slow(0);
    let flips = [
        Fault::state("in progress", "making it"),
        Fault::state("in progress", "")
            .header("content-type", "text/plain")
            .header("retry-after", "0"),
        Fault::none(),
        Fault::state("failed", "after all"),
    ];
    bed.broker.script(On::PollInstance, flips);
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.broker.count(On::PollInstance), 3, "{}", bed.story());
    bed.broker.heal();
    bed.lives_and_goes("db");
}

/// A broker that answers slowly, as text, or at length is a broker all the same.
#[test]
pub(crate) fn an_answer_that_comes_slowly_as_text_or_at_length_is_an_answer() {
    let bed = slow(0);
    let drip = std::time::Duration::from_micros(200);
    bed.broker.script(On::Provision, [Fault::drip(drip)]);
    let text = Fault::content_type("text/html; charset=iso-8859-1");
    bed.broker.script(On::PollInstance, [text]);
    bed.broker.script(On::Bind, [Fault::huge(50_000)]);
    bed.order("db");
    bed.until_ready("db");
    assert_eq!(bed.changes(), [On::Provision, On::Bind], "{}", bed.story());
    bed.lives_and_goes("db");
}
