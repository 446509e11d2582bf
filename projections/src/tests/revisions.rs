//! Revisions of functions: the view keeps what the engine keeps, and says what the engine says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use engine_core::{Input, World, decide, kept, loads, react};
use engine_model::spec::*;
use engine_model::*;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{START, function_spec, key, name, org, tree};
use crate::events::EventFold;
use crate::store::Stream;
use crate::table::Reader;
use crate::view::{Functions, function};

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A document that nothing is wrong with, or a bad one.
    Update(bool),
    Rollback(Option<u32>),
    /// Runs are divided among some of the numbers.
    Route(Vec<u32>),
    Retry,
    /// Another layer of the image.
    Image(u64),
    Delete,
    Create,
    /// The oldest effect is performed.
    Perform,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Update),
        2 => prop::option::of(0_u32..30).prop_map(Step::Rollback),
        3 => prop::collection::vec(0_u32..30, 0..3).prop_map(Step::Route),
        1 => Just(Step::Retry),
        1 => (0..3_u64).prop_map(Step::Image),
        1 => prop_oneof![1 => Just(Step::Delete), 2 => Just(Step::Create)],
        16 => Just(Step::Perform),
    ]
}

/// The engine, and the views of what it decided.
struct Bench {
    world: World,
    fold: EventFold,
    tree: sled::Tree,
    _dir: tempfile::TempDir,
    seq: u64,
    commands: u64,
    tasks: VecDeque<(ResourceKey, Effect)>,
    seen: BTreeSet<String>,
}

fn f() -> ResourceKey {
    key(Kind::Function, "f")
}

fn document(timeout: u64, good: bool) -> Spec {
    Spec::Function(FunctionSpec {
        image: name("python"),
        handler: if good { "good" } else { "bad" }.into(),
        secrets: Vec::new(),
        services: Vec::new(),
        timeout,
        ..function_spec()
    })
}

fn image(manifest: u64) -> Spec {
    Spec::Image(ImageSpec {
        base_image_name: name("base"),
        runtime_dependencies: RuntimeDependencies {
            manifest: format!("package=={manifest}"),
        },
        system_dependencies: SystemDependencies::default(),
        tags: Tags::new(),
    })
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path(), Stream::Events);
        let mut bench = Self {
            world: World::default(),
            fold: EventFold::open(tree.clone()).unwrap(),
            tree,
            _dir: dir,
            seq: 0,
            commands: 0,
            tasks: VecDeque::new(),
            seen: BTreeSet::new(),
        };
        let base = Spec::BaseImage(BaseImageSpec {
            docker_url: "host".into(),
            language: "python3".into(),
            tags: Tags::new(),
        });
        bench.send(&key(Kind::BaseImage, "base"), Command::Create(base));
        bench.send(&key(Kind::Image, "python"), Command::Create(image(0)));
        bench.send(&f(), Command::Create(document(0, true)));
        bench
    }

    fn send(&mut self, key: &ResourceKey, command: Command) {
        self.commands += 1;
        let id = CommandId::derived(format_args!("{}", self.commands));
        let input = Input::Command {
            id,
            command: &command,
            sealed: None,
        };
        self.meet(key, input, Cause::Command(id));
    }

    fn meet(&mut self, key: &ResourceKey, input: Input<'_>, cause: Cause) {
        let Ok(decision) = decide(&self.world, key, input, Timestamp(START)) else {
            return;
        };
        for (key, events) in decision.writes {
            self.seq += 1;
            let commit = Commit {
                id: Commit::id_for(&key, self.world.last_seq(&key), cause),
                key: key.clone(),
                events,
                at: Timestamp(START),
                actor: Actor::engine(),
                cause,
                correlation: String::new(),
            };
            let recorded = Recorded {
                seq: Seq(self.seq),
                commit,
            };
            assert_eq!(self.world.apply(&recorded), Ok(true));
            self.fold.fold(&recorded).unwrap();
            self.fold.commit(1000).unwrap();
            for (_, effect) in react(&self.world, &recorded) {
                self.tasks.push_back((key.clone(), effect));
            }
            assert_eq!(engine_core::check(&self.world), []);
            self.compare();
        }
    }

    fn perform(&mut self) {
        let Some((key, effect)) = self.tasks.pop_front() else {
            return;
        };
        let outcome = match &effect {
            Effect::Proceed(other) => {
                let input = Input::Nudge { effect: &effect };
                return self.meet(other, input, Cause::Alarm);
            }
            Effect::PrepareBaseImage { generation, .. } => {
                Outcome::BaseImage(BaseImageOutcome::Prepared {
                    generation: *generation,
                    version: "3".into(),
                    digest: None,
                })
            }
            Effect::BuildImage(build) => Outcome::Image(ImageOutcome::Built {
                build: build.build,
                layer: Some(build.manifest.clone()),
                bytes: 1,
                log: None,
            }),
            Effect::LoadFunction(load) if load.spec.handler == "bad" => {
                Outcome::Function(FunctionOutcome::Failed {
                    revision: load.revision,
                    reason: "no such handler".into(),
                })
            }
            Effect::LoadFunction(load) => Outcome::Function(FunctionOutcome::Loaded {
                revision: load.revision,
            }),
            _ => return,
        };
        self.meet(&key, Input::Outcome { outcome: &outcome }, Cause::Alarm);
    }

    fn revisions(&self) -> Vec<Value> {
        let shown = function::revisions(&Reader(&self.tree), &org(), "f");
        shown.unwrap().unwrap_or_default()
    }

    fn compare(&mut self) {
        let shown = self.revisions();
        let ids = |such: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
            let such = shown.iter().filter(|own| such(own));
            such.map(|own| own["id"].as_str().unwrap().to_owned())
                .collect()
        };
        let of_engine = |loads: Vec<(ResourceKey, Arc<FunctionLoad>)>| -> BTreeSet<String> {
            let ids = loads.iter().map(|(_, load)| load.revision.to_string());
            ids.collect()
        };
        let callable = |own: &Value| own["status"] == "READY" || own["status"] == "CREATING";
        assert_eq!(ids(&callable), of_engine(kept(&self.world)));
        let taken = |own: &Value| own["traffic"] != 0;
        assert_eq!(ids(&taken), of_engine(loads(&self.world)));
        let engine = self.world.status(&f());
        let engine = engine.filter(|(status, _)| *status != Status::Deleted);
        let document = Reader(&self.tree).one::<Functions>(&org(), "f").unwrap();
        let shown = document.map(|shown| (shown["status"].clone(), shown["reason"].clone()));
        let said = engine.map(|(status, why)| {
            let why = if why.is_empty() {
                Value::Null
            } else {
                json!(why)
            };
            (json!(status), why)
        });
        assert_eq!(shown, said);
        let lines = said.and_then(|(_, why)| why.as_array().cloned());
        for line in lines.unwrap_or_default() {
            let line = line.as_str().unwrap().to_owned();
            self.seen.insert(line);
        }
    }
}

fn play(steps: &[Step]) -> Bench {
    let mut bench = Bench::new();
    for (turn, step) in (1..).zip(steps) {
        match step {
            Step::Update(good) => bench.send(&f(), Command::Update(document(turn, *good))),
            Step::Create => bench.send(&f(), Command::Create(document(turn, true))),
            Step::Rollback(to) => bench.send(&f(), Command::Rollback { revision: *to }),
            Step::Route(numbers) => {
                let share = |revision| Share {
                    revision,
                    percent: 100 / numbers.len() as u8,
                };
                let shares = numbers.iter().copied().map(share).collect();
                bench.send(&f(), Command::Route { shares });
            }
            Step::Retry => bench.send(&f(), Command::Retry),
            Step::Image(manifest) => {
                let update = Command::Update(image(*manifest));
                bench.send(&key(Kind::Image, "python"), update);
            }
            Step::Delete => bench.send(&f(), Command::Delete(Deletion { cascade: false })),
            Step::Perform => bench.perform(),
        }
    }
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_view_of_revisions_is_the_engines(steps in prop::collection::vec(step(), 1..250)) {
        let _ = play(&steps);
    }
}

#[test]
fn the_comparison_meets_routes_with_and_without_the_newest() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = String::new();
    for _ in 0..64 {
        let story = prop::collection::vec(step(), 100..250).new_tree(&mut runner);
        for why in play(&story.unwrap().current()).seen {
            seen.push_str(&why);
            seen.push('\n');
        }
    }
    for why in [
        "runs are routed: 100 %",
        "runs are routed: 50 %",
        "gets no runs; `",
    ] {
        assert!(seen.contains(why), "{why}");
    }
}

#[test]
fn a_revision_says_why_it_came_and_what_became_of_it() {
    let mut bench = Bench::new();
    while !bench.tasks.is_empty() {
        bench.perform();
    }
    for good in [false, true] {
        bench.send(&f(), Command::Update(document(7, good)));
        while !bench.tasks.is_empty() {
            bench.perform();
        }
    }
    let shares = vec![
        Share {
            revision: 1,
            percent: 90,
        },
        Share {
            revision: 3,
            percent: 10,
        },
    ];
    bench.send(&f(), Command::Route { shares });
    bench.send(&f(), Command::Rollback { revision: Some(1) });
    bench.send(&f(), Command::Update(document(8, true)));
    let shown: Vec<Value> = bench
        .revisions()
        .iter()
        .map(|own| {
            json!([
                own["revision"],
                own["status"],
                own["traffic"],
                own["because"],
                own["rollbackTo"],
                own["reason"]
            ])
        })
        .collect();
    let replaced = "another one was wanted before it was loaded";
    assert_eq!(
        shown,
        [
            json!([5, "CREATING", 0, "updated", null, null]),
            json!([4, "REPLACED", 0, "rolled back to 1", 1, [replaced]]),
            json!([3, "READY", 10, "updated", null, null]),
            json!([2, "ERROR", 0, "updated", null, ["no such handler"]]),
            json!([1, "READY", 90, "created", null, null]),
        ]
    );
}
