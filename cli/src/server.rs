//! The processes: `install`, `up`, `serve` and `broker`.

mod broker;
mod brokers;
mod builds;
mod gateway;
mod home;
mod install;
mod invoker;
mod logs;
mod nats_server;
mod parts;
mod queries;
mod rest;
mod schedules;
mod serving;
mod settings;
mod signals;
mod up;

pub(crate) use broker::postgres_broker;
pub(crate) use install::install;
pub(crate) use signals::asked_to_end;
pub(crate) use up::{serve, up};
