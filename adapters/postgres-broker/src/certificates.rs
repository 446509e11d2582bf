//! The broker's own certificate authority: it signs the certificates of dedicated servers and the
//! client certificate that the broker administers them with, so that no such server has an
//! administrator's password.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::disk;

/// The role that administers dedicated servers.
pub(crate) const ADMIN_ROLE: &str = "dispatch_admin";

/// Why certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("access the file of the certificate authority")]
    Io(#[from] std::io::Error),
    /// The file is not what this version writes.
    #[error("read the file of the certificate authority")]
    Format(#[from] serde_json::Error),
    /// A certificate cannot be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    /// A certificate cannot be used.
    #[error("use a certificate")]
    Use(#[from] rustls::Error),
    /// A certificate cannot be read.
    #[error("read a certificate")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: Secret,
}

/// What is stored: one file, so that key and certificate always belong together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Authority {
    authority: Pair,
    admin: Pair,
}

impl Authority {
    /// Reads the authority, or makes it at first start.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, Error> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let authority = Self::create()?;
                disk::write_atomically(path, &serde_json::to_vec(&authority)?)?;
                Ok(authority)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn create() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        let authority = Pair {
            certificate: certificate.pem(),
            key: Secret(key.serialize_pem()),
        };
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, ADMIN_ROLE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let admin = sign(&authority, params)?;
        Ok(Self { authority, admin })
    }

    /// The certificate that the others are verified against, in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.authority.certificate
    }

    /// A certificate of a server that is reached under these names.
    pub(crate) fn server(&self, names: &[String]) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "PostgreSQL of Dispatch");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(&self.authority, params)
    }

    /// How the broker connects to dedicated servers: verifying, and known by its certificate.
    pub(crate) fn client(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(
            self.authority.certificate.as_bytes(),
        )?)?;
        let builder: ConfigBuilder<ClientConfig, WantsClientCert> =
            client_builder().with_root_certificates(roots);
        Ok(builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(
                self.admin.certificate.as_bytes(),
            )?],
            PrivateKeyDer::from_pem_slice(self.admin.key.0.as_bytes())?,
        )?)
    }
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Dispatch PostgreSQL broker");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

fn sign(authority: &Pair, params: CertificateParams) -> Result<Pair, Error> {
    let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&authority.key.0)?);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: Secret(key.serialize_pem()),
    })
}

/// A TLS client with the crypto of this program, whatever the process has installed.
pub(crate) fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
}
