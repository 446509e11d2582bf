//! The seam below the client: how one request travels and what came back, as plain data. Brokers
//! are reached over HTTP; a simulation in virtual time puts its own network here, and everything
//! above it, from the request's path to the meaning of its answer, is the real thing.

use std::fmt;

use async_trait::async_trait;

use crate::reply::What;

/// A request as it would leave.
#[derive(Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The HTTP method.
    pub method: String,
    /// Scheme, host and port, as in `http://127.0.0.1:8080`.
    pub origin: String,
    /// The path and the query.
    pub target: String,
    /// The headers, in no order that matters. They hold the broker's credentials.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and bodies hold secrets.
        write!(f, "{} {}{}", self.method, self.origin, self.target)
    }
}

/// Carries requests to brokers.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request and says what came of it, in time or not.
    async fn exchange(&self, request: Outbound) -> What;
}

/// What carries the requests of a client.
#[derive(Debug)]
pub(super) enum Carrier {
    Http(reqwest::Client),
    Other(std::sync::Arc<dyn Transport>),
}

pub(super) fn outbound(request: &reqwest::Request) -> Outbound {
    let url = request.url();
    let query = url.query().map_or_else(String::new, |q| format!("?{q}"));
    let headers = request.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or_default();
        (name.as_str().to_owned(), value.to_owned())
    });
    Outbound {
        method: request.method().to_string(),
        origin: url.origin().ascii_serialization(),
        target: format!("{}{query}", url.path()),
        headers: headers.collect(),
        body: request
            .body()
            .and_then(reqwest::Body::as_bytes)
            .unwrap_or_default()
            .to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::verdict::Answer;
    use crate::wire::{Id, Offer};
    use crate::{Body, Call, Client, Credentials, Endpoint, Headers};

    #[derive(Debug, Default)]
    struct Gone(Mutex<Vec<Outbound>>);

    #[async_trait]
    impl Transport for Gone {
        async fn exchange(&self, request: Outbound) -> What {
            self.0.lock().unwrap().push(request);
            What::Answered {
                status: 410,
                headers: Headers::default(),
                body: Body::Whole(Bytes::from_static(b"{}")),
            }
        }
    }

    #[tokio::test]
    async fn another_transport_carries_whole_requests_and_its_answers_are_judged_alike() {
        let transport = Arc::new(Gone::default());
        let endpoint = Endpoint::new("http://b.example:8080/base".parse().unwrap())
            .with_credentials(Credentials::bearer("canary"));
        let client = Client::over(transport.clone(), &endpoint).unwrap();
        let id = uuid::Uuid::from_u128(7);
        let offer = Offer {
            service_id: "s".into(),
            plan_id: "p".into(),
        };
        let answer = client
            .deprovision(&Call::new(id), &Id::from(id), &offer, true)
            .await;
        assert_eq!(answer, Answer::Gone);
        let sent = transport.0.lock().unwrap().remove(0);
        assert_eq!(
            format!("{sent:?}"),
            format!(
                "DELETE http://b.example:8080/base/v2/service_instances/{id}\
                 ?service_id=s&plan_id=p&accepts_incomplete=true"
            )
        );
        let header = |name: &str| sent.headers.iter().find(|(known, _)| known == name);
        assert_eq!(header("authorization").unwrap().1, "Bearer canary");
        assert!(header("x-broker-api-version").is_some());
    }
}
