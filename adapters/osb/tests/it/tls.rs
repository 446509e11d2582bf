//! Brokers behind TLS: whom the client trusts, and how it shows who it is.

use std::sync::Arc;

use adapter_osb::fake::{Fake, Options};
use adapter_osb::verdict::{Answer, Fetched};
use adapter_osb::wire::Hidden;
use adapter_osb::{Client, Endpoint, Error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use crate::call;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn pem(&self) -> String {
        self.issuer.as_ref().pem()
    }

    fn leaf(&self, name: &str) -> Leaf {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }
}

impl Leaf {
    fn pem(&self) -> String {
        format!("{}{}", self.certificate.pem(), self.key.serialize_pem())
    }
}

async fn broker(leaf: &Leaf, clients_of: Option<&Authority>) -> Fake {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.as_ref().der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::Pkcs8(leaf.key.serialize_der().into());
    let mut tls = builder
        .with_single_cert(vec![leaf.certificate.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let options = Options {
        tls: Some(Arc::new(tls)),
        ..Options::default()
    };
    Fake::start_with(options).await.unwrap()
}

async fn reaches(endpoint: &Endpoint) -> bool {
    match Client::new(endpoint).unwrap().catalog(&call(), None).await {
        Answer::Done(Fetched::Catalog { .. }) => true,
        Answer::Unavailable { .. } | Answer::Unknown(_) => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broker_is_trusted_by_its_bundle_and_by_nothing_else() {
    let (authority, other) = (Authority::new(), Authority::new());
    let fake = broker(&authority.leaf("127.0.0.1"), None).await;
    let mut endpoint = fake.endpoint();
    endpoint.ca_pem = Some(format!("{}{}", other.pem(), authority.pem()));
    assert!(reaches(&endpoint).await);
    endpoint.ca_pem = Some(other.pem());
    let client = Client::new(&endpoint).unwrap();
    let answer = client.catalog(&call(), None).await;
    assert!(
        matches!(answer, Answer::Unavailable { .. }),
        "no session, so nothing sent: {answer:?}"
    );
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let fake = broker(&authority.leaf("elsewhere.example"), None).await;
    let mut endpoint = fake.endpoint();
    endpoint.ca_pem = Some(authority.pem());
    assert!(!reaches(&endpoint).await);
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_there_is_one() {
    let authority = Authority::new();
    let fake = broker(&authority.leaf("127.0.0.1"), Some(&authority)).await;
    let mut endpoint = fake.endpoint();
    endpoint.ca_pem = Some(authority.pem());
    assert!(!reaches(&endpoint).await, "without one it is refused");
    endpoint.client_identity_pem = Some(Hidden::new(authority.leaf("dispatch").pem()));
    assert!(reaches(&endpoint).await);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_told_at_once() {
    let endpoint = |url: &str| Endpoint::new(url.parse().unwrap());
    let refused = |endpoint: &Endpoint| Client::new(endpoint).unwrap_err();
    let secret = refused(&endpoint("http://user:canary@127.0.0.1/"));
    assert!(
        matches!(secret, Error::CredentialsInAddress) && !secret.to_string().contains("canary")
    );
    assert!(matches!(
        refused(&endpoint("ftp://127.0.0.1/")),
        Error::Address(_)
    ));
    assert!(matches!(
        refused(&endpoint("http://127.0.0.1/?x=1")),
        Error::Address(_)
    ));
    let mut bad = endpoint("https://127.0.0.1/");
    bad.ca_pem = Some("not a certificate".to_owned());
    assert!(matches!(refused(&bad), Error::Ca));
    bad.ca_pem = Some(Authority::new().pem());
    bad.client_identity_pem = Some(Hidden::new("canary".to_owned()));
    assert!(matches!(refused(&bad), Error::Identity));
    bad.client_identity_pem = None;
    bad.credentials = adapter_osb::Credentials::bearer("a\nb");
    assert!(matches!(refused(&bad), Error::Credentials));
}
