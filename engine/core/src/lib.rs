//! The decisions of Dispatch, pure: state, evolve, decide, react, due, check.
