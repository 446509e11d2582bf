//! The shell around the decisions: command loop, reactor loop, sweep, supervision.
