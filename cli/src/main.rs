//! The binary `dispatch`.

fn main() {}
