//! The same scenarios with two brokers: the fake one of this repository, and one that is made with
//! openbrokerapi, a library that is not ours. What the platform shows must be the same.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::run::Run;
use super::{foreign, mitigation, stories};

/// Scenarios that are played at once: they mostly wait.
const AT_ONCE: usize = 10;

macro_rules! scenarios {
    ($($path:path,)+) => {
        &[$((stringify!($path), $path as fn()),)+]
    };
}

/// All but those that are about catalogs: the library knows no ETag, serves no plan that its
/// catalog has lost, and has ids of its own.
const SCENARIOS: &[(&str, fn())] = scenarios![
    mitigation::bind::mitigation_of_a_bind_answered_200_201_or_202_is_none,
    mitigation::bind::mitigation_of_a_bind_answered_200_malformed_is_none,
    mitigation::bind::mitigation_of_a_bind_answered_201_malformed_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_answered_202_malformed_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_answered_by_another_2xx_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_answered_408_is_none_and_the_same_request_is_repeated,
    mitigation::bind::mitigation_of_a_bind_answered_by_another_4xx_is_none,
    mitigation::bind::mitigation_of_a_bind_answered_5xx_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_without_an_answer_in_time_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_whose_connection_was_reset_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_that_a_poll_says_failed_deletes_the_binding,
    mitigation::bind::mitigation_of_a_bind_after_which_the_platform_fails_deletes_the_binding,
    mitigation::delete::mitigation_of_a_deletion_answered_200_is_none,
    mitigation::delete::mitigation_of_a_deletion_answered_202_is_none,
    mitigation::delete::mitigation_of_a_deletion_answered_410_is_none,
    mitigation::delete::mitigation_of_a_deletion_answered_200_malformed_asks_again,
    mitigation::delete::mitigation_of_a_deletion_answered_by_another_2xx_asks_again,
    mitigation::delete::mitigation_of_a_deletion_answered_408_repeats_the_same_request,
    mitigation::delete::mitigation_of_a_deletion_answered_by_another_4xx_keeps_it_on_record,
    mitigation::delete::mitigation_of_a_deletion_answered_5xx_asks_again,
    mitigation::delete::mitigation_of_a_deletion_without_an_answer_in_time_asks_again,
    mitigation::delete::mitigation_of_a_deletion_whose_connection_was_reset_asks_again,
    mitigation::delete::mitigation_of_a_deletion_that_found_another_operation_waits_for_it,
    mitigation::delete::mitigation_of_a_deletion_that_a_poll_says_failed_asks_again,
    mitigation::limits::mitigation_of_a_provision_that_is_not_done_in_time_deletes_the_instance,
    mitigation::limits::mitigation_of_a_bind_that_is_not_done_in_time_deletes_the_binding,
    mitigation::provision::mitigation_of_a_provision_answered_200_is_none,
    mitigation::provision::mitigation_of_a_provision_answered_201_is_none,
    mitigation::provision::mitigation_of_a_provision_answered_202_is_none,
    mitigation::provision::mitigation_of_a_provision_answered_200_malformed_is_none,
    mitigation::provision::mitigation_of_a_provision_answered_201_malformed_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_answered_202_malformed_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_answered_by_another_2xx_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_answered_408_is_none_and_the_same_request_is_repeated,
    mitigation::provision::mitigation_of_a_provision_answered_by_another_4xx_is_none,
    mitigation::provision::mitigation_of_a_provision_answered_5xx_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_without_an_answer_in_time_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_whose_connection_was_reset_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_reset_before_it_was_read_asks_until_it_is_sure,
    mitigation::provision::mitigation_of_a_provision_that_never_connected_is_none_and_it_is_tried_again,
    mitigation::provision::mitigation_of_a_provision_that_was_redirected_deletes_the_instance,
    mitigation::provision::mitigation_of_a_provision_that_a_poll_says_failed_deletes_the_instance,
    mitigation::provision::mitigation_never_follows_a_concurrency_error,
    mitigation::update::mitigation_never_follows_an_update_that_was_answered,
    mitigation::update::mitigation_never_follows_an_update_that_was_not_answered,
    mitigation::update::mitigation_never_follows_an_update_that_a_poll_says_failed,
    stories::updates::story_17_a_failed_update_leaves_record_and_broker_alike,
    stories::updates::story_17_an_update_that_must_not_be_repeated_is_not_repeated,
    stories::updates::story_23_a_stale_catalog_is_read_again_and_the_request_with_it,
    stories::updates::an_answer_that_async_is_required_is_answered_by_asking_again,
    stories::upkeep::a_rotation_that_fails_changes_nothing_and_succeeds_before_they_expire,
    stories::upkeep::an_adopted_instance_is_never_deleted_because_something_fails,
    stories::upkeep::story_25_a_broker_is_asked_no_more_at_once_than_its_budget,
    stories::crashes::story_01_a_crash_between_a_request_and_its_record_repeats_the_same_request,
    stories::crashes::story_01_what_was_being_made_in_a_crash_can_be_deleted,
    stories::crashes::story_02_the_death_of_a_poller_costs_an_interval_and_no_instance,
    stories::crashes::story_14_stored_credentials_outlive_a_crash_as_they_are,
    stories::crashes::story_20_a_broker_that_is_gone_for_good_can_be_left_behind,
    stories::deletions::story_08_a_deletion_that_never_succeeds_says_so_and_can_be_abandoned,
    stories::deletions::story_18_a_deletion_that_the_broker_refuses_waits_for_the_creation,
    stories::deletions::story_18_a_creation_goes_on_being_polled_while_it_is_to_be_deleted,
    stories::deletions::story_18_a_broker_that_cancels_a_creation_leaves_nothing,
    stories::deletions::story_19_a_broker_that_fails_for_ever_is_not_hammered,
    stories::load::story_21_a_name_is_taken_before_the_broker_hears_of_it,
    stories::load::story_24_a_busy_broker_is_waited_for_and_nobody_is_told_of_a_failure,
    stories::load::story_25_a_hundred_at_once_wait_for_a_broker_that_says_when,
    stories::lost::story_03_a_broker_that_finishes_after_the_timeout_leaves_no_orphan,
    stories::lost::story_04_an_error_after_the_work_was_done_leaves_no_orphan_and_says_what_came,
    stories::lost::story_05_a_reset_connection_leaves_no_orphan,
    stories::lost::story_06_a_cleanup_that_was_accepted_and_failed_begins_again,
    stories::lost::story_07_a_cleanup_is_never_given_up_and_always_visible,
    stories::lost::story_07_an_orphan_can_be_dropped_on_record,
    stories::lost::story_13_a_bind_that_is_late_is_removed_and_another_try_has_another_id,
    stories::lost::story_22_an_unbind_that_finds_nothing_is_done,
    stories::lost::story_22_a_poll_of_a_deletion_that_finds_nothing_is_done,
    stories::polls::story_09_an_operation_of_ten_thousand_characters_comes_back_with_every_poll,
    stories::polls::story_09_an_operation_without_a_name_is_polled_without_one,
    stories::polls::story_10_polls_that_go_wrong_do_not_end_what_the_broker_goes_on_with,
    stories::polls::story_11_a_deletion_whose_poll_finds_nothing_is_asked_for_again,
    stories::polls::story_12_a_poll_without_a_state_is_shown_and_asked_again,
    stories::polls::a_state_that_flips_after_the_end_is_not_asked_for,
    stories::polls::an_answer_that_comes_slowly_as_text_or_at_length_is_an_answer,
];

#[test]
fn the_platform_shows_the_same_whatever_broker_is_behind() {
    let Some(foreign) = foreign().map(Arc::new) else {
        return;
    };
    let next = AtomicUsize::new(0);
    let differences = thread::scope(|scope| {
        let player = || {
            let mut found = Vec::new();
            while let Some((name, scenario)) = SCENARIOS.get(next.fetch_add(1, Ordering::Relaxed)) {
                let play = |foreign| panic::catch_unwind(|| Run::play(foreign, scenario));
                match (play(None), play(Some(&foreign))) {
                    (Ok(ours), Ok(theirs)) if ours == theirs => {
                        assert!(!ours.is_empty(), "{name} shows nothing");
                    }
                    (Ok(ours), Ok(theirs)) => found.push(difference(name, &ours, &theirs)),
                    (Err(_), _) => found.push(format!("{name} fails before ours")),
                    (Ok(_), Err(_)) => found.push(format!("{name} fails before the other one")),
                }
            }
            found
        };
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(player)).collect();
        let found = players
            .into_iter()
            .flat_map(|player| player.join().unwrap());
        found.collect::<Vec<_>>()
    });
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// The lines that only one of two runs has.
fn difference(name: &str, ours: &[String], theirs: &[String]) -> String {
    let lines = |run: &[String]| -> Vec<String> {
        let lines = run.iter().flat_map(|bed| bed.lines());
        lines.map(str::to_owned).collect()
    };
    let (ours, theirs) = (lines(ours), lines(theirs));
    let only = |sign: char, these: &[String], those: &[String]| {
        let alone = these.iter().filter(|line| !those.contains(line));
        alone
            .map(|line| format!("{sign} {line}"))
            .collect::<Vec<_>>()
    };
    let mut found = only('-', &ours, &theirs);
    found.extend(only('+', &theirs, &ours));
    if found.is_empty() {
        found.push("the same lines in another order".into());
    }
    format!("{name}\n{}", found.join("\n"))
}
