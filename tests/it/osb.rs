//! The platform's side of the Open Service Broker API, held to its rules before brokers that
//! misbehave in every way that is on record.

mod bed;
mod differential;
mod mitigation;
mod process;
mod run;
mod stories;

use harness::faulty::Foreign;
use harness::say;

/// Brokers that are made with a library of others; none, loudly, when it cannot be installed.
fn foreign() -> Option<Foreign> {
    let started = Foreign::start();
    if let Err(why) = &started {
        say("SKIPPED: what needs a broker that is made with openbrokerapi,");
        say(&format!("because pip cannot install it: {why}"));
    }
    started.ok()
}
