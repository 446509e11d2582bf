//! What is done inside a PostgreSQL server. Every step looks before it acts, so that each function
//! may be repeated after having ended anywhere.
//!
//! All objects of an instance are owned by its owner role, which cannot log in. A binding is a login
//! role that is a member of the owner role and becomes it at login (`ALTER ROLE … SET role`), so
//! what one binding creates the next one can use, and unbinding takes nothing with it.

mod connect;
mod role;

use tokio_util::sync::CancellationToken;

pub(crate) use connect::{Admin, Session};
pub(crate) use role::{create_login, drop_login};

use crate::names::{Names, identifier, literal};

/// `DROP DATABASE … WITH (FORCE)` came with this version.
const SERVER_VERSION_MIN: i32 = 130_000;
/// Since this version only the database's owner may create in the schema public.
const SERVER_VERSION_CLOSED_PUBLIC: i32 = 150_000;

/// Why something was not done in a PostgreSQL server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of a PostgreSQL server. It is not repeated here: it holds a password.
    #[error("read the server's URL: it must be postgres://user:password@host:port/database")]
    Url,
    /// The URL asks for a connection without TLS.
    #[error("connect without TLS: bindings ask for TLS, so the server must offer it")]
    TlsDisabled,
    /// Certificates cannot be used.
    #[error("use the certificates")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server cannot be reached or refused to let us in.
    #[error("connect to the server")]
    Connect(#[source] tokio_postgres::Error),
    /// The server is too old.
    #[error("use the server: its version is below 13")]
    TooOld,
    /// A statement failed.
    #[error("{what}")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Connections of a role did not end in time.
    #[error("end the connections of a role")]
    StillConnected,
    /// A delete was requested meanwhile.
    #[error("go on: it was halted")]
    Halted,
}

impl Error {
    /// Whether to try again: the server was not there, was busy, or met a concurrent change.
    pub(crate) fn is_transient(&self) -> bool {
        let (Self::Connect(source) | Self::Statement { source, .. }) = self else {
            return false;
        };
        let Some(code) = source.code().map(tokio_postgres::error::SqlState::code) else {
            return true;
        };
        let class = code.get(..2).unwrap_or_default();
        // Connection, resources, operator intervention; serialization, in use, internal.
        matches!(class, "08" | "53" | "57" | "40") || matches!(code, "55006" | "XX000")
    }
}

/// Creates the owner role and the database of an instance, and gives it what its plan says.
///
/// The database belongs to the administrator, so that nobody else can lift its limits or drop it;
/// the owner role may do what it likes in it.
pub(crate) async fn create_database(
    admin: &Admin,
    names: &Names,
    plan: Plan<'_>,
    halt: &CancellationToken,
) -> Result<(), Error> {
    let session = admin.open(None).await?;
    session.lock(names).await?;
    let (database, owner) = (identifier(&names.database), identifier(&names.owner));
    if !session.role_exists(&names.owner).await? {
        go_on(halt)?;
        let create = format!("CREATE ROLE {owner} NOLOGIN");
        session.run("create the owner role", &create).await?;
    }
    session.join_role(&names.owner).await?;
    if !session.database_exists(&names.database).await? {
        go_on(halt)?;
        // From template0, because nobody can be connected to it, which would fail this.
        let create = format!("CREATE DATABASE {database} TEMPLATE template0");
        session.run("create the database", &create).await?;
    }
    go_on(halt)?;
    // Schemas and extensions are reached only from inside the database.
    let inside = admin.open(Some(&names.database)).await?;
    let comment = literal(&format!("service instance {}", names.instance_id));
    let mut rights = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; \
         GRANT ALL ON DATABASE {database} TO {owner}; COMMENT ON DATABASE {database} IS {comment}; "
    );
    // Where everybody may create in public, who may connect can, and nobody but the instance's own
    // may; a superuser can do better.
    let closed = inside.version >= SERVER_VERSION_CLOSED_PUBLIC;
    if closed || inside.superuser {
        rights += &format!("ALTER SCHEMA public OWNER TO {owner}; ");
    }
    if !closed && inside.superuser {
        rights += "REVOKE CREATE ON SCHEMA public FROM PUBLIC; ";
    }
    let settle = format!("BEGIN; {rights}{} COMMIT", plan.settle(names, &inside));
    inside.run("settle rights and plan", &settle).await
}

/// Gives the database of an instance what another plan says, all of it or nothing.
pub(crate) async fn settle_plan(admin: &Admin, names: &Names, plan: Plan<'_>) -> Result<(), Error> {
    let session = admin.open(None).await?;
    session.lock(names).await?;
    let inside = admin.open(Some(&names.database)).await?;
    let settle = format!("BEGIN; {} COMMIT", plan.settle(names, &inside));
    inside.run("settle the plan", &settle).await
}

/// What a plan gives a database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) connections_max: Option<u32>,
    pub(crate) extensions: &'a [String],
}

impl Plan<'_> {
    /// The statements, for a transaction in the database.
    fn settle(self, names: &Names, inside: &Session) -> String {
        let mut sql = limit_connections(names, self.connections_max);
        if self.extensions.is_empty() {
            return sql;
        }
        sql += " SET LOCAL search_path = public; ";
        if !inside.superuser {
            // Who may create in a database may create extensions in it that are marked as trusted.
            sql += &format!("SET LOCAL ROLE {}; ", identifier(&names.owner));
        }
        for name in self.extensions {
            sql += &format!("CREATE EXTENSION IF NOT EXISTS {}; ", identifier(name));
        }
        sql
    }
}

fn limit_connections(names: &Names, max: Option<u32>) -> String {
    let max = max.map_or_else(|| "-1".to_owned(), |max| max.to_string());
    format!(
        "ALTER DATABASE {} CONNECTION LIMIT {max};",
        identifier(&names.database)
    )
}

/// Drops the database of an instance and every role of it, whoever is connected.
pub(crate) async fn drop_database(admin: &Admin, names: &Names) -> Result<(), Error> {
    let session = admin.open(None).await?;
    session.lock(names).await?;
    let drop = format!(
        "DROP DATABASE IF EXISTS {} WITH (FORCE)",
        identifier(&names.database)
    );
    session.run("drop the database", &drop).await?;
    // By prefix, so that a role is found whose binding was forgotten. Logins before their owner.
    let mut roles = session.roles_with_prefix(&names.role_prefix()).await?;
    roles.sort_by_key(|role| *role == names.owner);
    for role in roles {
        // A login may have connected to other databases of the server too.
        role::close(&session, &role).await?;
        role::drop_role(admin, &session, &role).await?;
    }
    Ok(())
}

fn go_on(halt: &CancellationToken) -> Result<(), Error> {
    if halt.is_cancelled() {
        Err(Error::Halted)
    } else {
        Ok(())
    }
}
