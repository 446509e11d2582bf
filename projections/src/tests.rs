//! The views as a whole.

mod crash;
mod documents;
mod engine;
mod fixture;
mod folding;
mod following;
mod history;
mod rates;
mod revisions;
mod run_views;
mod services;
