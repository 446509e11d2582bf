//! Workers and their pools: from a sandbox that starts to one that waits for a call.

pub(crate) mod ahead;
pub(crate) mod budget;
pub(crate) mod desk;
pub(crate) mod floor;
pub(crate) mod frame;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod pool;
pub(crate) mod port;
pub(crate) mod relay;
pub(crate) mod supervise;
pub(crate) mod sweep;
pub(crate) mod worker;
