//! The platform's side of the Open Service Broker API, held to its rules before brokers that
//! misbehave in every way that is on record.

mod bed;
mod differential;
mod mitigation;
mod run;
mod stories;
