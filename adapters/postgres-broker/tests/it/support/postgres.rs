//! A PostgreSQL server for plans of kind `shared`, and connections to any server.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PATIENCE;

const ADMIN_PASSWORD: &str = "admin-of-the-shared-server";

/// A server of its own per test, ended with it. It logs every statement, as a careless operator
/// would let it.
pub(crate) struct SharedServer {
    directory: TempDir,
    child: Child,
    port: u16,
}

impl SharedServer {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        copy(&template(), &data);
        let names = vec!["localhost".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        write(&data.join("server.crt"), &certified.cert.pem());
        write(
            &data.join("server.key"),
            &certified.signing_key.serialize_pem(),
        );
        write(
            &data.join("pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 scram-sha-256\n",
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = command(&data, "postgres")
            .args([
                "-c",
                "fsync=off",
                "-c",
                "ssl=on",
                "-c",
                "unix_socket_directories=",
            ])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "log_statement=all",
            ])
            .args(["-c", "shared_buffers=16MB", "-c", &format!("port={port}")])
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self {
            directory,
            child,
            port,
        };
        server.wait_until_ready();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the superuser.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres", ADMIN_PASSWORD)
    }

    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    pub(crate) async fn admin(&self) -> Client {
        connect(&self.url()).await.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The databases and roles that the broker has made.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let admin = self.admin().await;
        let rows = admin.query(
            "SELECT datname::text FROM pg_database WHERE datname LIKE 'dispatch%' \
             UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'dispatch%' ORDER BY 1",
            &[],
        );
        rows.await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// A connection that holds the lock of an instance: the broker's work on it waits.
    pub(crate) async fn hold(&self, instance_id: &str) -> Client {
        let client = self.admin().await;
        let lock = "SELECT pg_advisory_lock(hashtextextended('dispatch instance ' || $1, 0))";
        client.execute(lock, &[&instance_id]).await.unwrap();
        client
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let pid_file = self.directory.path().join("data/postmaster.pid");
        while !fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready")) {
            assert!(Instant::now() < deadline, "not started: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for SharedServer {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        let _ = kill_process(pid, Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// Connects as a client that has `sslmode=require` in its URI: encrypted, not verified.
pub(crate) async fn connect(uri: &str) -> Result<Client, tokio_postgres::Error> {
    let provider = Arc::new(ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    let mut config: tokio_postgres::Config = uri.parse().unwrap();
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Connects without TLS.
pub(crate) async fn connect_plain(uri: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = uri.parse().unwrap();
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A fresh cluster, made once for all tests and kept with what else the build makes.
fn template() -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(kept).unwrap();
    let lock = File::create(kept.join("postgres-template.lock")).unwrap();
    lock.lock().unwrap();
    let version = Command::new(binaries().join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout)
        .unwrap()
        .replace(['/', ' '], "-");
    let template = kept.join(format!("template-{}", version.trim()));
    if template.exists() {
        return template;
    }
    let directory = tempfile::tempdir_in(kept).unwrap();
    let (data, password) = (
        directory.path().join("data"),
        directory.path().join("password"),
    );
    fs::create_dir(&data).unwrap();
    own(&data);
    fs::write(&password, ADMIN_PASSWORD).unwrap();
    let initdb = command(&data, "initdb")
        .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
        .args(["--pwfile=/dev/stdin", "--wal-segsize=4", "--locale=C.UTF-8"])
        .stdin(File::open(&password).unwrap())
        .output()
        .unwrap();
    assert!(
        initdb.status.success(),
        "{}",
        String::from_utf8_lossy(&initdb.stderr)
    );
    fs::rename(&data, &template).unwrap();
    template
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

fn command(data: &Path, program: &str) -> Command {
    let mut command = Command::new("sh");
    // As PostgreSQL's user cannot walk a private path, it gets the directory as a descriptor.
    command.args(["-c", "exec 9<. && cd / && exec \"$@\"", "sh"]);
    if let Some((uid, gid)) = server_user() {
        command
            .arg("setpriv")
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"));
        command.args(["--clear-groups", "--"]);
    }
    command
        .arg(binaries().join(program))
        .args(["-D", "/proc/self/fd/9"]);
    command
        .current_dir(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn binaries() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .chain(installed.map(|entry| entry.path().join("bin")))
        .find(|path| path.join("initdb").is_file() && path.join("postgres").is_file())
        .expect("PostgreSQL is installed")
}

/// Whom PostgreSQL runs as when the tests run as root.
fn server_user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .or_else(|| passwd.lines().find(|line| line.starts_with("nobody:")))?;
    let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
    rustix::process::geteuid()
        .is_root()
        .then(|| (ids.next().unwrap(), ids.next().unwrap()))
}

fn own(path: &Path) {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some((uid, gid)) = server_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    own(path);
}

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
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
