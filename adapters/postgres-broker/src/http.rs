//! The HTTP side: requests in, answers out. Nothing is decided here but who may ask, and in which
//! version of the protocol.

mod access;
mod bindings;
mod body;
mod counts;
mod instances;
mod listener;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub(crate) use access::Access;
pub(crate) use counts::Counts;
pub(crate) use listener::{Listener, tls};

use crate::answer::Answer;
use crate::catalog::Catalog;
use crate::config::Limits;
use crate::decide::PlanIds;
use crate::desk::{self, Ask};

/// What handlers work with.
#[derive(Clone)]
struct Front {
    desk: desk::Handle,
    catalog: Arc<Catalog>,
    limits: Limits,
    counts: Arc<Counts>,
}

/// All routes. Every one of them, and every other path, asks for the password.
pub(crate) fn router(
    desk: desk::Handle,
    catalog: Arc<Catalog>,
    access: Access,
    limits: &Limits,
) -> Router {
    let front = Front {
        desk,
        catalog,
        limits: limits.clone(),
        counts: Arc::clone(&access.counts),
    };
    let instance = "/v2/service_instances/{instance_id}";
    let binding = "/v2/service_instances/{instance_id}/service_bindings/{binding_id}";
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics_page))
        .route("/v2/catalog", get(catalog_page))
        .route(
            instance,
            get(instances::fetch)
                .put(instances::provision)
                .patch(instances::update)
                .delete(instances::deprovision),
        )
        .route(
            &format!("{instance}/last_operation"),
            get(instances::last_operation),
        )
        .route(
            binding,
            get(bindings::fetch)
                .put(bindings::bind)
                .delete(bindings::unbind),
        )
        .route(
            &format!("{binding}/last_operation"),
            get(bindings::last_operation),
        )
        .fallback(|| async { Answer::not_found("the broker has no such page") })
        .method_not_allowed_fallback(|| async {
            let text = "the page does not take this method";
            Answer::refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
        })
        .with_state(front)
        .layer(from_fn_with_state(Arc::new(access), access::check))
}

async fn health(State(front): State<Front>) -> Answer {
    match tokio::time::timeout(front.limits.answer_timeout, front.desk.health()).await {
        Ok(answer) => answer,
        Err(_) => Answer::broken("the broker is stuck"),
    }
}

async fn metrics_page(State(front): State<Front>) -> Response {
    let mut page = crate::metrics::Page::default();
    front.counts.write(&mut page);
    let of_desk = tokio::time::timeout(front.limits.answer_timeout, front.desk.metrics()).await;
    if let Ok(Some(of_desk)) = of_desk {
        page.append(&of_desk);
    }
    let kind = HeaderValue::from_static(crate::metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], page.into_text()).into_response()
}

async fn catalog_page(State(front): State<Front>, headers: HeaderMap) -> Response {
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == front.catalog.etag);
    let etag = HeaderValue::from_str(&front.catalog.etag).expect("a digest in quotes is a header");
    if known {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let kind = HeaderValue::from_static("application/json");
    let headers = [(header::ETAG, etag), (header::CONTENT_TYPE, kind)];
    (headers, front.catalog.body.clone()).into_response()
}

impl Front {
    /// Asks the desk, and waits as long as a platform would.
    async fn ask(&self, instance_id: String, ask: Ask) -> Result<Answer, Answer> {
        check_id(&instance_id, "instance_id")?;
        let asked = self.desk.ask(instance_id, ask);
        match tokio::time::timeout(self.limits.answer_timeout, asked).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(Answer::refused(
                StatusCode::GATEWAY_TIMEOUT,
                "StillUnderWay",
                "it takes longer than a request may: repeat it with accepts_incomplete=true",
            )),
        }
    }
}

fn check_id(id: &str, name: &str) -> Result<(), Answer> {
    if crate::names::is_id(id) {
        return Ok(());
    }
    Err(Answer::bad_request(format!(
        "{name} must be 1 to 128 letters, digits, or -._~, and not begin with a dot"
    )))
}

/// The parameters of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn accepts_incomplete(&self) -> Result<bool, Answer> {
        match self.get("accepts_incomplete") {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Answer::bad_request(
                "accepts_incomplete must be true or false",
            )),
        }
    }

    fn ids(&self) -> PlanIds {
        let owned = |name| self.get(name).map(str::to_owned);
        PlanIds {
            service_id: owned("service_id"),
            plan_id: owned("plan_id"),
        }
    }

    fn required_ids(&self) -> Result<PlanIds, Answer> {
        for name in ["service_id", "plan_id"] {
            if self.get(name).is_none_or(str::is_empty) {
                return Err(Answer::bad_request(format!("the query must name a {name}")));
            }
        }
        Ok(self.ids())
    }
}
