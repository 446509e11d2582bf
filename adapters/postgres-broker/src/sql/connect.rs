//! Connections of the administrator, always encrypted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, SERVER_VERSION_MIN};
use crate::decide::binding::Address;
use crate::names::{Names, identifier};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any statement here takes (a fraction of a second), shorter than an operation may.
const SESSION_OPTIONS: &str = "-c statement_timeout=60s -c search_path=pg_catalog \
                               -c client_min_messages=warning";

/// How to connect as the administrator of a server.
#[derive(Clone)]
pub(crate) struct Admin {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

/// A connection. The task that drives it ends with it.
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
    pub(crate) version: i32,
    pub(crate) superuser: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Admin {
    /// The administrator that a URL names, and where clients find the server.
    pub(crate) fn from_url(url: &str, ca_file: Option<&Path>) -> Result<(Self, Address), Error> {
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| Error::Url)?;
        let [Host::Tcp(host)] = config.get_hosts() else {
            return Err(Error::Url);
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let address = Address {
            host: host.clone(),
            port,
        };
        if config.get_ssl_mode() == SslMode::Disable {
            return Err(Error::TlsDisabled);
        }
        let tls = match ca_file {
            Some(path) => verified(path)?,
            None => unverified(),
        };
        prepare(&mut config);
        Ok((
            Self {
                config,
                tls: MakeRustlsConnect::new(tls),
            },
            address,
        ))
    }

    /// An administrator who is known by a client certificate.
    pub(crate) fn with_certificate(host: &str, port: u16, user: &str, tls: ClientConfig) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port).user(user).dbname("postgres");
        prepare(&mut config);
        Self {
            config,
            tls: MakeRustlsConnect::new(tls),
        }
    }

    /// Connects to a database, or to the administrator's own.
    pub(crate) async fn open(&self, database: Option<&str>) -> Result<Session, Error> {
        let mut config = self.config.clone();
        if let Some(name) = database {
            config.dbname(name);
        }
        let (client, connection) = config
            .connect(self.tls.clone())
            .await
            .map_err(Error::Connect)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "connection to PostgreSQL ended");
            }
        });
        let mut session = Session {
            client,
            driver,
            version: 0,
            superuser: false,
        };
        let row = session
            .client
            .query_one(
                "SELECT current_setting('server_version_num')::int, rolsuper \
                 FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await
            .map_err(statement("ask for the server's version"))?;
        session.version = row.get(0);
        session.superuser = row.get(1);
        if session.version < SERVER_VERSION_MIN {
            return Err(Error::TooOld);
        }
        Ok(session)
    }
}

impl Session {
    /// Waits until nobody else works on the instance. A connection of a broker that was killed holds
    /// the lock until the server has finished what it was told, so nothing happens late.
    pub(crate) async fn lock(&self, names: &Names) -> Result<(), Error> {
        self.client
            .execute(
                "SELECT pg_advisory_lock(hashtextextended('dispatch instance ' || $1, 0))",
                &[&names.instance_id],
            )
            .await
            .map(drop)
            .map_err(statement("lock the instance"))
    }

    /// Runs statements that return nothing.
    pub(crate) async fn run(&self, what: &'static str, sql: &str) -> Result<(), Error> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(statement(what))
    }

    pub(crate) async fn role_exists(&self, name: &str) -> Result<bool, Error> {
        self.exists("SELECT FROM pg_roles WHERE rolname = $1", name)
            .await
    }

    pub(crate) async fn database_exists(&self, name: &str) -> Result<bool, Error> {
        self.exists("SELECT FROM pg_database WHERE datname = $1", name)
            .await
    }

    async fn exists(&self, query: &str, name: &str) -> Result<bool, Error> {
        let row = self.client.query_opt(query, &[&name]).await;
        row.map(|row| row.is_some())
            .map_err(statement("look up a name"))
    }

    pub(crate) async fn roles_with_prefix(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let query = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)";
        let rows = self.client.query(query, &[&prefix]).await;
        let rows = rows.map_err(statement("list the roles of the instance"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes the administrator a member of a role of ours, which one who is no superuser must be to
    /// give it a database, to end its connections and to hand over what it owns.
    pub(crate) async fn join_role(&self, name: &str) -> Result<(), Error> {
        if self.superuser {
            return Ok(());
        }
        let grant = format!("GRANT {} TO CURRENT_USER", identifier(name));
        self.run("join a role of the instance", &grant).await
    }

    /// The databases but this one in which a role owns something or has rights.
    pub(crate) async fn databases_with_traces_of(&self, role: &str) -> Result<Vec<String>, Error> {
        let sql = "SELECT DISTINCT datname::text FROM pg_shdepend \
                   JOIN pg_database ON pg_database.oid = dbid \
                   JOIN pg_roles ON pg_roles.oid = refobjid \
                   WHERE refclassid = 'pg_authid'::regclass AND rolname = $1 \
                   AND datname <> current_database()";
        let rows = self.client.query(sql, &[&role]).await;
        let rows = rows.map_err(statement("look for what the role owns"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Tells the connections of a role to end; returns how many there are still.
    pub(crate) async fn terminate(&self, role: &str) -> Result<usize, Error> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}",
            crate::names::literal(role)
        );
        let messages = self.client.simple_query(&sql).await;
        let messages = messages.map_err(statement("end the connections of a role"))?;
        let rows = messages
            .iter()
            .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
        Ok(rows.count())
    }
}

fn prepare(config: &mut tokio_postgres::Config) {
    config
        .ssl_mode(SslMode::Require)
        .connect_timeout(CONNECT_TIMEOUT)
        .application_name("dispatch postgres broker")
        .options(SESSION_OPTIONS);
}

fn statement(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| Error::Statement { what, source }
}

fn verified(ca_file: &Path) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca_file).map_err(|error| Error::Tls(error.into()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| Error::Tls(error.into()))?;
        roots
            .add(certificate)
            .map_err(|error| Error::Tls(error.into()))?;
    }
    Ok(crate::certificates::client_builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn unverified() -> ClientConfig {
    crate::certificates::client_builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))))
        .with_no_client_auth()
}

/// Accepts any certificate, as `sslmode=require` does. That the server has the key of the
/// certificate that it shows is still verified, and SCRAM binds the login to the connection.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
