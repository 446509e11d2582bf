//! The ports between the engine and the outer world, and the scaffolds that test an adapter.

mod blobs;

pub use blobs::{Blobs, Digest, Error as BlobError, MemoryBlobs};
