//! Base images, dependency layers, workers, pools and language packs.
