//! What each kind of user may publish and subscribe to. The server's configuration is written
//! from this, and a test holds a real server to it.

/// A kind of user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A node: engine, worker, gateway.
    Engine,
    /// The CLI and whoever else only asks.
    Client,
}

/// Subjects that a user may publish and subscribe to; all others are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// May publish.
    pub publish: Vec<String>,
    /// May subscribe.
    pub subscribe: Vec<String>,
}

/// What a kind of user may do.
///
/// A client sees every event and the lines that runs print, and asks for everything, but writes commands, run commands and blobs
/// only: what happened is written by the engine alone. It reads no data keys.
#[must_use]
pub fn permissions(user: User) -> Permissions {
    let list = |subjects: &[&str]| subjects.iter().map(|s| (*s).to_owned()).collect();
    match user {
        User::Engine => Permissions {
            publish: list(&[
                "dispatch.>",
                "$JS.API.>",
                "$JS.ACK.>",
                "$JS.FC.>",
                "$KV.dispatch_keys.>",
                "$O.dispatch_blobs.>",
                "$SRV.>",
                "_INBOX.>",
            ]),
            subscribe: list(&["dispatch.>", "$JS.EVENT.ADVISORY.>", "$SRV.>", "_INBOX.>"]),
        },
        User::Client => Permissions {
            publish: list(&[
                "dispatch.cmd.>",
                "dispatch.runcmd.>",
                "dispatch.query",
                // `nats micro ls` and `nats micro info dispatch`.
                "$SRV.>",
                // The object bucket: look up, write, read. Not purge, not delete.
                "$O.dispatch_blobs.>",
                "$JS.API.STREAM.INFO.OBJ_dispatch_blobs",
                "$JS.API.DIRECT.GET.OBJ_dispatch_blobs.>",
                "$JS.API.CONSUMER.CREATE.OBJ_dispatch_blobs.>",
                "$JS.API.CONSUMER.CREATE.OBJ_dispatch_blobs",
                "$JS.API.CONSUMER.DELETE.OBJ_dispatch_blobs.>",
                "$JS.FC.OBJ_dispatch_blobs.>",
            ]),
            subscribe: list(&[
                "_INBOX.>",
                "dispatch.evt.>",
                "dispatch.committed.>",
                "dispatch.logs.>",
                "$SRV.>",
            ]),
        },
    }
}
