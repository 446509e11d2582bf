//! An endpoint as its owner described it.

/// One API: which requests it claims, and the function that answers them.
///
/// An empty `hosts`, `methods` or `protocols` claims all of them; an empty `paths` claims `/`,
/// and with it every path that no other API claims more closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The organization that owns the API and its function.
    pub org: String,
    /// The API's name within the organization.
    pub name: String,
    /// The function to run.
    pub function: String,
    /// Host names, compared without port and without regard to case.
    pub hosts: Vec<String>,
    /// HTTP methods; `GET` includes `HEAD`.
    pub methods: Vec<String>,
    /// `http`, `https` or both; `["https"]` is an API that refuses plain HTTP.
    pub protocols: Vec<String>,
    /// Paths, called `uris` in Dispatch's first version: each claims itself and what lies below it.
    pub paths: Vec<String>,
    /// `public` is served; anything else is refused with 401, because nothing checks it yet.
    pub authentication: String,
    /// Whether pages of other origins may call it.
    pub cors: bool,
    /// A disabled API is not served at all.
    pub enabled: bool,
    /// Whether each request leaves a run on record.
    pub record: bool,
}
