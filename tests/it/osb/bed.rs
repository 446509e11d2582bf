//! A platform of a test's own, in this process: the real decisions, shell and adapter on the log
//! in memory, and something that misbehaves before its broker. It can be killed at any moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adapter_kit::{
    Commands as _, MemoryBlobs, MemoryKeys, Performer, Submission, Vault, VaultError,
};
use adapter_osb::Services;
use adapter_osb::fake::{Options, PASSWORD, USERNAME};
use adapter_vault::{EnvelopeVault, MasterKeys, Sealer};
use engine_model::spec::Spec;
use engine_model::{
    Actor, BindingEvent, Command, CommandId, Deletion, Event, InstanceId, Kind, Name, OrgName,
    Recorded, Rejection, Reply, ResourceKey, Role, Sealed, Status, document,
};
use engine_runtime::{Node, NodeConfig};
use engine_stream::{Log as _, Memory};
use harness::faulty::{Faulty, On};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::run;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a request may take here: long for this machine, and short for a test.
pub(crate) const REQUEST: Duration = Duration::from_secs(1);

/// After how long a delivery that nobody ended comes again, when a node was killed.
const ACK_WAIT: Duration = Duration::from_millis(1_500);

/// The class that the broker offers, and its plans.
pub(crate) const CLASS: &str = "fake-postgresql";
pub(crate) const PLAN: &str = "small";

/// What a person sees of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) status: Status,
    pub(crate) reasons: Vec<String>,
}

impl Shown {
    pub(crate) fn reason(&self) -> String {
        self.reasons.join("; ")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.status == Status::Ready
    }

    pub(crate) fn is_error(&self) -> bool {
        self.status == Status::Error
    }
}

/// A platform, and a broker that misbehaves.
pub(crate) struct Bed {
    pub(crate) broker: Faulty,
    log: Memory,
    vault: Arc<dyn Vault>,
    sealer: Sealer,
    people: Runtime,
    node: Option<(Runtime, Node)>,
    _keys: TempDir,
}

impl Bed {
    /// With a broker that works at once.
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    /// With a broker that is as wished.
    pub(crate) fn with(options: Options) -> Self {
        Self::before(run::broker(options))
    }

    /// With this broker, which is registered.
    pub(crate) fn before(broker: Faulty) -> Self {
        let bed = Self::alone(broker);
        bed.register("broker");
        bed.until(Kind::ServiceClass, CLASS, "is offered", Shown::is_ready);
        bed
    }

    /// With a broker that nobody has registered.
    pub(crate) fn alone(broker: Faulty) -> Self {
        let keys = TempDir::new().unwrap();
        let masters = MasterKeys::create(&keys.path().join("master.key")).unwrap();
        let vault: Arc<dyn Vault> =
            Arc::new(EnvelopeVault::new(masters, Arc::new(MemoryKeys::default())));
        let mut bed = Self {
            broker,
            log: Memory::with_ack_wait(ACK_WAIT),
            sealer: Sealer::parse(&vault.public_key()).unwrap(),
            vault,
            people: Runtime::new().unwrap(),
            node: None,
            _keys: keys,
        };
        bed.node = Some(bed.node());
        bed
    }

    fn node(&self) -> (Runtime, Node) {
        // One thread is plenty for one engine, and several beds share the machine.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let services = Services::with_timeout(self.vault.clone(), REQUEST);
        let performers: Vec<Arc<dyn Performer>> = vec![Arc::new(services)];
        let node = Node::start(NodeConfig {
            roles: vec![Role::Engine],
            log: Arc::new(self.log.clone()),
            vault: self.vault.clone(),
            blobs: Arc::new(MemoryBlobs::default()),
            runner: None,
            runs_per_org: 0,
            performers: Box::new(move |_| performers),
        });
        let node = runtime.block_on(node).unwrap();
        (runtime, node)
    }

    /// Kills the engine wherever it is, and starts another on the same log.
    pub(crate) fn crash(&mut self) {
        let (runtime, node) = self.node.take().expect("it runs");
        runtime.shutdown_background();
        drop(node);
        self.node = Some(self.node());
    }

    // What people do.

    pub(crate) fn ask(&self, kind: Kind, name: &str, command: Command) -> Result<(), Rejection> {
        let submission = Submission {
            id: CommandId(Uuid::now_v7()),
            key: key(kind, name),
            command,
            actor: Actor("user:alice".into()),
        };
        match self.people.block_on(self.log.submit(submission)).unwrap() {
            Reply::Done { .. } => Ok(()),
            Reply::Rejected { rejection, .. } => Err(rejection),
        }
    }

    /// Registers the broker under a name.
    pub(crate) fn register(&self, name: &str) {
        self.register_at(name, &self.broker.url());
    }

    /// Registers another broker.
    pub(crate) fn register_at(&self, name: &str, url: &str) {
        let (name, spec) = self.broker_at(name, url);
        self.ask(Kind::ServiceBroker, name.as_str(), Command::Create(spec))
            .unwrap();
    }

    /// Says that the broker is elsewhere.
    pub(crate) fn move_broker(&self, url: &str) {
        let (name, spec) = self.broker_at("broker", url);
        self.ask(Kind::ServiceBroker, name.as_str(), Command::Update(spec))
            .unwrap();
    }

    fn broker_at(&self, name: &str, url: &str) -> (Name, Spec) {
        self.broker_with(json!({ "name": name, "url": url }))
    }

    fn broker_with(&self, more: Value) -> (Name, Spec) {
        let mut document = json!({
            "name": "broker", "url": self.broker.url(),
            "username": USERNAME, "password": PASSWORD,
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            document[field] = value.clone();
        }
        let seal = |plain: &[u8]| self.sealer.seal(plain);
        document::read(Kind::ServiceBroker, document, &seal).unwrap()
    }

    pub(crate) fn order(&self, name: &str) {
        self.order_of(name, PLAN, json!({})).unwrap();
    }

    /// Creates an instance of a plan, with more in its document.
    pub(crate) fn order_of(&self, name: &str, plan: &str, more: Value) -> Result<(), Rejection> {
        let (name, spec) = self.instance(name, plan, more)?;
        self.ask(Kind::ServiceInstance, name.as_str(), Command::Create(spec))
    }

    /// Creates something by its document, as the command line and REST do.
    pub(crate) fn create(&self, kind: Kind, document: Value) -> Result<(), Rejection> {
        let (name, spec) = document::read(kind, document, &|plain| self.sealer.seal(plain))?;
        self.ask(kind, name.as_str(), Command::Create(spec))
    }

    /// Takes an instance on record that the broker has.
    pub(crate) fn adopt(&self, name: &str, instance: InstanceId) -> Result<(), Rejection> {
        let (name, spec) = self.instance(name, PLAN, json!({}))?;
        let Spec::ServiceInstance(spec) = spec else {
            unreachable!("it is an instance's document")
        };
        let command = Command::Adopt { spec, instance };
        self.ask(Kind::ServiceInstance, name.as_str(), command)
    }

    /// Has the broker make an instance, as another platform would.
    pub(crate) fn make_by_hand(&self, id: Uuid) {
        let url = format!("{}/v2/service_instances/{id}", self.broker.url());
        let body = json!({
            "service_id": "fake-service-id", "plan_id": "small-plan-id",
            "organization_guid": "another", "space_guid": "another",
        });
        let request = harness::http::client()
            .put(url)
            .basic_auth(USERNAME, Some(PASSWORD))
            .header("x-broker-api-version", "2.17")
            .header("x-broker-api-request-identity", "by-hand")
            .header("x-broker-api-originating-identity", "hand e30=")
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = self.people.block_on(request.send()).unwrap();
        assert_eq!(answer.status(), 201);
    }

    /// Gives the broker a budget.
    pub(crate) fn limit(&self, limits: Value) {
        let (name, spec) = self.broker_with(json!({ "limits": limits }));
        self.ask(Kind::ServiceBroker, name.as_str(), Command::Update(spec))
            .unwrap();
    }

    /// Asks for another plan or other parameters of an instance.
    pub(crate) fn update(&self, name: &str, plan: &str, more: Value) -> Result<(), Rejection> {
        let (name, spec) = self.instance(name, plan, more)?;
        self.ask(Kind::ServiceInstance, name.as_str(), Command::Update(spec))
    }

    fn instance(&self, name: &str, plan: &str, more: Value) -> Result<(Name, Spec), Rejection> {
        let mut document = json!({"name": name, "serviceClass": CLASS, "servicePlan": plan});
        for (field, value) in more.as_object().into_iter().flatten() {
            document[field] = value.clone();
        }
        let seal = |plain: &[u8]| self.sealer.seal(plain);
        document::read(Kind::ServiceInstance, document, &seal)
    }

    pub(crate) fn delete(&self, name: &str) {
        let command = Command::Delete(Deletion::default());
        self.ask(Kind::ServiceInstance, name, command).unwrap();
    }

    pub(crate) fn retry(&self, name: &str) -> Result<(), Rejection> {
        self.ask(Kind::ServiceInstance, name, Command::Retry)
    }

    pub(crate) fn refresh(&self) {
        self.ask(Kind::ServiceBroker, "broker", Command::Refresh)
            .unwrap();
    }

    // What people see.

    pub(crate) fn shown(&self, kind: Kind, name: &str) -> Option<Shown> {
        let (_, node) = self.node.as_ref().expect("it runs");
        let key = key(kind, name);
        let (status, reasons) = node.fold().read(|world| world.status(&key))?;
        Some(Shown { status, reasons })
    }

    pub(crate) fn shown_instance(&self, name: &str) -> Shown {
        self.shown(Kind::ServiceInstance, name)
            .expect("it is known")
    }

    /// Waits until `condition` holds.
    pub(crate) fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "not {what}:\n{}", self.story());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a resource is shown so.
    pub(crate) fn until(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        so: impl Fn(&Shown) -> bool,
    ) -> Shown {
        let mut seen = None;
        self.eventually(&format!("{kind} {name} {what}"), || {
            seen = self.shown(kind, name);
            seen.as_ref().is_some_and(&so)
        });
        seen.expect("it was seen")
    }

    pub(crate) fn until_ready(&self, name: &str) -> Shown {
        self.until(Kind::ServiceInstance, name, "is READY", Shown::is_ready)
    }

    pub(crate) fn until_error(&self, name: &str) -> Shown {
        self.until(Kind::ServiceInstance, name, "is in ERROR", Shown::is_error)
    }

    /// Waits until an instance and its binding are gone.
    pub(crate) fn until_gone(&self, name: &str) {
        for kind in [Kind::ServiceInstance, Kind::ServiceBinding] {
            self.eventually(&format!("{kind} {name} is gone"), || {
                self.shown(kind, name)
                    .is_none_or(|shown| shown.status == Status::Deleted)
            });
        }
    }

    /// All commits of a resource.
    pub(crate) fn history(&self, kind: Kind, name: &str) -> Vec<Recorded> {
        let key = key(kind, name);
        self.people.block_on(self.log.history(&key)).unwrap()
    }

    /// The names of all events of a resource.
    pub(crate) fn events(&self, kind: Kind, name: &str) -> Vec<String> {
        let commits = self.history(kind, name);
        let events = commits.iter().flat_map(|one| &one.commit.events);
        events.map(Event::name).collect()
    }

    /// How often something happened to an instance.
    pub(crate) fn happened(&self, name: &str, event: &str) -> usize {
        let events = self.events(Kind::ServiceInstance, name);
        events.iter().filter(|one| *one == event).count()
    }

    /// The credentials of each bind of a name, oldest first, each by what the vault says of it.
    fn credentials(&self, name: &str) -> Vec<Result<Value, VaultError>> {
        let commits = self.history(Kind::ServiceBinding, name);
        let events = commits.into_iter().flat_map(|one| one.commit.events);
        let sealed = events.filter_map(|event| match event {
            Event::ServiceBinding(
                BindingEvent::Bound { bound, .. } | BindingEvent::Rotated { bound, .. },
            ) => Some(bound.credentials),
            _ => None,
        });
        sealed.map(|sealed| self.open(&sealed)).collect()
    }

    fn open(&self, sealed: &Sealed) -> Result<Value, VaultError> {
        let plain = self.people.block_on(self.vault.open(sealed))?;
        Ok(serde_json::from_slice(plain.expose()).expect("credentials are JSON"))
    }

    /// The password that functions find now.
    pub(crate) fn password(&self, name: &str) -> String {
        let last = self.credentials(name).pop().expect("it was bound");
        let last = last.expect("it can be opened");
        last["password"].as_str().expect("it is a text").to_owned()
    }

    // What has to be true in the end.

    /// It becomes READY with one instance and one binding, and goes without a trace.
    pub(crate) fn lives_and_goes(&self, name: &str) {
        self.until_ready(name);
        let (instances, bindings) = (self.broker.instances(), self.broker.bindings());
        assert_eq!(
            (instances.len(), bindings.len()),
            (1, 1),
            "{}",
            self.story()
        );
        self.goes(name);
    }

    /// It goes without a trace.
    pub(crate) fn goes(&self, name: &str) {
        self.delete(name);
        self.until_gone(name);
        self.nothing_is_left(&[name]);
    }

    /// Nothing is at the broker, no credential can be read, nothing was given up, and no rule was
    /// broken.
    pub(crate) fn nothing_is_left(&self, names: &[&str]) {
        assert_eq!(self.broker.instances(), [""; 0], "{}", self.story());
        assert_eq!(self.broker.bindings(), [""; 0], "{}", self.story());
        self.keeps_the_rules();
        for name in names {
            self.eventually("no credential outlives its binding", || {
                let credentials = self.credentials(name);
                let mut all = credentials.iter();
                all.all(|one| matches!(one, Err(VaultError::Erased(_))))
            });
        }
    }

    /// The platform broke no rule, and nothing was given up.
    pub(crate) fn keeps_the_rules(&self) {
        assert_eq!(self.broker.violations(), [""; 0], "{}", self.story());
        let letters = self.people.block_on(self.log.dead_letters(9)).unwrap();
        assert!(letters.is_empty(), "{letters:?}");
    }

    /// What was recorded and what was sent, for the message of a test that fails.
    pub(crate) fn story(&self) -> String {
        let mut lines = Vec::new();
        for recorded in self.tail() {
            let key = &recorded.commit.key;
            if key.kind == Kind::ServiceClass {
                continue;
            }
            for event in &recorded.commit.events {
                let text = serde_json::to_string(event).unwrap_or_default();
                let text: String = text.chars().take(300).collect();
                lines.push(format!("{} {} {text}", recorded.commit.at.0, key.name));
            }
        }
        for name in &self.names() {
            for kind in [Kind::ServiceInstance, Kind::ServiceBinding] {
                lines.push(format!("{kind} {name}: {:?}", self.shown(kind, name)));
            }
        }
        let exchanges = self.broker.exchanges();
        let first = exchanges.first().map(|exchange| exchange.at);
        for exchange in &exchanges {
            let after = first.map_or(0, |first| exchange.at.duration_since(first).as_millis());
            let target: String = exchange.target.chars().take(160).collect();
            lines.push(format!(
                "+{after} {} {target} -> {:?}",
                exchange.method, exchange.status
            ));
        }
        lines.push(format!("violations: {:?}", self.broker.violations()));
        lines.join("\n")
    }

    /// What the platform showed of all that a person asked for, without what depends on time or
    /// chance: ids, moments, and how often something was repeated.
    fn seen(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut note = |line: String| {
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        };
        for name in &self.names() {
            for kind in [Kind::ServiceInstance, Kind::ServiceBinding] {
                for recorded in self.history(kind, name) {
                    for event in &recorded.commit.events {
                        // Whether something had to wait depends on time.
                        let waits = ["OperationProgressed", "OperationDelayed"];
                        if !waits.contains(&event.name().as_str()) {
                            note(format!("{kind} {name} {}", told(event)));
                        }
                    }
                }
                let shown = self.shown(kind, name);
                note(format!("{kind} {name} is {:?}", shown.map(|s| s.status)));
            }
        }
        let mut changes = Vec::new();
        for exchange in self.broker.exchanges() {
            let change = exchange.on.filter(|on| changes_something(*on));
            if let Some(on) = change {
                changes.push(format!("{on:?} {:?}", exchange.status));
            }
        }
        // Several instances get on in any order.
        changes.sort();
        changes.dedup();
        lines.extend(changes);
        lines.join("\n")
    }

    /// The names of all instances that ever were.
    fn names(&self) -> BTreeSet<String> {
        let instances = self
            .tail()
            .into_iter()
            .filter(|recorded| recorded.commit.key.kind == Kind::ServiceInstance);
        instances
            .map(|recorded| recorded.commit.key.name.to_string())
            .collect()
    }

    /// All commits.
    fn tail(&self) -> Vec<Recorded> {
        self.people.block_on(async {
            use futures::StreamExt as _;
            let head = self.log.head().await.unwrap();
            let tail = self.log.tail(engine_model::Seq(0)).await.unwrap();
            let all = tail.take(usize::try_from(head.0).unwrap_or(0));
            all.map(Result::unwrap).collect().await
        })
    }

    /// The requests that change something, in order, each by what it asks for.
    pub(crate) fn changes(&self) -> Vec<On> {
        let exchanges = self.broker.exchanges();
        let all = exchanges.iter().filter_map(|exchange| exchange.on);
        all.filter(|on| changes_something(*on)).collect()
    }
}

fn changes_something(on: On) -> bool {
    matches!(
        on,
        On::Provision | On::Update | On::Deprovision | On::Bind | On::Unbind
    )
}

/// An event's name, and the reason that it gives.
fn told(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    let facts = value.as_object().and_then(|kind| kind.values().next());
    let name = event.name();
    let own = facts.and_then(|facts| facts.get(&name));
    let reason = own.and_then(|own| own.get("reason")?.as_str());
    format!("{name} {}", reason.unwrap_or_default())
}

impl Drop for Bed {
    fn drop(&mut self) {
        if run::is_recorded() && !thread::panicking() {
            run::record(self.seen());
        }
        if let Some((runtime, node)) = self.node.take() {
            runtime.shutdown_background();
            drop(node);
        }
    }
}

pub(crate) fn key(kind: Kind, name: &str) -> ResourceKey {
    let org = OrgName::new("acme").unwrap();
    ResourceKey::new(org, kind, Name::new(name).unwrap())
}
