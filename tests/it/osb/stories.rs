//! What other platforms are known for, story by story: each has cost somebody an instance, money
//! or a night.

pub(crate) mod catalogs;
pub(crate) mod crashes;
pub(crate) mod deletions;
pub(crate) mod load;
pub(crate) mod lost;
pub(crate) mod polls;
pub(crate) mod updates;
pub(crate) mod upkeep;
