//! A group of routes: one kind of resource, listed, made, shown, changed and taken away in the way
//! of the original. What differs between the kinds is data.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use engine_model::{Code, Command, Deletion, Filter, Kind, Name, Seq};
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::ask::Fresh;
use crate::body::{self, Bounds};
use crate::caller::Caller;
use crate::document::{self, Shown, to_command};
use crate::filter::{Field, Params, TAGS, Wanted};
use crate::path::{At, name};
use crate::refusal::Refusal;
use crate::table::Place;

/// Whether what uses a resource is deleted with it.
const CASCADE: &str = "cascade";

/// A kind of resource and how it is served.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    /// The path of all of them.
    pub(crate) all: &'static str,
    /// The path of one of them, with `{name}`.
    pub(crate) one: &'static str,
    /// What a `POST` answers; `None` where there is no `POST`.
    pub(crate) created: Option<StatusCode>,
    /// What a `PUT` answers; `None` where there is no `PUT`.
    pub(crate) updated: Option<StatusCode>,
    /// What a `DELETE` answers: with 204 nothing, otherwise the last document.
    pub(crate) deleted: Option<StatusCode>,
    /// Filters of the list besides tags.
    pub(crate) filters: &'static [Field],
}

impl Group {
    /// The places of this group in the table.
    pub(crate) fn places(&'static self) -> Vec<Place> {
        let mut all = Place::at(self.all)
            .get(move |State(app), caller, params| list(app, self, caller, params));
        if let Some(status) = self.created {
            all = all.post(
                move |State(app): State<Arc<App>>, caller: Caller, params, request| async move {
                    let id = caller.command;
                    to_command(id, create(app, self, status, caller, params, request).await)
                },
            );
        }
        let mut one = Place::at(self.one)
            .get(move |State(app), caller, At(name), params| show(app, self, caller, name, params));
        if let Some(status) = self.updated {
            one = one.put(
                move |State(app): State<Arc<App>>,
                      caller: Caller,
                      At(name): At<String>,
                      params,
                      request| async move {
                    let id = caller.command;
                    let to = (self, status, name);
                    to_command(id, update(app, to, caller, params, request).await)
                },
            );
        }
        if let Some(status) = self.deleted {
            one =
                one.delete(
                    move |State(app): State<Arc<App>>,
                          caller: Caller,
                          At(name): At<String>,
                          params| async move {
                        let id = caller.command;
                        to_command(id, delete(app, (self, status, name), caller, params).await)
                    },
                );
        }
        vec![all, one]
    }

    fn bounds(&self, app: &App) -> Bounds {
        if self.kind == Kind::Function {
            app.source_bounds()
        } else {
            app.bounds()
        }
    }

    fn location(&self, name: &Name) -> String {
        self.one.replace("{name}", name.as_str())
    }
}

/// Reads the body of a request that needs one.
pub(crate) async fn required(request: Request<Body>, bounds: Bounds) -> Result<Value, Refusal> {
    let body = body::json(request, bounds).await?;
    body.ok_or_else(|| {
        Refusal::new(
            Code::MalformedCommand,
            "the body is empty: a JSON object is required",
        )
    })
}

async fn list(
    app: Arc<App>,
    group: &Group,
    caller: Caller,
    params: Params,
) -> Result<Shown, Refusal> {
    let known: Vec<_> = group
        .filters
        .iter()
        .map(|f| f.parameter)
        .chain([TAGS])
        .collect();
    let wanted = Wanted::read(&params.only(known)?, group.filters)?;
    let filter = Filter::All {
        kind: group.kind,
        tag: wanted.tag(),
    };
    let fresh = Fresh {
        events: caller.at_least,
        ..Fresh::default()
    };
    let mut answer = app.query(&caller, filter, fresh).await?;
    answer.documents.retain(|document| wanted.takes(document));
    Ok(Shown::all(answer))
}

async fn create(
    app: Arc<App>,
    group: &Group,
    status: StatusCode,
    caller: Caller,
    params: Params,
    request: Request<Body>,
) -> Result<Shown, Refusal> {
    params.only([])?;
    let body = required(request, group.bounds(&app)).await?;
    let (name, spec) = document::read(&app, group.kind, body, None).await?;
    let seq = app
        .decided(&caller, group.kind, &name, Command::Create(spec))
        .await?;
    let (document, _) = app.one(&caller, group.kind, &name, seq).await?;
    let location = Some(group.location(&name));
    Ok(Shown {
        location,
        ..Shown::written(status, seq, Some(document))
    })
}

async fn show(
    app: Arc<App>,
    group: &Group,
    caller: Caller,
    text: String,
    params: Params,
) -> Result<Shown, Refusal> {
    let params = params.only([TAGS])?;
    let (document, as_of) = tagged(&app, group, &caller, &name(text)?, &params).await?;
    Ok(Shown::view(document, as_of))
}

/// A resource that bears the tags that are asked for; any other is not there for the client.
async fn tagged(
    app: &App,
    group: &Group,
    caller: &Caller,
    name: &Name,
    params: &Params,
) -> Result<(Value, engine_model::AsOf), Refusal> {
    let wanted = Wanted::read(params, &[])?;
    let (document, as_of) = app.one(caller, group.kind, name, caller.at_least).await?;
    if !wanted.takes(&document) {
        return Err(Refusal::not_found(group.kind, name));
    }
    Ok((document, as_of))
}

async fn update(
    app: Arc<App>,
    (group, status, text): (&Group, StatusCode, String),
    caller: Caller,
    params: Params,
    request: Request<Body>,
) -> Result<Shown, Refusal> {
    let params = params.only([TAGS])?;
    let name = name(text)?;
    let body = required(request, group.bounds(&app)).await?;
    engine_model::document::replaces_whole(group.kind, &body)?;
    let (name, spec) = document::read(&app, group.kind, body, Some(&name)).await?;
    if params.get(TAGS).is_some() {
        tagged(&app, group, &caller, &name, &params).await?;
    }
    let seq = app
        .decided(&caller, group.kind, &name, Command::Update(spec))
        .await?;
    let (document, _) = app.one(&caller, group.kind, &name, seq).await?;
    Ok(Shown::written(status, seq, Some(document)))
}

async fn delete(
    app: Arc<App>,
    (group, status, text): (&Group, StatusCode, String),
    caller: Caller,
    params: Params,
) -> Result<Shown, Refusal> {
    let params = params.only([TAGS, CASCADE])?;
    let cascade = params.read(CASCADE, "'true' or 'false'")?.unwrap_or(false);
    let name = name(text)?;
    let before = match tagged(&app, group, &caller, &name, &params).await {
        Ok((document, _)) => Some(document),
        // The engine may still know the command, and then answers with its first outcome.
        Err(refusal) if refusal.code == Code::NotFound && params.get(TAGS).is_none() => None,
        Err(refusal) => return Err(refusal),
    };
    let deletion = Command::Delete(Deletion { cascade });
    let seq = app.decided(&caller, group.kind, &name, deletion).await?;
    if status == StatusCode::NO_CONTENT {
        return Ok(Shown::written(status, seq, None));
    }
    let last = last_document(&app, group, &caller, &name, before, seq).await?;
    Ok(Shown::written(status, seq, Some(last)))
}

/// The document of what is being deleted, or of what is gone as it was.
async fn last_document(
    app: &App,
    group: &Group,
    caller: &Caller,
    name: &Name,
    before: Option<Value>,
    seq: Seq,
) -> Result<Value, Refusal> {
    match app.one(caller, group.kind, name, seq).await {
        Ok((document, _)) => Ok(document),
        Err(refusal) if refusal.code == Code::NotFound => {
            let known = json!({ "kind": group.kind, "name": name });
            let mut last = before.filter(Value::is_object).unwrap_or(known);
            last["status"] = json!(engine_model::Status::Deleted);
            Ok(last)
        }
        Err(refusal) => Err(refusal),
    }
}

/// The answer to a command on one resource that is neither made, changed nor taken away.
pub(crate) async fn operate(
    app: &App,
    group: &Group,
    caller: Caller,
    text: String,
    command: Command,
) -> Response {
    let done = async {
        let name = name(text)?;
        let seq = app.decided(&caller, group.kind, &name, command).await?;
        let (document, _) = app.one(&caller, group.kind, &name, seq).await?;
        Ok(Shown::written(StatusCode::ACCEPTED, seq, Some(document)))
    };
    to_command(caller.command, done.await)
}
