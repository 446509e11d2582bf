//! What a person does all day: say how a function is run, try it, and change it.

mod builds;
mod dev;
mod examples;
mod policy;
mod templates;
mod trial;
