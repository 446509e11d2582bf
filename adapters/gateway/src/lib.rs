//! HTTP and HTTPS endpoints in front of functions.
