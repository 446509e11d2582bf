//! Login roles: one per binding.

use std::time::Duration;

use tokio::time::Instant;

use super::{Admin, Error, Session};
use crate::names::{Names, identifier, literal};

/// How long a connection may take to notice that it is to end. PostgreSQL looks at once unless it
/// is in a system call.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates the login role of a binding, or sets its password if it is there.
///
/// The statement holds a SCRAM verifier instead of the password, so that neither the server's log
/// nor its list of activities can show it.
pub(crate) async fn create_login(
    admin: &Admin,
    names: &Names,
    binding_id: &str,
    password: &str,
    expires_at: Option<i64>,
) -> Result<(), Error> {
    let session = admin.open(None).await?;
    session.lock(names).await?;
    let name = names.login(binding_id);
    let (role, owner) = (identifier(&name), identifier(&names.owner));
    let verifier = literal(&postgres_protocol::password::scram_sha_256(
        password.as_bytes(),
    ));
    let verb = if session.role_exists(&name).await? {
        "ALTER"
    } else {
        "CREATE"
    };
    let until = valid_until(expires_at);
    let create = format!(
        "BEGIN; {verb} ROLE {role} LOGIN INHERIT PASSWORD {verifier} VALID UNTIL {until}; GRANT {owner} TO {role}; \
         ALTER ROLE {role} SET role = {owner}; COMMIT",
    );
    session.run("create the login role", &create).await?;
    session.join_role(&name).await
}

/// Until when a password opens the server. A role without an end is given none explicitly, so that
/// the statement says it whatever was there before.
fn valid_until(expires_at: Option<i64>) -> String {
    let end = expires_at.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    end.map_or_else(
        || literal("infinity"),
        |end| literal(&end.format("%Y-%m-%d %H:%M:%S+00").to_string()),
    )
}

/// Ends the connections of a binding, hands what its role owns to the owner role, drops the role.
pub(crate) async fn drop_login(
    admin: &Admin,
    names: &Names,
    binding_id: &str,
) -> Result<(), Error> {
    let session = admin.open(None).await?;
    session.lock(names).await?;
    let name = names.login(binding_id);
    if !session.role_exists(&name).await? {
        return Ok(());
    }
    let (role, owner) = (identifier(&name), identifier(&names.owner));
    close(&session, &name).await?;
    if session.database_exists(&names.database).await? {
        // What it owns is found only from inside the database. There is something to find if a
        // client has said `SET ROLE NONE`.
        let inside = admin.open(Some(&names.database)).await?;
        let hand_over =
            format!("BEGIN; REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}; COMMIT");
        inside
            .run("hand over what the login role owns", &hand_over)
            .await?;
    }
    drop_role(admin, &session, &name).await
}

/// Lets nobody in any more as a role, and ends the connections that there are.
pub(super) async fn close(session: &Session, name: &str) -> Result<(), Error> {
    let close = format!("ALTER ROLE {} NOLOGIN", identifier(name));
    session.run("close the login role", &close).await?;
    disconnect(session, name).await
}

/// Drops a role, and what it has left in databases that are not its instance's.
pub(super) async fn drop_role(admin: &Admin, session: &Session, name: &str) -> Result<(), Error> {
    let role = identifier(name);
    for database in session.databases_with_traces_of(name).await? {
        let inside = admin.open(Some(&database)).await?;
        let sql = format!("DROP OWNED BY {role}");
        inside.run("drop what the role owns", &sql).await?;
    }
    let drop = format!("BEGIN; DROP OWNED BY {role}; DROP ROLE {role}; COMMIT");
    session.run("drop the role", &drop).await
}

async fn disconnect(session: &Session, role: &str) -> Result<(), Error> {
    let deadline = Instant::now() + DISCONNECT_TIMEOUT;
    while session.terminate(role).await? > 0 {
        if Instant::now() > deadline {
            return Err(Error::StillConnected);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
