//! The REST API, version 1, of Dispatch.
