//! The certificate HTTPS is served with: the operator's own, or one made here and kept.
//!
//! The self-made certificate is its own issuer, so a client that trusts `gateway.crt` trusts the
//! gateway and nothing else. At each start it is put to the test a client would put it to; when it
//! fails for any name, is about to expire, or does not fit its key, a new one takes its place.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

use crate::config::{Config, Pair};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that all clients accept of a certificate trusted by hand.
const VALIDITY: Duration = Duration::from_secs(825 * 24 * 60 * 60);
/// A certificate that expires sooner than this after a start is renewed at that start.
const MARGIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// For which names every self-made certificate holds.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: pem::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A configured name is neither a host name nor an address.
    #[error("{0:?} is not a name a certificate can hold for")]
    Name(String),
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The certificate and the key do not fit each other, or one of them is of an unknown kind.
    #[error("cannot use the certificate of {path}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// Settings for serving HTTPS, HTTP/2 preferred.
pub(crate) fn server(config: &Config) -> Result<Arc<ServerConfig>, Error> {
    match &config.certificate {
        Some(own) => load(own),
        None => kept(config, SystemTime::now()),
    }
}

/// Makes the self-made certificate in `directory` unless it is there and good, for a listener of
/// another kind that shows the same one; returns the files.
///
/// # Errors
/// `Error` when it cannot be made or read.
pub fn ensure_certificate(directory: &Path, more_names: &[String]) -> Result<Pair, Error> {
    let mut config = Config::new(directory);
    config.cert_names = more_names.to_vec();
    kept(&config, SystemTime::now())?;
    Ok(Pair {
        cert: directory.join("gateway.crt"),
        key: directory.join("gateway.key"),
    })
}

/// Loads the self-made certificate, or makes it if there is none that is any good at `now`.
fn kept(config: &Config, now: SystemTime) -> Result<Arc<ServerConfig>, Error> {
    let names = names(config);
    let pair = Pair {
        cert: config.cert_dir.join("gateway.crt"),
        key: config.cert_dir.join("gateway.key"),
    };
    if pair.cert.exists() || pair.key.exists() {
        match inspect(&pair, &names, now) {
            Ok(server) => return Ok(server),
            Err(error) => warn!(path = %pair.cert.display(), ?error, "certificate is renewed"),
        }
    }
    make(&pair, &names, now)?;
    info!(path = %pair.cert.display(), "certificate made");
    load(&pair)
}

fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = LOOPBACK.map(str::to_owned).to_vec();
    let listens = config
        .https
        .map(|addr| addr.ip())
        .filter(|ip| !ip.is_unspecified());
    for name in config
        .cert_names
        .iter()
        .cloned()
        .chain(listens.map(|ip| ip.to_string()))
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn load(pair: &Pair) -> Result<Arc<ServerConfig>, Error> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&pair.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(read(&pair.cert))?;
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(read(&pair.key))?;
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring offers the ciphers of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| Error::Unusable {
            path: pair.cert.clone(),
            source,
        })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// Loads the pair if a client that trusts it would accept it for every name, now and a while on.
fn inspect(pair: &Pair, names: &[String], now: SystemTime) -> Result<Arc<ServerConfig>, Error> {
    let server = load(pair)?;
    let unusable = |source| Error::Unusable {
        path: pair.cert.clone(),
        source,
    };
    let read = |source| Error::Read {
        path: pair.cert.clone(),
        source,
    };
    let cert = CertificateDer::from_pem_file(&pair.cert).map_err(read)?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).map_err(unusable)?;
    let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .expect("there is one root and no revocation list");
    for name in names {
        let server_name = server_name(name)?;
        for at in [now, now + MARGIN] {
            let at = UnixTime::since_unix_epoch(since_epoch(at));
            client
                .verify_server_cert(&cert, &[], &server_name, &[], at)
                .map_err(unusable)?;
        }
    }
    Ok(server)
}

fn make(pair: &Pair, names: &[String], now: SystemTime) -> Result<(), Error> {
    for name in names {
        server_name(name)?;
    }
    let mut params = CertificateParams::new(names).map_err(Error::Make)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Dispatch gateway");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A day of grace for clients whose clocks are behind.
    params.not_before = epoch + since_epoch(now - DAY);
    params.not_after = epoch + since_epoch(now - DAY + VALIDITY);
    let key = KeyPair::generate().map_err(Error::Make)?;
    let cert = params.self_signed(&key).map_err(Error::Make)?;
    write(&pair.key, 0o600, &key.serialize_pem())?;
    write(&pair.cert, 0o644, &cert.pem())
}

/// Puts a file in its place in one step, never readable by more than `mode` allows.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let whole = || {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    whole().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned())),
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Kept {
        config: Config,
        _dir: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self {
                config: Config::new(dir.path().join("certs")),
                _dir: dir,
            }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.config.cert_dir.join(name)
        }

        /// The certificate after a start at `now`.
        fn start(&self, now: SystemTime) -> Vec<u8> {
            kept(&self.config, now).unwrap();
            fs::read(self.file("gateway.crt")).unwrap()
        }
    }

    #[test]
    fn a_certificate_is_kept_until_it_is_about_to_expire() {
        let kept = Kept::new();
        let now = SystemTime::now();
        let first = kept.start(now);
        assert_eq!(kept.start(now), first);
        assert_eq!(kept.start(now + VALIDITY - MARGIN - 3 * DAY), first);
        let second = kept.start(now + VALIDITY - MARGIN + DAY);
        assert_ne!(second, first);
        assert_eq!(kept.start(now + VALIDITY - MARGIN + DAY), second);
    }

    #[test]
    fn a_certificate_is_renewed_for_a_new_name_and_when_it_is_damaged() {
        let mut kept = Kept::new();
        let now = SystemTime::now();
        let first = kept.start(now);
        kept.config.cert_names = vec!["api.example".into(), "10.1.2.3".into()];
        let second = kept.start(now);
        assert_ne!(second, first);
        assert_eq!(kept.start(now), second);
        fs::write(kept.file("gateway.crt"), &first).unwrap();
        let third = kept.start(now);
        assert_ne!(third, first);
        fs::write(kept.file("gateway.key"), "-----BEGIN nothing").unwrap();
        let fourth = kept.start(now);
        assert_ne!(fourth, third);
        fs::remove_file(kept.file("gateway.key")).unwrap();
        assert_ne!(kept.start(now), fourth);
    }

    #[test]
    fn the_key_is_for_its_owner_alone() {
        let kept = Kept::new();
        kept.start(SystemTime::now());
        let mode = fs::metadata(kept.file("gateway.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(&kept.config.cert_dir).unwrap().count();
        assert_eq!(files, 2, "nothing half written is left");
    }

    #[test]
    fn an_own_certificate_is_used_as_it_is_or_refused() {
        let kept = Kept::new();
        kept.start(SystemTime::now());
        let own = Pair {
            cert: kept.file("gateway.crt"),
            key: kept.file("gateway.key"),
        };
        let mut config = Config::new(kept.file("unused"));
        config.certificate = Some(own.clone());
        server(&config).unwrap();
        assert!(!kept.file("unused").exists());

        let other = Kept::new();
        other.start(SystemTime::now());
        config.certificate = Some(Pair {
            key: other.file("gateway.key"),
            ..own.clone()
        });
        assert!(matches!(server(&config), Err(Error::Unusable { .. })));
        config.certificate = Some(Pair {
            key: kept.file("absent"),
            ..own
        });
        assert!(matches!(server(&config), Err(Error::Read { .. })));
    }

    #[test]
    fn a_name_no_certificate_can_hold_for_is_refused() {
        let mut kept = Kept::new();
        kept.config.cert_names = vec!["not a name".into()];
        let error = super::kept(&kept.config, SystemTime::now()).unwrap_err();
        assert!(matches!(error, Error::Name(name) if name == "not a name"));
        assert!(!kept.file("gateway.key").exists());
    }
}
