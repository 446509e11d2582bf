//! The certificate that HTTPS is served with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

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
    /// The certificate and the key do not fit each other, or one of them is of an unknown kind.
    #[error("cannot use the certificate of {path}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// Reads the files, for HTTP/2 and HTTP/1.1 in this order.
pub(crate) fn acceptor(files: &Tls) -> Result<TlsAcceptor, Error> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(read(&files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(read(&files.key))?;
    let unusable = |source| Error::Unusable {
        path: files.cert.clone(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
