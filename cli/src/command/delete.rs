//! `dispatch delete`.

use anyhow::{Result, bail};
use engine_model::{Command, Deletion, Kind};

use super::{batch, wait};
use crate::args::{Batch, Delete, Global};
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::print;

/// Takes one resource away, or all of a file's.
pub(super) async fn run(connection: &Connection, global: &Global, delete: Delete) -> Result<Exit> {
    if let Some(file) = delete.file {
        let batch = Batch {
            file,
            work_dir: None,
            application: delete.application,
        };
        let wish = batch::Wish::Delete {
            cascade: delete.cascade,
        };
        return batch::apply(connection, global, batch, wish).await;
    }
    let (Some(kind), Some(name)) = (delete.kind, delete.name) else {
        bail!("say which kind and which name to delete, or -f FILE");
    };
    let key = connection.key(kind, &name)?;
    let deletion = Deletion {
        cascade: delete.cascade,
    };
    let seq = connection
        .submit(key.clone(), Command::Delete(deletion))
        .await?;
    if delete.wait {
        wait::until_gone(connection, global, &key, seq).await?;
    }
    print(&format!("Deleted {}: {name}\n", word(kind)))?;
    Ok(Exit::Done)
}

/// The kind as the success lines of Dispatch spell it.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::BaseImage => "base image",
        Kind::ServiceInstance => "service instance",
        Kind::ServiceBinding => "service binding",
        Kind::Organization
        | Kind::ServiceAccount
        | Kind::Application
        | Kind::Image
        | Kind::Secret
        | Kind::ServiceBroker
        | Kind::ServiceClass
        | Kind::Function
        | Kind::Run
        | Kind::API
        | Kind::Schedule => kind.token(),
    }
}
