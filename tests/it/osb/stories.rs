//! What other platforms are known for, story by story: each has cost somebody an instance, money
//! or a night.

mod catalogs;
mod crashes;
mod deletions;
mod load;
mod lost;
mod polls;
