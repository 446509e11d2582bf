//! The views that people query, kept in sled.
