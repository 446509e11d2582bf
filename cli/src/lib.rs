//! The binary `dispatch`.
