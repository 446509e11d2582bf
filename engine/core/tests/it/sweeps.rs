//! Lost messages: the sweep finds what they left undone, and nothing else.

use engine_core::{Overdue, alarm, due, react};
use engine_model::{Alarm, Due, Kind, RequestId, Status};

use crate::support::outside::Mood;
use crate::support::*;

#[test]
fn nothing_is_overdue_while_all_goes_well() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Async(3)]);
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    platform.run();
    platform.now = platform.now.plus_ms(60_000);
    assert_eq!(due(&platform.world, platform.now), []);
}

#[test]
fn lost_timers_lost_words_and_lost_reactions_are_made_good() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Async(0)]);
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    let mut kinds = Vec::new();
    for _ in 0..40 {
        // Whatever is to be done next is lost.
        platform.tasks.clear();
        platform.timers.clear();
        platform.now = platform.now.plus_ms(130_000);
        for overdue in due(&platform.world, platform.now) {
            kinds.push(match overdue {
                Overdue::Alarm(_) => "alarm",
                Overdue::Nudge(_) => "nudge",
                Overdue::Reaction(_) => "reaction",
            });
        }
        platform.sweep();
    }
    assert_eq!(
        platform.status(Kind::ServiceInstance, "azure-pg").0,
        Status::Ready
    );
    for kind in ["alarm", "nudge", "reaction"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    platform.check();
}

#[test]
fn a_commit_that_is_delivered_again_asks_only_for_what_is_outstanding() {
    let mut platform = Platform::with_broker();
    platform.must(
        key(Kind::ServiceInstance, "azure-pg"),
        create(instance_spec()),
    );
    let first = platform.log.last().unwrap().clone();
    let before = react(&platform.world, &first);
    assert_eq!(react(&platform.world, &first), before);
    platform.run();
    for recorded in &platform.log {
        let again = react(&platform.world, recorded);
        let quiet = again.iter().all(|(_, effect)| {
            matches!(effect, engine_model::Effect::Timer(timer) if timer.due.alarm == Alarm::RefreshCatalog)
        });
        assert!(quiet, "{again:?}");
    }
}

#[test]
fn an_effect_keeps_its_index_whatever_else_is_outstanding() {
    let mut platform = Platform::new();
    platform.must(key(Kind::Image, "a"), create(image_spec("base", "")));
    platform.must(key(Kind::Image, "b"), create(image_spec("base", "")));
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    let task = platform.tasks.pop_back().unwrap();
    platform.perform(&task);
    let prepared = platform.log.last().unwrap().clone();
    let both = react(&platform.world, &prepared);
    assert_eq!(both.len(), 2);
    let first = platform.tasks.pop_front().unwrap();
    platform.perform(&first);
    let one = react(&platform.world, &prepared);
    assert_eq!(one.len(), 1);
    assert!(both.contains(&one[0]));
}

#[test]
fn a_stale_alarm_asks_for_nothing() {
    let mut platform = Platform::with_broker();
    platform.outside.moods(&[Mood::Async(3)]);
    let pg = key(Kind::ServiceInstance, "azure-pg");
    platform.must(pg.clone(), create(instance_spec()));
    platform.drain();
    let (_, real) = platform.timers[&(pg.clone(), "poll")].clone();
    let request = RequestId::derived(format_args!("other"));
    let foreign = Due::new(pg.clone(), Alarm::Poll { request });
    assert!(alarm(&platform.world, &foreign, platform.now).is_empty());
    assert_eq!(alarm(&platform.world, &real, platform.now).len(), 1);
    platform.run();
    assert!(alarm(&platform.world, &real, platform.now).is_empty());
}
