//! Which API a request means.
//!
//! A path claims itself and everything below it, at the boundary of a segment: `/pay` claims
//! `/pay`, `/pay/` and `/pay/now`, but not `/payments`. A request goes to
//!
//! 1. the longest claimed path, so that an exact match precedes any prefix;
//! 2. there, an API that names the request's host before one that takes any;
//! 3. then an API that names the method before one that takes any;
//! 4. then the first in the order of organization and name.
//!
//! A path whose APIs take neither host, method nor protocol of the request is passed over for the
//! next shorter one. Only an API that would be right but wants HTTPS ends the search: what was
//! meant for a private line must not reach another function over an open one.
//!
//! Where only the fourth rule tells two APIs apart, both claim the same requests and one of them
//! gets none: that is a [`Conflict`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use http::Method;

use crate::api::Api;

/// A table of routes; immutable, so that a request sees one state of it throughout.
#[derive(Debug, Default)]
pub struct Routes {
    paths: HashMap<String, Claims>,
    /// Segments of the longest path: what a request has beyond that need not be looked up.
    depth_max: usize,
    conflicts: Vec<Conflict>,
}

/// Requests that two APIs claim alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path both claim.
    pub path: String,
    /// The host both name, or `None` when both take any.
    pub host: Option<String>,
    /// The method both name, or `None` when both take any.
    pub method: Option<String>,
    /// Who gets the requests.
    pub winner: Claimant,
    /// Who does not.
    pub loser: Claimant,
}

/// The API in a conflict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant {
    /// Its organization.
    pub org: String,
    /// Its name.
    pub name: String,
}

/// The APIs of one path, each list in the order of precedence.
#[derive(Debug, Default)]
struct Claims {
    by_host: HashMap<String, Vec<Arc<Route>>>,
    any_host: Vec<Arc<Route>>,
}

/// An enabled API, ready to be compared with requests.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) api: Api,
    pub(crate) public: bool,
    http: bool,
    https: bool,
}

/// What a request was found to mean.
#[derive(Debug)]
pub(crate) enum Found {
    Serve(Arc<Route>),
    NeedsHttps,
    Nothing,
}

impl Routes {
    /// Builds the table. The order of `apis` does not matter.
    #[must_use]
    pub fn build(apis: Vec<Api>) -> Self {
        let mut routes: Vec<_> = apis
            .into_iter()
            .filter(|api| api.enabled)
            .map(|api| Arc::new(Route::of(api)))
            .collect();
        routes.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        let mut by_path: BTreeMap<String, Vec<Arc<Route>>> = BTreeMap::new();
        for route in &routes {
            let root = ["/".to_owned()];
            let paths = if route.api.paths.is_empty() {
                &root[..]
            } else {
                &route.api.paths[..]
            };
            let distinct: HashSet<String> = paths.iter().map(|path| claimed(path)).collect();
            for path in distinct {
                by_path.entry(path).or_default().push(Arc::clone(route));
            }
        }
        let mut table = Self::default();
        for (path, routes) in by_path {
            table.conflicts.extend(conflicts(&path, &routes));
            table.depth_max = table.depth_max.max(depth(&path));
            table.paths.insert(path, Claims::of(routes));
        }
        table
    }

    /// The APIs that get less than they claim, in the order of path, winner and loser.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Finds the API for a path and host among those of which `takes` says yes.
    pub(crate) fn find(
        &self,
        path: &str,
        host: &str,
        secure: bool,
        takes: impl Fn(&Route) -> bool,
    ) -> Found {
        // A CONNECT names a host, and an OPTIONS may name the whole server.
        if !path.starts_with('/') {
            return Found::Nothing;
        }
        let path = decoded(path);
        let mut at = trimmed(cut(&path, self.depth_max));
        loop {
            if let Some(claims) = self.paths.get(at) {
                match claims.find(host, secure, &takes) {
                    Found::Nothing => {}
                    found => return found,
                }
            }
            if at == "/" {
                return Found::Nothing;
            }
            at = trimmed(&at[..at.rfind('/').unwrap_or(0)]);
        }
    }
}

impl Claims {
    fn of(routes: Vec<Arc<Route>>) -> Self {
        let mut claims = Self::default();
        for route in routes {
            let hosts: HashSet<String> = route.api.hosts.iter().map(|h| bare_host(h)).collect();
            for host in hosts {
                claims
                    .by_host
                    .entry(host)
                    .or_default()
                    .push(Arc::clone(&route));
            }
            if route.api.hosts.is_empty() {
                claims.any_host.push(route);
            }
        }
        claims
    }

    fn find(&self, host: &str, secure: bool, takes: impl Fn(&Route) -> bool) -> Found {
        let named = if self.by_host.is_empty() {
            None
        } else {
            self.by_host.get(host)
        };
        for routes in [named.map_or(&[][..], Vec::as_slice), &self.any_host] {
            let mut needs_https = false;
            for route in routes.iter().filter(|route| takes(route)) {
                if if secure { route.https } else { route.http } {
                    return Found::Serve(Arc::clone(route));
                }
                needs_https |= route.https;
            }
            if needs_https && !secure {
                return Found::NeedsHttps;
            }
        }
        Found::Nothing
    }
}

impl Route {
    fn of(mut api: Api) -> Self {
        for method in &mut api.methods {
            method.make_ascii_uppercase();
        }
        let speaks = |protocol: &str| {
            api.protocols.is_empty()
                || api
                    .protocols
                    .iter()
                    .any(|given| given.eq_ignore_ascii_case(protocol))
        };
        let (http, https) = (speaks("http"), speaks("https"));
        Self {
            public: api.authentication == "public",
            http,
            https,
            api,
        }
    }

    fn precedence(&self) -> (bool, &str, &str) {
        (self.api.methods.is_empty(), &self.api.org, &self.api.name)
    }

    fn claimant(&self) -> Claimant {
        Claimant {
            org: self.api.org.clone(),
            name: self.api.name.clone(),
        }
    }

    /// Whether the API takes a method. Who reads may also ask for the headers alone.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.api.methods.is_empty()
            || self.names(method)
            || (*method == Method::HEAD && self.names(&Method::GET))
    }

    /// Whether the API names a method.
    pub(crate) fn names(&self, method: &Method) -> bool {
        self.api
            .methods
            .iter()
            .any(|named| named == method.as_str())
    }
}

/// Walks the claims of one path in the order of precedence; the first to make a claim has it.
fn conflicts(path: &str, routes: &[Arc<Route>]) -> Vec<Conflict> {
    let mut holders: HashMap<(Option<String>, Option<String>, bool), Claimant> = HashMap::new();
    let mut found: BTreeMap<(Claimant, Claimant), Conflict> = BTreeMap::new();
    for route in routes {
        let claimant = route.claimant();
        for (host, method, secure) in claims(route) {
            let key = (host.clone(), method.clone(), secure);
            let winner = holders
                .entry(key)
                .or_insert_with(|| claimant.clone())
                .clone();
            if winner != claimant {
                let pair = (winner.clone(), claimant.clone());
                let (path, loser) = (path.to_owned(), claimant.clone());
                found.entry(pair).or_insert(Conflict {
                    path,
                    host,
                    method,
                    winner,
                    loser,
                });
            }
        }
    }
    found.into_values().collect()
}

/// Every combination of host, method and protocol that a route claims; `None` is "any".
fn claims(route: &Route) -> Vec<(Option<String>, Option<String>, bool)> {
    let any = |named: Vec<String>| -> Vec<Option<String>> {
        if named.is_empty() {
            vec![None]
        } else {
            named.into_iter().map(Some).collect()
        }
    };
    let hosts = any(route.api.hosts.iter().map(|host| bare_host(host)).collect());
    let methods = any(route.api.methods.clone());
    let mut claims = Vec::new();
    for host in &hosts {
        for method in &methods {
            for secure in [false, true] {
                if if secure { route.https } else { route.http } {
                    claims.push((host.clone(), method.clone(), secure));
                }
            }
        }
    }
    claims
}

/// A host without port, in lower case.
pub(crate) fn bare_host(host: &str) -> String {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    host[..end].trim_end_matches('.').to_ascii_lowercase()
}

/// A path as a key of the table: rooted, decoded, without a slash at its end.
fn claimed(path: &str) -> String {
    let rooted = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    trimmed(&decoded(&rooted)).to_owned()
}

fn trimmed(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path }
}

fn depth(path: &str) -> usize {
    path.bytes().filter(|&byte| byte == b'/').count()
}

/// The first `segments` segments of a path. Without this, a request of nothing but slashes would
/// cost one look-up, and one hash of what is left of it, for each of them.
fn cut(path: &str, segments: usize) -> &str {
    match path
        .bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'/')
        .nth(segments + 1)
    {
        Some((end, _)) => &path[..end],
        None => path,
    }
}

/// Undoes percent-encoding, so that `/gr%C3%BC%C3%9Fe` and `/grüße` are one path. An encoded slash
/// stays encoded: it is part of a segment and must not divide one.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let hex = |at: usize| {
        bytes
            .get(at)
            .and_then(|&digit| char::from(digit).to_digit(16))
    };
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(2), Some(15)) => plain.extend_from_slice(b"%2F"),
            (b'%', Some(high), Some(low)) => plain.push((high * 16 + low) as u8),
            _ => {
                plain.push(byte);
                at += 1;
                continue;
            }
        }
        at += 3;
    }
    String::from_utf8(plain).map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests;
