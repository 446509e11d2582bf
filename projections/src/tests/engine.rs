//! What the views show is what the engine would say: random commands, and random answers of
//! brokers, and after each commit the status and the reasons of everything are compared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine_core::{Input, World, alarm, decide, react};
use engine_model::broker::*;
use engine_model::spec::*;
use engine_model::*;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{START, name, org, sealed};
use crate::events::EventFold;
use crate::store::Stream;
use crate::table::Reader;
use crate::view::{Bindings, Brokers, Classes, Functions, Instances, Schedules};
use outside::{Answer, outcome};

mod outside;

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Send(usize, usize),
    /// The nth effect is performed, and answered so.
    Perform(usize, Answer),
    Pass(i64),
    /// The catalog changes.
    Catalog(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS.len(), 0..9_usize).prop_map(|(which, verb)| Step::Send(which, verb)),
        16 => (any::<usize>(), 0..Answer::ALL.len())
            .prop_map(|(nth, answer)| Step::Perform(nth, Answer::ALL[answer])),
        3 => (0_i64..400_000).prop_map(Step::Pass),
        1 => (0..4_usize).prop_map(Step::Catalog),
    ]
}

/// What commands are about, in the organization `acme` and, marked so, in the common one.
const KEYS: &[(&str, Kind, &str)] = &[
    ("acme", Kind::ServiceInstance, "one"),
    ("acme", Kind::ServiceInstance, "two"),
    ("acme", Kind::ServiceInstance, "far"),
    ("acme", Kind::ServiceBinding, "one"),
    ("acme", Kind::ServiceBinding, "more"),
    ("acme", Kind::ServiceBinding, "two"),
    ("acme", Kind::Function, "f"),
    ("acme", Kind::Secret, "s"),
    ("acme", Kind::ServiceBroker, "azure"),
    ("dispatch", Kind::ServiceBroker, "common"),
    ("acme", Kind::Schedule, "cron"),
];

fn at((of, kind, text): (&str, Kind, &str)) -> ResourceKey {
    ResourceKey::new(OrgName::new(of).unwrap(), kind, name(text))
}

fn client_sealed() -> ClientSealed {
    ClientSealed {
        key: String::new(),
        encapsulated: String::new(),
        ciphertext: String::new(),
    }
}

fn instance(class: &str, plan: &str, value: u32, secrets: &[&str]) -> InstanceSpec {
    InstanceSpec {
        service_class: class.into(),
        service_plan: plan.into(),
        parameters: json!({ "size": value }),
        secret_parameters: secrets.iter().map(|text| name(text)).collect(),
        binding: BindingSpec::default(),
        maintenance_version: String::new(),
        tags: Tags::new(),
    }
}

fn spec(key: &ResourceKey, change: u32) -> Spec {
    let plan = if change.is_multiple_of(2) {
        "basic"
    } else {
        "premium"
    };
    match (key.kind, key.name.as_str()) {
        (Kind::ServiceInstance, "one") => Spec::ServiceInstance(instance("pg", plan, change, &[])),
        (Kind::ServiceInstance, "far") => Spec::ServiceInstance(instance("mq", plan, change, &[])),
        (Kind::ServiceInstance, _) => Spec::ServiceInstance(instance("pg", plan, change, &["s"])),
        (Kind::ServiceBinding, _) => Spec::ServiceBinding(ServiceBindingSpec {
            service_instance: name("one"),
            parameters: Value::Null,
            secret_parameters: vec![name("s")],
            tags: Tags::new(),
        }),
        (Kind::Schedule, _) => Spec::Schedule(ScheduleSpec {
            function: name("f"),
            cron: "* * * * *".into(),
            time_zone: String::new(),
            every: String::new(),
            input: Value::Null,
            secrets: vec![name("s")],
            overlap: Overlap::Allow,
            paused: change.is_multiple_of(3),
            tags: Tags::new(),
        }),
        (Kind::Function, _) => Spec::Function(FunctionSpec {
            image: name("python"),
            source: Source::File {
                name: "f.py".into(),
                text: "x".into(),
            },
            handler: String::new(),
            schema: FunctionSchema::default(),
            secrets: vec![name("s")],
            services: ["one", "two:own", "far:more"]
                .iter()
                .take(1 + change as usize % 3)
                .map(|text| text.parse().unwrap())
                .collect(),
            timeout: 0,
            network: NetworkPolicy::Services,
            memory: 0,
            limits: Default::default(),
            workers: Default::default(),
            isolation: Default::default(),
            runs: Default::default(),
            tags: Tags::new(),
        }),
        (Kind::Secret, _) => Spec::Secret(SecretSpec {
            secrets: client_sealed(),
            tags: Tags::new(),
        }),
        (_, broker) => Spec::ServiceBroker(BrokerSpec {
            url: "http://127.0.0.1:8080".into(),
            credentials: client_sealed(),
            ca: String::new(),
            scope: if broker == "common" {
                Scope::All
            } else {
                Scope::Organization
            },
            limits: BrokerLimits::default(),
            tags: Tags::new(),
        }),
    }
}

fn catalog(class: &str, variant: usize) -> Vec<Offering> {
    let plan = |name: &str, version: &str| {
        json!({
            "id": format!("{name}-id"), "name": name, "free": true, "bindable": name != "alone",
            "bindingRotatable": true, "maintenanceVersion": version,
        })
    };
    let plans = match variant {
        0 => vec![plan("basic", "1.0.0"), plan("premium", "1.0.0")],
        1 => vec![plan("basic", "1.1.0"), plan("alone", "1.0.0")],
        2 => vec![plan("premium", "1.0.0")],
        _ => return Vec::new(),
    };
    let offering = json!({
        "id": format!("{class}-id"), "name": class, "bindable": true, "planUpdateable": true,
        "plans": plans,
    });
    vec![serde_json::from_value(offering).unwrap()]
}

/// A platform without time and without brokers, whose views are looked at after each commit.
struct Bench {
    world: World,
    fold: EventFold,
    tree: sled::Tree,
    _dir: tempfile::TempDir,
    now: Timestamp,
    seq: u64,
    commands: u64,
    catalog: usize,
    tasks: VecDeque<(ResourceKey, Effect)>,
    timers: BTreeMap<(ResourceKey, &'static str), (Timestamp, Due)>,
    /// The reasons that were given, without their numbers.
    seen: BTreeSet<String>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = super::fixture::tree(dir.path(), Stream::Events);
        let mut bench = Self {
            world: World::default(),
            fold: EventFold::open(tree.clone()).unwrap(),
            tree,
            _dir: dir,
            now: Timestamp(START),
            seq: 0,
            commands: 0,
            catalog: 0,
            tasks: VecDeque::new(),
            timers: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        let (azure, common) = (KEYS[8], KEYS[9]);
        for kept in [common, azure, KEYS[0], KEYS[2]] {
            bench.send(&at(kept), 0);
            bench.drain();
        }
        bench
    }

    fn drain(&mut self) {
        for _ in 0..1000 {
            if self.tasks.is_empty() {
                return;
            }
            self.perform(0, Answer::Done);
        }
    }

    fn send(&mut self, key: &ResourceKey, verb: usize) {
        self.commands += 1;
        let change = u32::try_from(self.commands).unwrap();
        let command = match verb {
            0..=2 => Command::Create(spec(key, change)),
            3 | 4 => Command::Update(spec(key, change)),
            5 => Command::Delete(Deletion {
                cascade: change.is_multiple_of(2),
            }),
            6 => Command::Retry,
            7 if key.kind == Kind::ServiceInstance && change.is_multiple_of(2) => {
                let Spec::ServiceInstance(spec) = spec(key, change) else {
                    return;
                };
                let instance = InstanceId::derived(format_args!("there {change}"));
                Command::Adopt { spec, instance }
            }
            7 => Command::Rotate,
            _ => Command::Abandon {
                reason: "lost".into(),
            },
        };
        let id = CommandId::derived(format_args!("{}", self.commands));
        let sealed = sealed(&id.to_string());
        let input = Input::Command {
            id,
            command: &command,
            sealed: Some(&sealed),
        };
        self.meet(key, input, Cause::Command(id));
    }

    fn meet(&mut self, key: &ResourceKey, input: Input<'_>, cause: Cause) {
        let Ok(decision) = decide(&self.world, key, input, self.now) else {
            return;
        };
        for (key, events) in decision.writes {
            self.seq += 1;
            let recorded = Recorded {
                seq: Seq(self.seq),
                commit: Commit {
                    id: Commit::id_for(&key, self.world.last_seq(&key), cause),
                    key: key.clone(),
                    events,
                    at: self.now,
                    actor: Actor::engine(),
                    cause,
                    correlation: String::new(),
                },
            };
            assert_eq!(self.world.apply(&recorded), Ok(true));
            self.fold.fold(&recorded).unwrap();
            self.fold.commit(1000).unwrap();
            for (_, effect) in react(&self.world, &recorded) {
                self.tasks.push_back((key.clone(), effect));
            }
            self.compare(&recorded);
        }
    }

    fn perform(&mut self, nth: usize, answer: Answer) {
        let nth = nth % self.tasks.len().max(1);
        let Some((key, effect)) = self.tasks.remove(nth) else {
            return;
        };
        self.react(&key, &effect, answer);
    }

    fn react(&mut self, key: &ResourceKey, effect: &Effect, answer: Answer) {
        let cause = Cause::Alarm;
        let outcome = match effect {
            Effect::Proceed(other)
            | Effect::DeleteBinding(other)
            | Effect::Delete(other)
            | Effect::CreateBinding { key: other, .. }
            | Effect::RefreshCatalog(other)
            | Effect::AbandonBinding { key: other, .. } => {
                self.meet(other, Input::Nudge { effect }, cause);
                return;
            }
            Effect::Timer(timer) => {
                let due = timer.due.clone();
                let name = (due.key.clone(), due.alarm.token());
                self.timers.insert(name, (timer.at, due));
                return;
            }
            other => outcome(other, answer, (key, self.catalog), self.now),
        };
        if let Some(outcome) = outcome {
            self.meet(key, Input::Outcome { outcome: &outcome }, cause);
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        let now = self.now;
        let due: Vec<_> = self
            .timers
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(name, (_, due))| (name.clone(), due.clone()))
            .collect();
        for (name, due) in due {
            self.timers.remove(&name);
            let effects = alarm(&self.world, &due, self.now);
            if effects.is_empty() {
                self.meet(&due.key, Input::Due { alarm: due.alarm }, Cause::Alarm);
            }
            for effect in effects {
                self.tasks.push_back((due.key.clone(), effect));
            }
        }
    }

    /// What the views show of a resource: its status and its reasons.
    fn shown(&self, key: &ResourceKey) -> Option<(String, Vec<String>)> {
        let (reader, org, name) = (Reader(&self.tree), &key.org, key.name.as_str());
        let document = match key.kind {
            Kind::ServiceInstance => reader.one::<Instances>(org, name),
            Kind::ServiceBinding => reader.one::<Bindings>(org, name),
            Kind::ServiceBroker => reader.one::<Brokers>(org, name),
            Kind::ServiceClass => reader.one::<Classes>(org, name),
            Kind::Schedule => reader.one::<Schedules>(org, name),
            _ => reader.one::<Functions>(org, name),
        };
        let document = document.unwrap()?;
        let reasons = document["reason"].as_array().cloned().unwrap_or_default();
        let reasons = reasons.iter().map(|why| why.as_str().unwrap().to_owned());
        let status = document["status"].as_str().unwrap().to_owned();
        Some((status, reasons.collect()))
    }

    fn compare(&mut self, recorded: &Recorded) {
        let own = ResourceKey::new(org(), Kind::ServiceBinding, name("two--f"));
        let classes = [
            ("acme", Kind::ServiceClass, "pg"),
            ("dispatch", Kind::ServiceClass, "mq"),
        ];
        let all = KEYS.iter().copied().chain(classes).map(at).chain([own]);
        for key in all.filter(|key| key.kind != Kind::Secret) {
            let engine = self.world.status(&key);
            let engine = engine.map(|(status, reasons)| (status.as_str().to_owned(), reasons));
            let engine = engine.filter(|(status, _)| status != Status::Deleted.as_str());
            let shown = self.shown(&key);
            assert_eq!(shown, engine, "{key} after {:?}", recorded.commit.events);
            for why in engine.into_iter().flat_map(|(_, reasons)| reasons) {
                let kind: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
                self.seen.insert(kind);
            }
        }
    }
}

fn play(steps: &[Step]) -> Bench {
    let mut bench = Bench::new();
    for step in steps {
        match step {
            Step::Send(which, verb) => bench.send(&at(KEYS[*which]), *verb),
            Step::Perform(nth, answer) => bench.perform(*nth, *answer),
            Step::Pass(ms) => bench.pass(*ms),
            Step::Catalog(variant) => {
                bench.catalog = *variant;
                for broker in [KEYS[8], KEYS[9]] {
                    let id = CommandId::derived(format_args!("catalog {}", bench.seq));
                    let input = Input::Command {
                        id,
                        command: &Command::Refresh,
                        sealed: None,
                    };
                    bench.meet(&at(broker), input, Cause::Command(id));
                }
            }
        }
    }
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_views_show_what_the_engine_says(steps in prop::collection::vec(step(), 1..160)) {
        let _ = play(&steps);
    }
}
/// What must have come up for the comparison to be worth something.
const REASONS: &[&str] = &[
    "`dispatch retry` asks for the same update again",
    "`dispatch retry` tries again",
    "another update repairs it",
    "circuit open",
    "has no plan",
    "has no service binding more yet",
    "its service instance cannot be used",
    "function f does not exist yet",
    "new credentials are being asked for",
    "new credentials could not be had",
    "no longer offered by broker",
    "replaced credentials are being unbound",
    "replaced credentials are unbound when",
    "the broker wants the same update not to be repeated",
    "the credentials have expired",
    "the update failed",
    "the update waits",
    "this instance can be used, updated and deleted",
    "waits for the broker's answer",
    "waits for what has to go first",
    "what may have been left at the broker is being removed",
];

#[test]
fn the_comparison_meets_all_that_is_new() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = String::new();
    for _ in 0..96 {
        let story = prop::collection::vec(step(), 100..300).new_tree(&mut runner);
        for why in play(&story.unwrap().current()).seen {
            seen.push_str(&why);
            seen.push('\n');
        }
    }
    let missed: Vec<_> = REASONS.iter().filter(|why| !seen.contains(**why)).collect();
    assert!(missed.is_empty(), "{missed:?} never came up");
}
