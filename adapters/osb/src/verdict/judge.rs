//! From a reply to its meaning, for every request but polls.

use serde_json::{Map, Value};

use super::answer::{Accepted, Answer, Doubt, Fetched, Refusal};
use super::orphan::{Mishap, Request, orphan};
use crate::reply::{Body, Headers, Reply, What};
use crate::wire::{Binding, Catalog, Empty, Instance, Message, Provisioned};

/// What came of fetching the catalog.
#[must_use]
pub fn catalog(reply: &Reply) -> Answer<Fetched> {
    if let What::Answered { status: 304, .. } = reply.what {
        return Answer::Done(Fetched::NotModified);
    }
    let etag = match &reply.what {
        What::Answered { headers, .. } => headers.etag.clone(),
        What::NotSent(_) | What::TimedOut | What::Lost(_) => None,
    };
    judge::<Catalog>(Request::Catalog, reply).map(|catalog| Fetched::Catalog { etag, catalog })
}

/// What came of a provision.
#[must_use]
pub fn provision(reply: &Reply) -> Answer<Provisioned> {
    judge(Request::Provision, reply)
}

/// What came of an update.
#[must_use]
pub fn update(reply: &Reply) -> Answer<Provisioned> {
    judge(Request::Update, reply)
}

/// What came of a deprovision.
#[must_use]
pub fn deprovision(reply: &Reply) -> Answer<()> {
    judge::<Empty>(Request::Deprovision, reply).map(|_| ())
}

/// What came of fetching an instance. `Gone` may also mean that its provision is under way.
#[must_use]
pub fn fetch_instance(reply: &Reply) -> Answer<Instance> {
    judge(Request::FetchInstance, reply)
}

/// What came of a bind.
#[must_use]
pub fn bind(reply: &Reply) -> Answer<Binding> {
    judge(Request::Bind, reply)
}

/// What came of an unbind.
#[must_use]
pub fn unbind(reply: &Reply) -> Answer<()> {
    judge::<Empty>(Request::Unbind, reply).map(|_| ())
}

/// What came of fetching a binding. `Gone` may also mean that its bind is under way.
#[must_use]
pub fn fetch_binding(reply: &Reply) -> Answer<Binding> {
    judge(Request::FetchBinding, reply)
}

impl<T> Answer<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Done(value) => Answer::Done(f(value)),
            Self::Exists(value) => Answer::Exists(f(value)),
            Self::Accepted(accepted) => Answer::Accepted(accepted),
            Self::Gone => Answer::Gone,
            Self::Rejected(refusal) => Answer::Rejected(refusal),
            Self::Busy { retry_after } => Answer::Busy { retry_after },
            Self::AsyncRequired => Answer::AsyncRequired,
            Self::MaintenanceConflict(refusal) => Answer::MaintenanceConflict(refusal),
            Self::TooMany { retry_after } => Answer::TooMany { retry_after },
            Self::Unavailable { reason } => Answer::Unavailable { reason },
            Self::Unknown(doubt) => Answer::Unknown(doubt),
        }
    }
}

fn judge<T: Message>(request: Request, reply: &Reply) -> Answer<T> {
    match &reply.what {
        What::NotSent(reason) => Answer::Unavailable {
            reason: reply.hide.shown(reason),
        },
        What::TimedOut => Answer::Unknown(silence(
            request,
            Mishap::TimedOut,
            "no answer in time".to_owned(),
        )),
        What::Lost(reason) => {
            let reason = format!("the connection ended: {}", reply.hide.shown(reason));
            Answer::Unknown(silence(request, Mishap::Lost, reason))
        }
        What::Answered {
            status,
            headers,
            body,
        } => Response {
            request,
            reply,
            status: *status,
            headers,
            body,
        }
        .judge(),
    }
}

fn silence(request: Request, mishap: Mishap, reason: String) -> Doubt {
    Doubt {
        mishap,
        status: None,
        reason,
        retry_after: None,
        orphan: orphan(request, mishap),
        instance_usable: true,
        update_repeatable: true,
    }
}

/// What a request can be answered with, as far as the statuses' meanings differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Create,
    Change,
    Delete,
    Read,
}

fn family(request: Request) -> Family {
    match request {
        Request::Provision | Request::Bind => Family::Create,
        Request::Update => Family::Change,
        Request::Deprovision | Request::Unbind => Family::Delete,
        Request::Catalog | Request::FetchInstance | Request::FetchBinding | Request::Poll(_) => {
            Family::Read
        }
    }
}

struct Response<'a> {
    request: Request,
    reply: &'a Reply,
    status: u16,
    headers: &'a Headers,
    body: &'a Body,
}

impl Response<'_> {
    fn judge<T: Message>(&self) -> Answer<T> {
        let family = family(self.request);
        match self.status {
            200 => match (read::<T>(self.body), family) {
                (Ok(value), Family::Create) => Answer::Exists(value),
                (Ok(value), Family::Change | Family::Delete | Family::Read) => Answer::Done(value),
                (Err(why), _) => self.malformed(Mishap::MalformedOk, &why),
            },
            201 if family != Family::Read => match read::<T>(self.body) {
                Ok(value) => Answer::Done(value),
                Err(why) => self.malformed(Mishap::MalformedCreated, &why),
            },
            202 if family != Family::Read => match read::<Accepted>(self.body) {
                Ok(accepted) => {
                    let retry_after = self.headers.retry_after;
                    Answer::Accepted(Accepted {
                        retry_after,
                        ..accepted
                    })
                }
                Err(why) => self.malformed(Mishap::MalformedAccepted, &why),
            },
            201..=299 => self.doubt(Mishap::OtherSuccess),
            300..=399 => self.doubt(Mishap::Redirect),
            404 if self.request == Request::FetchInstance
                || self.request == Request::FetchBinding =>
            {
                Answer::Gone
            }
            408 => Answer::Unavailable {
                reason: format!("status 408: {}", self.words()),
            },
            410 if family == Family::Delete => Answer::Gone,
            422 => self.unprocessable(),
            429 => Answer::TooMany {
                retry_after: self.headers.retry_after,
            },
            400..=499 => Answer::Rejected(self.refusal()),
            _ => self.doubt(Mishap::ServerError),
        }
    }

    fn unprocessable<T>(&self) -> Answer<T> {
        let refusal = self.refusal();
        match refusal.code.as_deref() {
            Some("AsyncRequired") => Answer::AsyncRequired,
            Some("ConcurrencyError") => Answer::Busy {
                retry_after: self.headers.retry_after,
            },
            Some("MaintenanceInfoConflict") => Answer::MaintenanceConflict(refusal),
            _ => Answer::Rejected(refusal),
        }
    }

    fn refusal(&self) -> Refusal {
        let said = Said::of(self.request, self.body);
        Refusal {
            status: self.status,
            code: said.code.map(|code| self.reply.hide.shown(&code)),
            description: self.words(),
            instance_usable: said.instance_usable,
            update_repeatable: said.update_repeatable,
        }
    }

    fn doubt<T>(&self, mishap: Mishap) -> Answer<T> {
        let said = Said::of(self.request, self.body);
        let reason = format!("status {}: {}", self.status, self.words());
        Answer::Unknown(Doubt {
            status: Some(self.status),
            retry_after: self.headers.retry_after,
            instance_usable: said.instance_usable,
            update_repeatable: said.update_repeatable,
            ..silence(self.request, mishap, reason)
        })
    }

    fn malformed<T>(&self, mishap: Mishap, why: &str) -> Answer<T> {
        // Of a success that cannot be read only the flaw is shown: its body may hold credentials.
        let reason = format!(
            "status {}, malformed: {}",
            self.status,
            self.reply.hide.shown(why)
        );
        Answer::Unknown(Doubt {
            status: Some(self.status),
            retry_after: self.headers.retry_after,
            ..silence(self.request, mishap, reason)
        })
    }

    fn words(&self) -> String {
        words(self.reply, self.body)
    }
}

/// What there is to show of the body of an answer that is not a success.
pub(crate) fn words(reply: &Reply, body: &Body) -> String {
    match body {
        Body::Whole(bytes) => reply.hide.body(bytes),
        Body::TooLarge => "a body that is too large".to_owned(),
        Body::Cut(why) => format!("a body that was cut off: {}", reply.hide.shown(why)),
    }
}

/// Reads a body that has to be an object. A missing or wrong content type does not matter.
pub(super) fn read<T: Message>(body: &Body) -> Result<T, String> {
    match body {
        Body::Whole(bytes) => T::read(object(bytes)?),
        Body::TooLarge => Err("the body is too large".to_owned()),
        Body::Cut(why) => Err(format!("the body was cut off: {why}")),
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    // serde_json's own message would show what it found, which may be a credential.
    match serde_json::from_slice(bytes) {
        Ok(object) => Ok(object),
        Err(_) if bytes.trim_ascii().is_empty() => Err("the body is empty".to_owned()),
        Err(_) if bytes.trim_ascii_start().starts_with(b"<") => {
            Err("the body is markup, not JSON".to_owned())
        }
        Err(e) if e.is_data() => Err("the body is JSON, but not an object".to_owned()),
        Err(e) => Err(format!(
            "the body is not JSON at line {}, column {}",
            e.line(),
            e.column()
        )),
    }
}

/// The fields of an error body that mean something.
struct Said {
    code: Option<String>,
    instance_usable: bool,
    update_repeatable: bool,
}

impl Said {
    fn of(request: Request, body: &Body) -> Self {
        let object = match body {
            Body::Whole(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
            Body::TooLarge | Body::Cut(_) => Map::new(),
        };
        let denied = |name| object.get(name).and_then(Value::as_bool) == Some(false);
        let changes = matches!(request, Request::Update | Request::Deprovision);
        Self {
            code: object
                .get("error")
                .and_then(Value::as_str)
                .map(str::to_owned),
            instance_usable: !(changes && denied("instance_usable")),
            update_repeatable: !(request == Request::Update && denied("update_repeatable")),
        }
    }
}
