//! The log on NATS JetStream: commits, commands, timers, blobs, keys; and its in-memory twin.
