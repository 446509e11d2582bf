//! What the broker keeps, and how it answers when nothing goes wrong.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::{Bound, RangeInclusive};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use serde_json::{Value, json};

use super::fault::{Canned, Fault, On, Target, Then, Work};
use super::{Options, Pace, Recorded, rules};

/// One service, `fake-postgresql`, with the plans `small` and `large`.
#[must_use]
pub fn default_catalog() -> Value {
    let plan = |id: &str, name: &str| json!({"id": id, "name": name, "description": name});
    json!({"services": [{
        "id": "fake-service-id", "name": "fake-postgresql", "description": "Not a database",
        "bindable": true, "plan_updateable": true,
        "instances_retrievable": true, "bindings_retrievable": true,
        "plans": [plan("small-plan-id", "small"), plan("large-plan-id", "large")],
    }]})
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) pace: Pace,
    pub(super) binding_body: Option<Value>,
    pub(super) operation: Option<String>,
    pub(super) versions: RangeInclusive<u16>,
    pub(super) requests: Vec<Recorded>,
    pub(super) counts: HashMap<On, u64>,
    pub(super) violations: Vec<String>,
    catalog: Value,
    catalog_version: u64,
    record: bool,
    scripts: HashMap<On, VecDeque<Fault>>,
    /// An instance comes right before its bindings.
    things: BTreeMap<Key, Thing>,
    gone: HashSet<Key>,
    passwords: u64,
}

/// An instance, or a binding of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    instance: String,
    binding: Option<String>,
}

#[derive(Debug)]
struct Thing {
    /// The body that it was asked for with, to tell a repeat from a clash.
    asked: Value,
    /// The answer's body when it is complete.
    told: Value,
    work: Option<InProgress>,
    /// The description of the last operation, when that failed.
    failed: Option<String>,
}

#[derive(Debug)]
struct InProgress {
    left: Left,
    deleting: bool,
    /// The thing as it will be after an update.
    becomes: Option<Value>,
    operation: Option<String>,
    doomed: Option<String>,
}

#[derive(Debug)]
enum Left {
    Polls(u32),
    Until(Instant),
}

struct Asked<'a> {
    on: On,
    key: Key,
    body: Value,
    query: &'a HashMap<String, String>,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        Self {
            pace: options.pace,
            binding_body: None,
            operation: Some("work +/=&?%".to_owned()),
            versions: 0..=u16::MAX,
            requests: Vec::new(),
            counts: HashMap::new(),
            violations: Vec::new(),
            catalog: options.catalog,
            catalog_version: 1,
            record: options.record,
            scripts: HashMap::new(),
            things: BTreeMap::new(),
            gone: HashSet::new(),
            passwords: 0,
        }
    }

    pub(super) fn script(&mut self, on: On, faults: impl IntoIterator<Item = Fault>) {
        self.scripts.entry(on).or_default().extend(faults);
    }

    pub(super) fn set_catalog(&mut self, catalog: Value) {
        self.catalog = catalog;
        self.catalog_version += 1;
    }

    pub(super) fn instances(&mut self) -> Vec<String> {
        self.settle_all();
        let mut ids: Vec<_> = self
            .things
            .keys()
            .filter(|key| key.binding.is_none())
            .map(|key| key.instance.clone())
            .collect();
        ids.sort();
        ids
    }

    pub(super) fn bindings(&mut self) -> Vec<String> {
        self.settle_all();
        let mut ids: Vec<_> = self
            .things
            .keys()
            .filter_map(|key| key.binding.clone())
            .collect();
        ids.sort();
        ids
    }

    /// Takes in a request: how long to wait, what to do then, and the usual answer.
    pub(super) fn handle(&mut self, head: Parts, bytes: Bytes) -> (Duration, Then, Canned) {
        let path = head.uri.path().to_owned();
        let read = On::read(&head.method, &path);
        let on = read.as_ref().map(|(on, _)| *on);
        if self.record {
            self.requests.push(Recorded {
                on,
                method: head.method.clone(),
                uri: head.uri.clone(),
                headers: head.headers.clone(),
                body: bytes.clone(),
            });
        }
        let Some((on, target)) = read else {
            self.violations
                .push(format!("{} {path}: no such route", head.method));
            return (
                Duration::ZERO,
                Then::Usual,
                said(404, "NotFound", "no such route"),
            );
        };
        *self.counts.entry(on).or_default() += 1;
        if !rules::authorized(&head.headers) {
            return (
                Duration::ZERO,
                Then::Usual,
                said(401, "Unauthorized", "wrong credentials"),
            );
        }
        if rules::minor(&head.headers).is_some_and(|minor| !self.versions.contains(&minor)) {
            let wanted = format!("X-Broker-API-Version 2.{} is wanted", self.versions.end());
            let refused = said(412, "PreconditionFailed", &wanted);
            return (Duration::ZERO, Then::Usual, refused);
        }
        let query = query(head.uri.query().unwrap_or_default());
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        self.violations
            .extend(rules::broken(on, &head.headers, &query, &body));
        let fault = self.scripts.get_mut(&on).and_then(VecDeque::pop_front);
        let fault = fault.unwrap_or_else(Fault::none);
        if let (On::Catalog, Work::Usual) = (on, &fault.work) {
            let known = head
                .headers
                .get("if-none-match")
                .and_then(|v| v.to_str().ok());
            return (fault.wait, fault.then, self.catalog(known));
        }
        let asked = Asked {
            on,
            key: key(&target),
            body,
            query: &query,
        };
        let usual = match fault.work {
            Work::Nothing => said(500, "None", "no work was done"),
            Work::Usual => self.work(asked, None),
            Work::Doomed(description) => self.work(asked, Some(description)),
        };
        (fault.wait, fault.then, usual)
    }

    fn catalog(&self, known: Option<&str>) -> Canned {
        let etag = format!("\"{}\"", self.catalog_version);
        let mut answer = if known == Some(etag.as_str()) {
            Canned {
                status: 304,
                headers: Vec::new(),
                body: Vec::new(),
            }
        } else {
            ok(200, &self.catalog)
        };
        answer.headers.push(("etag", etag));
        answer
    }

    fn work(&mut self, asked: Asked<'_>, doomed: Option<String>) -> Canned {
        self.settle(&asked.key);
        match asked.on {
            On::Catalog => ok(200, &self.catalog),
            On::Provision | On::Bind => self.create(asked, doomed),
            On::Update => self.update(asked, doomed),
            On::Deprovision | On::Unbind => self.delete(asked, doomed),
            On::FetchInstance | On::FetchBinding => self.fetch(&asked.key),
            On::PollInstance | On::PollBinding => self.poll(&asked),
        }
    }

    fn create(&mut self, asked: Asked<'_>, doomed: Option<String>) -> Canned {
        if self.gone.contains(&asked.key) {
            self.violations.push(format!(
                "{:?}: the id {:?} is used again",
                asked.on, asked.key
            ));
        }
        if let Some(thing) = self.things.get(&asked.key) {
            if thing.asked != asked.body {
                return said(409, "Conflict", "it exists with other attributes");
            }
            return match &thing.work {
                Some(work) if work.deleting => concurrency(),
                Some(work) => accepted(work),
                None => ok(200, &thing.told),
            };
        }
        if asked.key.binding.is_some() {
            let instance = Key {
                binding: None,
                ..asked.key.clone()
            };
            self.settle(&instance);
            match self.things.get(&instance) {
                None => return said(404, "NotFound", "no such instance"),
                Some(Thing { work: Some(_), .. }) => return concurrency(),
                Some(_) => {}
            }
        }
        let told = self.told(&asked);
        let work = match self.begin(&asked, doomed) {
            Ok(work) => work,
            Err(refused) => return refused,
        };
        let answer = work.as_ref().map_or_else(|| ok(201, &told), accepted);
        let thing = Thing {
            asked: asked.body,
            told,
            work,
            failed: None,
        };
        self.things.insert(asked.key, thing);
        answer
    }

    fn told(&mut self, asked: &Asked<'_>) -> Value {
        if asked.key.binding.is_none() {
            return json!({ "dashboard_url": format!("http://fake/{}", asked.key.instance) });
        }
        if let Some(body) = &self.binding_body {
            return body.clone();
        }
        self.passwords += 1;
        let (user, password) = ("bound", format!("canary-binding-{}", self.passwords));
        json!({"credentials": {
            "host": "127.0.0.1", "port": 5432, "username": user, "password": password,
            "uri": format!("postgres://{user}:{password}@127.0.0.1:5432/db"),
        }})
    }

    /// How the work goes: at once (`None`), or in progress, if the platform accepts that.
    fn begin(
        &self,
        asked: &Asked<'_>,
        doomed: Option<String>,
    ) -> Result<Option<InProgress>, Canned> {
        let left = match self.pace {
            Pace::Sync if doomed.is_none() => return Ok(None),
            Pace::Sync => Left::Polls(0),
            Pace::Polls(polls) => Left::Polls(polls),
            Pace::For(time) => Left::Until(Instant::now() + time),
        };
        if asked.query.get("accepts_incomplete").map(String::as_str) != Some("true") {
            return Err(said(422, "AsyncRequired", "this takes a while"));
        }
        let deleting = matches!(asked.on, On::Deprovision | On::Unbind);
        let operation = self.operation.clone();
        Ok(Some(InProgress {
            left,
            deleting,
            becomes: None,
            operation,
            doomed,
        }))
    }

    fn update(&mut self, asked: Asked<'_>, doomed: Option<String>) -> Canned {
        let work = self.begin(&asked, doomed);
        let Some(thing) = self.things.get_mut(&asked.key) else {
            return said(404, "NotFound", "no such instance");
        };
        if thing.work.is_some() {
            return concurrency();
        }
        let mut becomes = thing.asked.clone();
        for field in ["plan_id", "parameters", "maintenance_info"] {
            if let Some(value) = asked.body.get(field) {
                becomes[field] = value.clone();
            }
        }
        match work {
            Err(refused) => refused,
            Ok(None) => {
                thing.asked = becomes;
                ok(200, &json!({}))
            }
            Ok(Some(mut work)) => {
                work.becomes = Some(becomes);
                let answer = accepted(&work);
                thing.work = Some(work);
                answer
            }
        }
    }

    fn delete(&mut self, asked: Asked<'_>, doomed: Option<String>) -> Canned {
        let Some(thing) = self.things.get(&asked.key) else {
            return Canned {
                status: 410,
                headers: Vec::new(),
                body: b"{}".to_vec(),
            };
        };
        for field in ["service_id", "plan_id"] {
            let right = thing.asked.get(field).and_then(Value::as_str);
            if asked.query.get(field).map(String::as_str) != right {
                self.violations
                    .push(format!("{:?}: another {field}", asked.on));
            }
        }
        match &thing.work {
            Some(work) if work.deleting => return accepted(work),
            Some(_) => return concurrency(),
            None => {}
        }
        let instance = &asked.key.instance;
        let after = (Bound::Excluded(&asked.key), Bound::Unbounded);
        let next = self.things.range(after).next();
        let bound = next.is_some_and(|(key, _)| &key.instance == instance);
        if asked.key.binding.is_none() && bound {
            self.violations
                .push(format!("Deprovision: {instance} still has bindings"));
            return said(400, "BadRequest", "the instance still has bindings");
        }
        match self.begin(&asked, doomed) {
            Err(refused) => refused,
            Ok(None) => {
                self.remove(&asked.key);
                ok(200, &json!({}))
            }
            Ok(Some(work)) => {
                let answer = accepted(&work);
                self.things
                    .entry(asked.key)
                    .and_modify(|thing| thing.work = Some(work));
                answer
            }
        }
    }

    fn fetch(&self, key: &Key) -> Canned {
        match self.things.get(key) {
            Some(Thing {
                work: Some(work), ..
            }) if work.becomes.is_some() => concurrency(),
            Some(thing) if thing.work.is_none() => {
                let mut told = thing.told.clone();
                for field in ["service_id", "plan_id", "parameters", "maintenance_info"] {
                    if let (None, Some(value)) = (&key.binding, thing.asked.get(field)) {
                        told[field] = value.clone();
                    }
                }
                ok(200, &told)
            }
            _ => said(404, "NotFound", "it is not there, or not yet"),
        }
    }

    fn poll(&mut self, asked: &Asked<'_>) -> Canned {
        let Some(thing) = self.things.get_mut(&asked.key) else {
            return Canned {
                status: 410,
                headers: Vec::new(),
                body: b"{}".to_vec(),
            };
        };
        if let Some(work) = &mut thing.work {
            if asked.query.get("operation") != work.operation.as_ref() {
                self.violations
                    .push(format!("{:?}: another operation is echoed", asked.on));
            }
            let going_on = match &mut work.left {
                Left::Polls(0) => false,
                Left::Polls(left) => {
                    *left -= 1;
                    true
                }
                Left::Until(_) => true,
            };
            if going_on {
                return ok(
                    200,
                    &json!({"state": "in progress", "description": "working"}),
                );
            }
            let deleted = work.deleting && work.doomed.is_none();
            self.finish(&asked.key);
            if deleted {
                return ok(200, &json!({"state": "succeeded"}));
            }
        }
        match self
            .things
            .get(&asked.key)
            .and_then(|thing| thing.failed.as_ref())
        {
            Some(description) => ok(200, &json!({"state": "failed", "description": description})),
            None => ok(200, &json!({"state": "succeeded", "description": "done"})),
        }
    }

    fn settle_all(&mut self) {
        let keys: Vec<_> = self.things.keys().cloned().collect();
        for key in keys {
            self.settle(&key);
        }
    }

    /// Finishes work whose time has come.
    fn settle(&mut self, key: &Key) {
        let work = self.things.get(key).and_then(|thing| thing.work.as_ref());
        if let Some(InProgress {
            left: Left::Until(end),
            ..
        }) = work
            && *end <= Instant::now()
        {
            self.finish(key);
        }
    }

    fn finish(&mut self, key: &Key) {
        let Some(thing) = self.things.get_mut(key) else {
            return;
        };
        let Some(work) = thing.work.take() else {
            return;
        };
        thing.failed = work.doomed;
        if thing.failed.is_some() {
            return;
        }
        if let Some(becomes) = work.becomes {
            thing.asked = becomes;
        }
        if work.deleting {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &Key) {
        self.things.remove(key);
        self.gone.insert(key.clone());
    }
}

fn key(target: &Target<'_>) -> Key {
    match target {
        Target::Catalog => Key {
            instance: String::new(),
            binding: None,
        },
        Target::Instance(id) => Key {
            instance: decode(id),
            binding: None,
        },
        Target::Binding(id, binding) => Key {
            instance: decode(id),
            binding: Some(decode(binding)),
        },
    }
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

/// Percent-decodes; a plus sign stands for itself.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|d| std::str::from_utf8(d).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ok(status: u16, body: &Value) -> Canned {
    let headers = vec![("content-type", "application/json".to_owned())];
    Canned {
        status,
        headers,
        body: body.to_string().into_bytes(),
    }
}

fn said(status: u16, error: &str, description: &str) -> Canned {
    ok(
        status,
        &json!({ "error": error, "description": description }),
    )
}

fn concurrency() -> Canned {
    said(422, "ConcurrencyError", "another operation is in progress")
}

fn accepted(work: &InProgress) -> Canned {
    ok(202, &json!({ "operation": work.operation }))
}
