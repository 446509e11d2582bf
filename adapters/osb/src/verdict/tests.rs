//! The specification's table of orphan mitigation, a test per block of rows, and the statuses.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::reply::{Body, Headers, Reply, What};
use crate::text::Hide;
use crate::wire::Hidden;

const GOOD: &str = "{}";
const BAD: [&str; 6] = ["", "null", "[]", "\"x\"", "<html>", "{\"half"];

fn reply(what: What) -> Reply {
    Reply {
        what,
        hide: Hide::new([Hidden::new("canary-password".to_owned())]),
    }
}

fn answered(status: u16, body: &str) -> Reply {
    let headers = Headers {
        retry_after: Some(Duration::from_secs(9)),
        etag: None,
    };
    let body = Body::Whole(Bytes::copy_from_slice(body.as_bytes()));
    reply(What::Answered {
        status,
        headers,
        body,
    })
}

/// An answer without its value, so that all requests go through one table.
fn ask(request: Request, reply: &Reply) -> Answer<()> {
    fn bare<T>(answer: Answer<T>) -> Answer<()> {
        match answer {
            Answer::Done(_) => Answer::Done(()),
            Answer::Exists(_) => Answer::Exists(()),
            Answer::Accepted(a) => Answer::Accepted(a),
            Answer::Gone => Answer::Gone,
            Answer::Rejected(r) => Answer::Rejected(r),
            Answer::Busy { retry_after } => Answer::Busy { retry_after },
            Answer::AsyncRequired => Answer::AsyncRequired,
            Answer::MaintenanceConflict(r) => Answer::MaintenanceConflict(r),
            Answer::TooMany { retry_after } => Answer::TooMany { retry_after },
            Answer::Unavailable { reason } => Answer::Unavailable { reason },
            Answer::Unknown(doubt) => Answer::Unknown(doubt),
        }
    }
    match request {
        Request::Catalog => bare(catalog(reply)),
        Request::Provision => bare(provision(reply)),
        Request::Update => bare(update(reply)),
        Request::Deprovision => deprovision(reply),
        Request::FetchInstance => bare(fetch_instance(reply)),
        Request::Bind => bare(bind(reply)),
        Request::Unbind => unbind(reply),
        Request::FetchBinding => bare(fetch_binding(reply)),
        Request::Poll(_) => panic!("polls have their own verdict"),
    }
}

const WRITES: [Request; 5] = [
    Request::Provision,
    Request::Update,
    Request::Deprovision,
    Request::Bind,
    Request::Unbind,
];
const READS: [Request; 3] = [
    Request::Catalog,
    Request::FetchInstance,
    Request::FetchBinding,
];
const POLLED: [Polled; 6] = [
    Polled::Provision,
    Polled::Update,
    Polled::Deprovision,
    Polled::Bind,
    Polled::Unbind,
    Polled::Instance,
];

fn all() -> impl Iterator<Item = Request> {
    WRITES.into_iter().chain(READS)
}

#[track_caller]
fn leaves(request: Request, reply: &Reply, mishap: Mishap, orphan: Orphan) {
    match ask(request, reply) {
        Answer::Unknown(doubt) => {
            assert_eq!(
                (doubt.mishap, doubt.orphan),
                (mishap, orphan),
                "{request:?} {reply:?}"
            );
        }
        other => panic!("{request:?} {reply:?} gave {other:?}"),
    }
}

fn good(request: Request) -> &'static str {
    if request == Request::Catalog {
        r#"{"services":[]}"#
    } else {
        GOOD
    }
}

fn by_table(request: Request, provision: Orphan, bind: Orphan, delete: bool) -> Orphan {
    match request {
        Request::Provision => provision,
        Request::Bind => bind,
        Request::Deprovision if delete => Orphan::Instance,
        Request::Unbind if delete => Orphan::Binding,
        _ => Orphan::Nothing,
    }
}

#[test]
fn row_all_200_well_formed_is_success() {
    for request in all() {
        let answer = ask(request, &answered(200, good(request)));
        let creates = matches!(request, Request::Provision | Request::Bind);
        assert_eq!(
            answer,
            if creates {
                Answer::Exists(())
            } else {
                Answer::Done(())
            }
        );
    }
}

#[test]
fn row_all_200_malformed_fails_and_leaves_nothing_to_delete() {
    for request in all() {
        for body in BAD {
            leaves(
                request,
                &answered(200, body),
                Mishap::MalformedOk,
                Orphan::Nothing,
            );
        }
    }
}

#[test]
fn rows_poll_200_failed() {
    let expected = [
        (Polled::Provision, Orphan::Instance),
        (Polled::Deprovision, Orphan::Instance),
        (Polled::Update, Orphan::Nothing),
        (Polled::Bind, Orphan::Binding),
        (Polled::Unbind, Orphan::Binding),
        (Polled::Instance, Orphan::Nothing),
    ];
    for (polled, orphan) in expected {
        let failed = poll(
            polled,
            &answered(200, r#"{"state":"failed","description":"no"}"#),
        );
        let Progress::Failed(failure) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(failure.orphan, orphan, "{polled:?}");
        assert_eq!(failure.description.as_deref(), Some("no"));
    }
}

#[test]
fn row_all_201_is_success_and_malformed_leaves_what_was_to_be_created() {
    for request in WRITES {
        assert_eq!(ask(request, &answered(201, GOOD)), Answer::Done(()));
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, false);
        for body in BAD {
            leaves(
                request,
                &answered(201, body),
                Mishap::MalformedCreated,
                orphan,
            );
        }
    }
}

#[test]
fn row_all_202_is_success_and_malformed_leaves_what_was_to_be_created() {
    let long = json!({ "operation": "x".repeat(10_001) }).to_string();
    for request in WRITES {
        let Answer::Accepted(accepted) = ask(request, &answered(202, GOOD)) else {
            panic!()
        };
        assert_eq!(accepted.operation, None);
        assert_eq!(accepted.retry_after, Some(Duration::from_secs(9)));
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, false);
        for body in BAD.into_iter().chain([r#"{"operation":5}"#, long.as_str()]) {
            leaves(
                request,
                &answered(202, body),
                Mishap::MalformedAccepted,
                orphan,
            );
        }
    }
}

#[test]
fn an_operation_may_be_missing_null_empty_or_ten_thousand_characters_long() {
    let long = "ü".repeat(10_000);
    let cases = [
        (json!({}), None),
        (json!({ "operation": null }), None),
        (json!({ "operation": "" }), Some("")),
        (json!({ "operation": long }), Some(long.as_str())),
    ];
    for request in WRITES {
        for (body, operation) in &cases {
            let Answer::Accepted(accepted) = ask(request, &answered(202, &body.to_string())) else {
                panic!("{request:?} {operation:?}")
            };
            assert_eq!(accepted.operation.as_deref(), *operation);
        }
    }
}

#[test]
fn row_other_2xx() {
    for request in WRITES {
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, true);
        for status in [203, 204, 206, 299] {
            leaves(
                request,
                &answered(status, GOOD),
                Mishap::OtherSuccess,
                orphan,
            );
        }
    }
    for request in READS {
        for status in [201, 202, 204] {
            leaves(
                request,
                &answered(status, GOOD),
                Mishap::OtherSuccess,
                Orphan::Nothing,
            );
        }
    }
}

#[test]
fn row_all_408_was_not_received() {
    for request in all() {
        let answer = ask(request, &answered(408, "slow"));
        assert_eq!(
            answer,
            Answer::Unavailable {
                reason: "status 408: slow".to_owned()
            }
        );
    }
}

#[test]
fn row_all_other_4xx_is_rejected() {
    for request in all() {
        for status in [400, 401, 403, 405, 409, 412, 413, 418, 422, 451, 499] {
            let reply = answered(status, r#"{"error":"Nope","description":"no way"}"#);
            let Answer::Rejected(refusal) = ask(request, &reply) else {
                panic!("{request:?} {status}")
            };
            let expected = Refusal {
                status,
                code: Some("Nope".to_owned()),
                description: "no way".to_owned(),
                instance_usable: true,
                update_repeatable: true,
            };
            assert_eq!(refusal, expected);
        }
    }
}

#[test]
fn row_5xx() {
    for request in all() {
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, true);
        for status in [500, 501, 502, 503, 504, 599, 600, 999, 199] {
            leaves(
                request,
                &answered(status, "oops"),
                Mishap::ServerError,
                orphan,
            );
        }
    }
}

#[test]
fn row_timeout() {
    for request in all() {
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, false);
        leaves(request, &reply(What::TimedOut), Mishap::TimedOut, orphan);
    }
}

#[test]
fn row_a_connection_that_ends_after_bytes_may_have_left_is_like_a_timeout() {
    for request in all() {
        let orphan = by_table(request, Orphan::Instance, Orphan::Binding, false);
        leaves(
            request,
            &reply(What::Lost("reset".to_owned())),
            Mishap::Lost,
            orphan,
        );
        leaves(request, &answered(302, ""), Mishap::Redirect, orphan);
    }
}

#[test]
fn row_refused_means_that_nothing_was_sent() {
    for request in all() {
        let answer = ask(request, &reply(What::NotSent("refused".to_owned())));
        assert_eq!(
            answer,
            Answer::Unavailable {
                reason: "refused".to_owned()
            }
        );
    }
}

#[test]
fn row_concurrency_error_is_waited_out_and_never_cleaned_up() {
    for request in all() {
        let answer = ask(request, &answered(422, r#"{"error":"ConcurrencyError"}"#));
        assert_eq!(
            answer,
            Answer::Busy {
                retry_after: Some(Duration::from_secs(9))
            }
        );
    }
}

#[test]
fn the_error_words_of_422_are_understood_exactly() {
    let word = |word: &str| {
        let body = json!({ "error": word, "description": "d" }).to_string();
        ask(Request::Provision, &answered(422, &body))
    };
    assert_eq!(word("AsyncRequired"), Answer::AsyncRequired);
    assert!(
        matches!(word("MaintenanceInfoConflict"), Answer::MaintenanceConflict(r) if r.description == "d")
    );
    assert!(
        matches!(word("RequiresApp"), Answer::Rejected(r) if r.code.as_deref() == Some("RequiresApp"))
    );
    assert!(matches!(word("asyncrequired"), Answer::Rejected(_)));
    assert!(matches!(
        ask(Request::Bind, &answered(422, "AsyncRequired")),
        Answer::Rejected(_)
    ));
}

#[test]
fn gone_is_done_for_deletes_and_a_refusal_elsewhere() {
    for request in all() {
        let answer = ask(request, &answered(410, GOOD));
        match request {
            Request::Deprovision | Request::Unbind => assert_eq!(answer, Answer::Gone),
            _ => assert!(matches!(answer, Answer::Rejected(r) if r.status == 410)),
        }
        let answer = ask(request, &answered(404, GOOD));
        match request {
            Request::FetchInstance | Request::FetchBinding => assert_eq!(answer, Answer::Gone),
            _ => assert!(matches!(answer, Answer::Rejected(r) if r.status == 404)),
        }
    }
}

#[test]
fn too_many_requests_says_how_long_to_wait() {
    for request in all() {
        let answer = ask(request, &answered(429, "slow down"));
        assert_eq!(
            answer,
            Answer::TooMany {
                retry_after: Some(Duration::from_secs(9))
            }
        );
    }
}

#[test]
fn usability_counts_only_where_a_broker_may_speak_of_it() {
    let body = r#"{"instance_usable":false,"update_repeatable":false,"state":"failed"}"#;
    for request in WRITES {
        let Answer::Rejected(said) = ask(request, &answered(400, body)) else {
            panic!()
        };
        let Answer::Unknown(doubt) = ask(request, &answered(500, body)) else {
            panic!()
        };
        let usable = !matches!(request, Request::Update | Request::Deprovision);
        let repeatable = request != Request::Update;
        assert_eq!(
            (said.instance_usable, said.update_repeatable),
            (usable, repeatable)
        );
        assert_eq!(
            (doubt.instance_usable, doubt.update_repeatable),
            (usable, repeatable)
        );
    }
    for polled in POLLED {
        let Progress::Failed(failure) = poll(polled, &answered(200, body)) else {
            panic!()
        };
        let updates = matches!(polled, Polled::Update | Polled::Instance);
        let usable = !updates && polled != Polled::Deprovision;
        assert_eq!(failure.instance_usable, usable);
        assert_eq!(failure.update_repeatable, !updates);
    }
}

#[test]
fn only_the_three_states_end_or_continue_a_poll() {
    for polled in POLLED {
        let tell = |body: &str| poll(polled, &answered(200, body));
        assert_eq!(
            tell(r#"{"state":"in progress","description":"50 %"}"#),
            Progress::InProgress {
                description: Some("50 %".to_owned()),
                retry_after: Some(Duration::from_secs(9)),
            }
        );
        assert_eq!(
            tell(r#"{"state":"succeeded"}"#),
            Progress::Succeeded { description: None }
        );
        let odd = [
            r#"{"state":"done"}"#,
            r#"{"state":null}"#,
            r#"{"state":"Succeeded"}"#,
        ];
        for body in odd.into_iter().chain([GOOD]).chain(BAD) {
            assert!(
                matches!(
                    tell(body),
                    Progress::Unclear {
                        status: Some(200),
                        ..
                    }
                ),
                "{body}"
            );
        }
    }
}

#[test]
fn a_poll_goes_on_after_anything_but_a_verdict() {
    for polled in POLLED {
        let deletes = matches!(
            polled,
            Polled::Deprovision | Polled::Unbind | Polled::Instance
        );
        for status in [201, 204, 302, 400, 401, 408, 422, 429, 500, 503] {
            let said = poll(polled, &answered(status, "x"));
            let Progress::Unclear {
                status: Some(shown),
                retry_after,
                ..
            } = said
            else {
                panic!("{polled:?} {status}")
            };
            assert_eq!((shown, retry_after), (status, Some(Duration::from_secs(9))));
        }
        let gone = poll(polled, &answered(410, GOOD));
        let absent = poll(polled, &answered(404, GOOD));
        assert_eq!(gone == Progress::Gone, deletes);
        assert_eq!(absent == Progress::Absent, deletes);
        for what in [
            What::TimedOut,
            What::Lost(String::new()),
            What::NotSent(String::new()),
        ] {
            assert!(matches!(
                poll(polled, &reply(what)),
                Progress::Unclear { status: None, .. }
            ));
        }
    }
}

#[test]
fn a_body_that_is_too_large_or_cut_off_is_malformed() {
    let rows = [
        (200, Mishap::MalformedOk),
        (201, Mishap::MalformedCreated),
        (202, Mishap::MalformedAccepted),
    ];
    for (body, (status, mishap)) in [Body::TooLarge, Body::Cut("reset".to_owned())]
        .into_iter()
        .flat_map(|body| rows.map(|row| (body.clone(), row)))
    {
        for request in WRITES {
            let what = What::Answered {
                status,
                headers: Headers::default(),
                body: body.clone(),
            };
            let creates = mishap != Mishap::MalformedOk;
            let orphan = match request {
                Request::Provision if creates => Orphan::Instance,
                Request::Bind if creates => Orphan::Binding,
                _ => Orphan::Nothing,
            };
            leaves(request, &reply(what), mishap, orphan);
        }
    }
}

#[test]
fn no_text_shows_the_platforms_credentials_or_a_success_body() {
    let mut shown = String::new();
    for request in all() {
        for status in [200, 201, 202, 204, 302, 400, 408, 422, 500] {
            let echo = format!(
                "{{\"error\":\"canary-password\",\"description\":\"canary-password {status}\""
            );
            for body in [format!("{echo}}}"), echo] {
                let answer = ask(request, &answered(status, &body));
                shown.push_str(&format!("{answer:?}\n"));
            }
        }
        let malformed = answered(201, r#"{"credentials": "secret-of-the-binding"}"#);
        shown.push_str(&format!("{:?}\n", ask(request, &malformed)));
    }
    for polled in POLLED {
        for state in ["failed", "in progress", "succeeded", "canary-password"] {
            let body = json!({ "state": state, "description": "it is canary-password" });
            shown.push_str(&format!(
                "{:?}\n",
                poll(polled, &answered(200, &body.to_string()))
            ));
        }
    }
    shown.push_str(&format!(
        "{:?}",
        ask(Request::Bind, &reply(What::Lost("canary-password".into())))
    ));
    assert!(!shown.contains("canary-password"));
    assert!(shown.contains("(hidden)"));
}

#[test]
fn the_catalog_may_be_as_it_was() {
    assert_eq!(
        catalog(&answered(304, "")),
        Answer::Done(Fetched::NotModified)
    );
    let headers = Headers {
        retry_after: None,
        etag: Some("\"7\"".to_owned()),
    };
    let body = Body::Whole(Bytes::from_static(br#"{"services":[]}"#));
    let Answer::Done(Fetched::Catalog { etag, .. }) = catalog(&reply(What::Answered {
        status: 200,
        headers,
        body,
    })) else {
        panic!()
    };
    assert_eq!(etag.as_deref(), Some("\"7\""));
}
