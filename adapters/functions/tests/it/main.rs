//! Functions in the real sandbox, with the real interpreters and build tools.

mod support;

#[path = "../../../../tests/harness/oci.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "it is the harness's, of which not all is used here"
)]
mod oci;

mod abuse;
mod ahead;
mod binary;
mod builds;
mod handlers;
mod hostile;
mod images;
mod isolation;
mod java;
mod layers;
mod limits;
mod lines;
mod loading;
mod maven;
mod network;
mod packs;
mod pools;
mod postgres;
mod powershell;
mod protocol;
mod revisions;
mod scale;
