//! Reading a document into a spec, and writing documents as answers.

use axum::Json;
use axum::response::{IntoResponse, Response};
use engine_model::spec::Spec;
use engine_model::{Answer, AsOf, Code, CommandId, Kind, Name, Seq, document};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::app::App;
use crate::caller;
use crate::refusal::Refusal;
use crate::spill;

/// How far the view that is shown had folded.
const AS_OF: HeaderName = HeaderName::from_static("x-dispatch-as-of");

/// Reads a document of `kind`: seals its secrets, and puts away what is too large for a message.
/// `path_name` is the name in the path, which the document may leave out and may not contradict.
pub(crate) async fn read(
    app: &App,
    kind: Kind,
    mut document: Value,
    path_name: Option<&Name>,
) -> Result<(Name, Spec), Refusal> {
    if let (Some(fields), Some(name)) = (document.as_object_mut(), path_name) {
        fields.entry("name").or_insert_with(|| name.as_str().into());
    }
    let (name, spec) = document::read(kind, document, &*app.ports.seal)?;
    if let Some(path_name) = path_name.filter(|path_name| **path_name != name) {
        let message = format!("the document is of '{name}', and the path of '{path_name}'");
        return Err(Refusal::new(Code::InvalidField, message));
    }
    Ok((name, spill::spec(app.ports.blobs.as_ref(), spec).await?))
}

/// An answer: documents, and what a client may want to know besides.
pub(crate) struct Shown {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
    /// How far the view had folded.
    pub(crate) as_of: Option<AsOf>,
    /// The position of the decision, so that later reads can ask for it.
    pub(crate) seq: Option<Seq>,
    /// Where the resource is.
    pub(crate) location: Option<String>,
}

impl Shown {
    /// What a view shows.
    pub(crate) fn view(body: Value, as_of: AsOf) -> Self {
        Self {
            status: StatusCode::OK,
            body: Some(body),
            as_of: Some(as_of),
            seq: None,
            location: None,
        }
    }

    /// All that a view answers.
    pub(crate) fn all(answer: Answer) -> Self {
        Self::view(Value::Array(answer.documents), answer.as_of)
    }

    /// What came of a write.
    pub(crate) fn written(status: StatusCode, seq: Seq, body: Option<Value>) -> Self {
        Self {
            status,
            body,
            as_of: None,
            seq: Some(seq),
            location: None,
        }
    }
}

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, Json(body)).into_response(),
            None => self.status.into_response(),
        };
        let headers = response.headers_mut();
        if let Some(as_of) = self.as_of {
            headers.insert(AS_OF, HeaderValue::from(as_of.seq.0));
        }
        if let Some(seq) = self.seq {
            headers.insert(
                HeaderName::from_static(caller::AT_LEAST),
                HeaderValue::from(seq.0),
            );
        }
        if let Some(location) = self.location {
            let location = HeaderValue::try_from(location).expect("paths are made of names");
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// Every answer to a command says under which id it can be repeated.
pub(crate) fn to_command(id: CommandId, answer: Result<impl IntoResponse, Refusal>) -> Response {
    let mut response = match answer {
        Ok(shown) => shown.into_response(),
        Err(refusal) => refusal.into_response(),
    };
    let id = HeaderValue::try_from(id.to_string()).expect("a uuid is a header value");
    response
        .headers_mut()
        .insert(HeaderName::from_static(caller::COMMAND_ID), id);
    response
}
