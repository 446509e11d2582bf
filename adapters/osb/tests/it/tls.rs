//! Brokers behind TLS: whom the client trusts, and how it shows who it is.

use std::sync::Arc;

use adapter_osb::fake::{Fake, Options, PASSWORD, Recorded, USERNAME};
use adapter_osb::verdict::{Answer, Fetched};
use adapter_osb::wire::Hidden;
use adapter_osb::{Client, Endpoint, Error};
use engine_model::{BrokerOutcome, Effect, Outcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde_json::json;

use crate::call;
use crate::scene::Scene;

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

/// Reads the catalog of a broker that wants a certificate, and says what came and what was sent.
async fn shown(authority: &Authority, document: serde_json::Value) -> (BrokerOutcome, Vec<String>) {
    let fake = broker(&authority.leaf("127.0.0.1"), Some(authority)).await;
    let mut scene = Scene::before(fake, document).await;
    scene.target.ca = authority.pem();
    let effect = Effect::ReadCatalog {
        target: scene.target.clone(),
        etag: None,
    };
    let Outcome::Broker(outcome) = scene.perform(&effect).await.unwrap() else {
        panic!("of a broker")
    };
    let requests = scene.fake.requests();
    let sent = |request: &Recorded| request.header("authorization").to_owned();
    (outcome, requests.iter().map(sent).collect())
}

#[tokio::test]
async fn each_kind_of_credentials_goes_with_a_client_certificate() {
    let authority = Authority::new();
    let pem = authority.leaf("dispatch").pem();
    let basic = json!({"username": USERNAME, "password": PASSWORD});
    let document = json!({"basic": basic, "clientIdentity": pem});
    let (outcome, sent) = shown(&authority, document).await;
    assert!(matches!(outcome, BrokerOutcome::Read { .. }), "{outcome:?}");
    assert!(sent[0].starts_with("Basic "));
    // The broker takes the certificate, and then wants its password.
    let token = json!({"token": "canary"});
    let others = [
        (
            json!({"bearer": token, "clientIdentity": pem}),
            "Bearer canary",
        ),
        (json!({"clientIdentity": pem}), ""),
    ];
    for (document, authorization) in others {
        let (outcome, sent) = shown(&authority, document).await;
        let BrokerOutcome::Failed { reason } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            reason.contains("401") && !reason.contains("canary"),
            "{reason}"
        );
        assert_eq!(sent, [authorization]);
    }
    let strangers = Authority::new().leaf("dispatch").pem();
    for document in [
        json!({ "basic": basic }),
        json!({"basic": basic, "clientIdentity": strangers}),
        json!({"basic": basic, "clientIdentity": "canary"}),
    ] {
        let (outcome, sent) = shown(&authority, document).await;
        let BrokerOutcome::Failed { reason } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(!reason.contains("canary"), "{reason}");
        assert!(sent.is_empty());
    }
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
