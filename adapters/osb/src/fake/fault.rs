//! What goes wrong with one request.

use std::time::Duration;

use http::Method;

/// The sorts of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum On {
    /// GET of the catalog.
    Catalog,
    /// PUT of an instance.
    Provision,
    /// PATCH of an instance.
    Update,
    /// DELETE of an instance.
    Deprovision,
    /// GET of an instance.
    FetchInstance,
    /// GET of an instance's last operation.
    PollInstance,
    /// PUT of a binding.
    Bind,
    /// DELETE of a binding.
    Unbind,
    /// GET of a binding.
    FetchBinding,
    /// GET of a binding's last operation.
    PollBinding,
}

/// What a request's path names.
pub(super) enum Target<'a> {
    Catalog,
    Instance(&'a str),
    Binding(&'a str, &'a str),
}

impl On {
    /// Reads a method and path; ids come as they stand in the path.
    pub(super) fn read<'a>(method: &Method, path: &'a str) -> Option<(Self, Target<'a>)> {
        let rest = path.strip_prefix("/v2/")?;
        let mut words = rest.split('/');
        let words: [Option<&str>; 6] = std::array::from_fn(|_| words.next());
        let instances = Some("service_instances");
        let bindings = Some("service_bindings");
        let polled = Some("last_operation");
        Some(match (method.as_str(), words) {
            ("GET", [Some("catalog"), None, ..]) => (Self::Catalog, Target::Catalog),
            (method, [kind, Some(id), None, ..]) if kind == instances => {
                let on = match method {
                    "PUT" => Self::Provision,
                    "PATCH" => Self::Update,
                    "DELETE" => Self::Deprovision,
                    "GET" => Self::FetchInstance,
                    _ => return None,
                };
                (on, Target::Instance(id))
            }
            ("GET", [kind, Some(id), last, None, ..]) if kind == instances && last == polled => {
                (Self::PollInstance, Target::Instance(id))
            }
            (method, [kind, Some(id), sub, Some(binding), last, None])
                if kind == instances && sub == bindings =>
            {
                let on = match (method, last) {
                    ("PUT", None) => Self::Bind,
                    ("DELETE", None) => Self::Unbind,
                    ("GET", None) => Self::FetchBinding,
                    ("GET", last) if last == polled => Self::PollBinding,
                    _ => return None,
                };
                (on, Target::Binding(id, binding))
            }
            _ => return None,
        })
    }
}

/// What goes wrong with one request, and whether its work was done first.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) wait: Duration,
    pub(super) work: Work,
    pub(super) then: Then,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    /// None is done.
    Nothing,
    /// It is done as usual.
    Usual,
    /// It begins, and its last operation says that it failed.
    Doomed(String),
}

#[derive(Debug, Clone)]
pub(super) enum Then {
    /// The usual answer.
    Usual,
    /// Another answer.
    Say(Canned),
    /// The connection ends without an answer.
    Drop,
    /// No answer, and the connection stays.
    Hang,
    /// Half of the usual body, then the connection ends.
    Half,
    /// The usual body, a byte at a time, each after this long.
    Drip(Duration),
}

#[derive(Debug, Clone)]
pub(super) struct Canned {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Fault {
    fn new(work: Work, then: Then) -> Self {
        Self {
            wait: Duration::ZERO,
            work,
            then,
        }
    }

    /// Nothing goes wrong: to let a request pass before the next fault.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Work::Usual, Then::Usual)
    }

    /// This answer, and no work was done.
    #[must_use]
    pub fn say(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::new(
            Work::Nothing,
            Then::Say(Canned {
                status,
                headers: Vec::new(),
                body,
            }),
        )
    }

    /// An error with its word, and no work was done.
    #[must_use]
    pub fn error(status: u16, word: &str, description: &str) -> Self {
        let body = serde_json::json!({ "error": word, "description": description });
        Self::say(status, body.to_string())
    }

    /// 422 `AsyncRequired`.
    #[must_use]
    pub fn async_required() -> Self {
        Self::error(422, "AsyncRequired", "this takes a while")
    }

    /// 422 `ConcurrencyError`.
    #[must_use]
    pub fn concurrency() -> Self {
        Self::error(422, "ConcurrencyError", "another operation is in progress")
    }

    /// 422 `MaintenanceInfoConflict`.
    #[must_use]
    pub fn maintenance_conflict() -> Self {
        Self::error(422, "MaintenanceInfoConflict", "the catalog has changed")
    }

    /// 410.
    #[must_use]
    pub fn gone() -> Self {
        Self::say(410, "{}")
    }

    /// 429, with the seconds to wait.
    #[must_use]
    pub fn too_many(seconds: u32) -> Self {
        Self::error(429, "TooManyRequests", "slow down").header("retry-after", seconds)
    }

    /// A page as a proxy would send it.
    #[must_use]
    pub fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head></html>";
        Self::say(status, page).header("content-type", "text/html")
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::say(302, "").header("location", to)
    }

    /// The connection ends without an answer, and no work was done.
    #[must_use]
    pub fn drop() -> Self {
        Self::new(Work::Nothing, Then::Drop)
    }

    /// No answer ever, and no work was done.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Work::Nothing, Then::Hang)
    }

    /// Half of the usual answer.
    #[must_use]
    pub fn half() -> Self {
        Self::new(Work::Usual, Then::Half)
    }

    /// The usual answer, a byte at a time.
    #[must_use]
    pub fn drip(each: Duration) -> Self {
        Self::new(Work::Usual, Then::Drip(each))
    }

    /// The work begins (asynchronously, whatever the pace), and ends badly.
    #[must_use]
    pub fn doomed(description: &str) -> Self {
        Self::new(Work::Doomed(description.to_owned()), Then::Usual)
    }

    /// The same, but the work was done before.
    #[must_use]
    pub fn after_work(mut self) -> Self {
        self.work = Work::Usual;
        self
    }

    /// The same, after waiting.
    #[must_use]
    pub fn delayed(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The same, with a header; only for an answer that is not the usual one.
    ///
    /// # Panics
    /// When the fault has no answer of its own.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        let Then::Say(canned) = &mut self.then else {
            panic!("no answer that could have a header")
        };
        canned.headers.push((name, value.to_string()));
        self
    }
}
