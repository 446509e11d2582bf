//! The table: one file per group of routes.

mod actions;
mod api;
mod application;
mod commands;
mod function;
mod iam;
mod image;
mod runs;
mod schedule;
mod secret;
mod service;
mod system;

use crate::group::Group;
use crate::table::Place;

pub(crate) use system::HEALTH;

/// The kinds that are served in the way of the original.
static GROUPS: &[&Group] = &[
    &api::APIS,
    &application::APPLICATIONS,
    &function::FUNCTIONS,
    &iam::ORGANIZATIONS,
    &iam::SERVICE_ACCOUNTS,
    &image::BASE_IMAGES,
    &image::IMAGES,
    &schedule::SCHEDULES,
    &secret::SECRETS,
    &service::BROKERS,
    &service::CLASSES,
    &service::BINDINGS,
    &service::INSTANCES,
];

/// Everything that is served.
pub(crate) fn table() -> Vec<Place> {
    let mut table: Vec<Place> = GROUPS.iter().flat_map(|group| group.places()).collect();
    table.extend(actions::places());
    table.extend(commands::places());
    table.extend(function::places());
    table.extend(runs::places());
    table.extend(system::places());
    table
}
