//! Base images, dependency layers, workers, pools and language packs: running functions.
//!
//! ```text
//! Functions ─ base_image ─► the host's interpreter, proved in a sandbox
//!           ─ build_layer ► pip | uv | npm in a sandbox ─► tar.zst ─► blobs ─► layers/<digest>/
//!           ─ load ───────► Pool of a revision ◄── Worker ◄── stem cell (Floor) ◄── Launcher
//!           ─ call ───────► input schema ─► Lease ─► exchange on descriptor 3 ─► output schema
//! ```
//!
//! A worker is one long-lived interpreter in a sandbox of its own and serves one call at a time.
//! Whatever a function prints is only ever a log; results travel on a private descriptor, and
//! anything there that is not the answer to the call under way ends the worker.

mod blueprint;
mod call;
mod config;
mod error;
mod functions;
mod layers;
mod oci;
mod packs;
mod revision;
mod role;
mod turns;
mod workers;

pub use adapter_sandbox::{Endpoint, LauncherConfig, Limits};
pub use blueprint::NetworkPolicy;
pub use call::run::{Call, Completion};
pub use config::{Builds, Config, Images, Pools};
pub use engine_model::spec::Isolation;
pub use error::{Error, ErrorType, Failure, RunError};
pub use functions::{Functions, Stats};
pub use layers::{Built, Layer, LayerSpec, Order, SystemPackage, printed};
pub use oci::Root;
pub use packs::language::{BaseImage, Language, add_packs};
pub use packs::source::Source;
pub use revision::{Revision, Scale};
pub use role::{BuildSinks, Workers};
pub use workers::logs::Logs;
