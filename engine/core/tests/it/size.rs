//! How much room instances take that wait for a broker.

use crate::support::outside::Mood;
use crate::support::*;
use engine_model::Kind;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn an_instance_in_provisioning_takes_at_most_two_kilobytes() {
    const COUNT: usize = 5_000;
    let mut platform = Platform::with_broker();
    platform.outside.default = Mood::Async(1000);
    for number in 0..COUNT {
        let key = key(Kind::ServiceInstance, &format!("instance-number-{number}"));
        platform.must(key, create(instance_spec()));
        platform.drain();
    }
    let events = std::mem::take(&mut platform.log);
    let (mut worlds, before) = (Vec::new(), resident());
    for _ in 0..3 {
        let mut world = engine_core::World::default();
        for recorded in &events {
            world.apply(recorded).unwrap();
        }
        worlds.push(world);
    }
    let each = (resident() - before) / worlds.len() / COUNT;
    assert!(each <= 2048, "{each} bytes each, with its binding");
    assert!(
        each >= 200,
        "{each} bytes cannot be: the measurement is wrong"
    );
    eprintln!("{each} bytes for an instance with its binding");
}
