//! The rules that every log keeps, each a function that a log of any kind is put through.

mod bed;
mod commands;
mod commits;
mod letters;
mod runs;
mod samples;
mod stores;
mod timers;

pub use bed::{Bed, JetBed, MemoryBed};
pub use commands::{
    a_command_that_is_not_acknowledged_comes_again, a_command_with_the_same_id_comes_once,
    a_refusal_is_heard_by_its_sender, a_retried_command_waits_its_delay,
    progress_holds_a_command_back, what_is_malformed_is_delivered_with_its_fault,
};
pub use commits::{
    a_commit_appended_twice_is_stored_once, a_commit_too_large_is_refused,
    a_group_goes_on_around_a_clash, a_large_group_is_appended_whole, a_long_past_is_replayed_whole,
    a_reactor_gets_each_commit_until_it_acknowledges, a_tail_resumes_after_a_position,
    a_tail_survives_the_death_of_the_server, of_two_writers_one_wins,
};
pub use letters::{
    a_buried_command_can_be_revived, a_buried_commit_comes_to_its_reactors_again,
    a_letter_buried_twice_is_one,
};
pub use runs::{
    a_request_to_end_a_run_has_a_way_of_its_own, a_run_is_asked_for_and_followed,
    a_run_is_delivered_to_one_worker, runs_that_are_open_are_found_with_what_is_known_of_them,
    runs_that_are_put_aside_wait_in_order_by_function, the_first_end_of_a_run_wins,
};
pub use stores::{a_blob_is_found_by_its_digest, a_key_is_made_once_and_erased_for_good};
pub use timers::{
    a_timer_fires_once_and_on_time, a_timer_is_seen_until_it_is_ended,
    a_timer_set_again_replaces_the_first, a_timer_survives_the_death_of_the_server,
    a_timer_that_is_taken_back_does_not_ring,
};

/// Makes a test of each rule: `conformance!(bed().await);`.
#[macro_export]
macro_rules! conformance {
    ($bed:expr) => {
        $crate::conformance!(@ $bed;
            a_blob_is_found_by_its_digest
            a_buried_command_can_be_revived
            a_buried_commit_comes_to_its_reactors_again
            a_command_that_is_not_acknowledged_comes_again
            a_command_with_the_same_id_comes_once
            a_commit_appended_twice_is_stored_once
            a_commit_too_large_is_refused
            a_group_goes_on_around_a_clash
            a_key_is_made_once_and_erased_for_good
            a_large_group_is_appended_whole
            a_letter_buried_twice_is_one
            a_long_past_is_replayed_whole
            a_reactor_gets_each_commit_until_it_acknowledges
            a_refusal_is_heard_by_its_sender
            a_request_to_end_a_run_has_a_way_of_its_own
            a_retried_command_waits_its_delay
            a_run_is_asked_for_and_followed
            a_run_is_delivered_to_one_worker
            a_tail_resumes_after_a_position
            a_tail_survives_the_death_of_the_server
            a_timer_fires_once_and_on_time
            a_timer_set_again_replaces_the_first
            a_timer_survives_the_death_of_the_server
            a_timer_is_seen_until_it_is_ended
            a_timer_that_is_taken_back_does_not_ring
            of_two_writers_one_wins
            progress_holds_a_command_back
            runs_that_are_open_are_found_with_what_is_known_of_them
            runs_that_are_put_aside_wait_in_order_by_function
            the_first_end_of_a_run_wins
            what_is_malformed_is_delivered_with_its_fault
        );
    };
    (@ $bed:expr; $($rule:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::testing::conformance::$rule(&mut $bed).await;
            }
        )+
    };
}

#[cfg(test)]
mod on_jetstream {
    crate::conformance!(super::JetBed::new().await);
}

#[cfg(test)]
mod in_memory {
    crate::conformance!(super::MemoryBed::new());
}
