//! The views as a whole.

mod crash;
mod documents;
mod fixture;
mod folding;
mod following;
mod history;
mod rates;
mod run_views;
