//! What people ask for, and when: drawn before the simulation begins, so that leaving one command
//! out changes none of the others.

use engine_model::spec::{
    BaseImageSpec, BindingSpec, BrokerLimits, BrokerSpec, FunctionSchema, FunctionSpec, ImageSpec,
    InstanceSpec, NetworkPolicy, RuntimeDependencies, Scope, SecretSpec, ServiceBindingSpec,
    Source, Spec, SystemDependencies, Tags,
};
use engine_model::spec::{BindingChoice, ServiceUse};
use engine_model::{Command, Deletion, Kind, Name, OrgName, ResourceKey, Share, Timestamp};
use serde_json::json;

use super::rng::Rng;
use super::trace::START;
use super::vault::client_sealed;

/// A command and when it is sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Timestamp,
    pub(super) key: ResourceKey,
    pub(super) command: Command,
    /// When the sender, who heard nothing, sends it once more.
    pub(super) again: Option<Timestamp>,
}

/// How long people are busy, in milliseconds: 20 minutes.
pub(super) const BUSY_MS: i64 = 1_200_000;

pub(super) const BROKERS: usize = 3;
pub(super) const SECRETS: usize = 2;
const INSTANCES: usize = 6;

pub(super) fn key(kind: Kind, name: &str) -> ResourceKey {
    let org = OrgName::new("acme").expect("a fixed name is one");
    ResourceKey::new(org, kind, self::name(name))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a fixed name is one")
}

/// A script of at most `count` commands after those that set the scene.
pub(super) fn written(rng: &mut Rng, count: usize) -> Vec<Sent> {
    let mut script = scene();
    for _ in 0..count {
        let at = START.plus_ms(rng.between(2_000, BUSY_MS));
        let (key, command) = one(rng);
        let again = rng
            .chance(100)
            .then(|| at.plus_ms(rng.between(100, 300_000)));
        script.push(Sent {
            at,
            key,
            command,
            again,
        });
    }
    script.sort_by_key(|sent| sent.at);
    script
}

fn scene() -> Vec<Sent> {
    let sent = |key, command| Sent {
        at: START,
        key,
        command,
        again: None,
    };
    let mut scene: Vec<Sent> = (0..BROKERS)
        .map(|n| {
            sent(
                key(Kind::ServiceBroker, &format!("b{n}")),
                Command::Create(broker(n)),
            )
        })
        .collect();
    scene.push(sent(
        key(Kind::BaseImage, "base"),
        Command::Create(base_image()),
    ));
    scene.push(sent(key(Kind::Image, "python"), Command::Create(image())));
    scene.push(sent(key(Kind::Secret, "s0"), Command::Create(secret(0))));
    scene
}

fn one(rng: &mut Rng) -> (ResourceKey, Command) {
    match rng.below(22) {
        0..12 => of_instance(rng),
        12..14 => of_broker(rng),
        14..17 => of_secret(rng),
        17..20 => of_binding(rng),
        _ => of_function(rng),
    }
}

fn delete(rng: &mut Rng) -> Command {
    Command::Delete(Deletion {
        cascade: rng.chance(500),
    })
}

fn of_instance(rng: &mut Rng) -> (ResourceKey, Command) {
    let key = key(Kind::ServiceInstance, &format!("i{}", rng.below(INSTANCES)));
    let command = match rng.below(20) {
        0..10 => Command::Create(instance(rng)),
        10..15 => delete(rng),
        15..18 => Command::Retry,
        18 => Command::Update(instance(rng)),
        _ => Command::Abandon {
            reason: "its broker is lost".into(),
        },
    };
    (key, command)
}

fn of_broker(rng: &mut Rng) -> (ResourceKey, Command) {
    let n = rng.below(BROKERS);
    let command = match rng.below(8) {
        0..2 => Command::Create(broker(n)),
        2..4 => Command::Refresh,
        4 => Command::Update(broker(n)),
        5 => Command::Retry,
        _ => delete(rng),
    };
    (key(Kind::ServiceBroker, &format!("b{n}")), command)
}

fn of_secret(rng: &mut Rng) -> (ResourceKey, Command) {
    let n = rng.below(SECRETS);
    let command = match rng.below(6) {
        0..3 => Command::Create(secret(rng.below(100))),
        3 => Command::Update(secret(rng.below(100))),
        _ => delete(rng),
    };
    (key(Kind::Secret, &format!("s{n}")), command)
}

fn of_binding(rng: &mut Rng) -> (ResourceKey, Command) {
    if rng.chance(500) {
        let key = key(Kind::ServiceBinding, &format!("i{}", rng.below(INSTANCES)));
        let command = match rng.below(3) {
            0 => Command::Retry,
            _ => Command::Rotate,
        };
        return (key, command);
    }
    let key = key(Kind::ServiceBinding, &format!("extra{}", rng.below(2)));
    let command = match rng.below(8) {
        0..4 => Command::Create(Spec::ServiceBinding(ServiceBindingSpec {
            service_instance: name(&format!("i{}", rng.below(INSTANCES))),
            parameters: json!({"role": rng.below(2)}),
            secret_parameters: secrets(rng),
            tags: Tags::new(),
        })),
        4 => Command::Rotate,
        5 => Command::Retry,
        6 => Command::Abandon {
            reason: "nobody wants it".into(),
        },
        _ => delete(rng),
    };
    (key, command)
}

fn of_function(rng: &mut Rng) -> (ResourceKey, Command) {
    let key = key(Kind::Function, &format!("f{}", rng.below(2)));
    let command = match rng.below(6) {
        0..3 => Command::Create(function(rng)),
        3 => match rng.below(3) {
            0 => Command::Update(function(rng)),
            1 => Command::Rollback { revision: None },
            _ => Command::Route { shares: route(rng) },
        },
        _ => delete(rng),
    };
    (key, command)
}

/// Two of the first revisions, or whatever is the newest.
fn route(rng: &mut Rng) -> Vec<Share> {
    if rng.chance(400) {
        return Vec::new();
    }
    let share = |revision, percent| Share { revision, percent };
    let first = 1 + u32::try_from(rng.below(3)).expect("it is small");
    vec![share(first, 30), share(first + 1, 70)]
}

/// The document of broker `n`.
pub(super) fn broker(n: usize) -> Spec {
    Spec::ServiceBroker(BrokerSpec {
        url: format!("http://b{n}.example:80"),
        credentials: client_sealed(r#"{"basic":{"username":"sim","password":"hidden"}}"#),
        ca: String::new(),
        scope: Scope::default(),
        limits: BrokerLimits::default(),
        tags: Tags::new(),
    })
}

/// The document of a secret.
pub(super) fn secret(n: usize) -> Spec {
    Spec::Secret(SecretSpec {
        secrets: client_sealed(&format!(r#"{{"token":"t{n}"}}"#)),
        tags: Tags::new(),
    })
}

fn secrets(rng: &mut Rng) -> Vec<Name> {
    if rng.chance(250) {
        vec![name(&format!("s{}", rng.below(SECRETS)))]
    } else {
        Vec::new()
    }
}

fn instance(rng: &mut Rng) -> Spec {
    let plan = *rng.pick(&["basic", "basic", "large", "alone"]);
    Spec::ServiceInstance(InstanceSpec {
        service_class: format!("b{}-class", rng.below(BROKERS)),
        service_plan: plan.into(),
        parameters: json!({"size": rng.below(3)}),
        secret_parameters: secrets(rng),
        binding: BindingSpec {
            secret_parameters: secrets(rng),
            ..BindingSpec::default()
        },
        maintenance_version: String::new(),
        tags: Tags::new(),
    })
}

fn base_image() -> Spec {
    Spec::BaseImage(BaseImageSpec {
        docker_url: String::new(),
        language: "python3".into(),
        tags: Tags::new(),
    })
}

fn image() -> Spec {
    Spec::Image(ImageSpec {
        base_image_name: name("base"),
        runtime_dependencies: RuntimeDependencies {
            manifest: "requests".into(),
        },
        system_dependencies: SystemDependencies::default(),
        tags: Tags::new(),
    })
}

fn function(rng: &mut Rng) -> Spec {
    Spec::Function(FunctionSpec {
        image: name("python"),
        source: Source::File {
            name: "hello.py".into(),
            text: "good".into(),
        },
        handler: "hello.handle".into(),
        schema: FunctionSchema::default(),
        secrets: secrets(rng),
        services: vec![service_use(rng)],
        timeout: 0,
        network: NetworkPolicy::default(),
        memory: 0,
        limits: Default::default(),
        workers: Default::default(),
        isolation: Default::default(),
        runs: Default::default(),
        tags: Tags::new(),
    })
}

fn service_use(rng: &mut Rng) -> ServiceUse {
    let binding = match rng.below(4) {
        0 => BindingChoice::Own,
        1 => BindingChoice::Named(name(&format!("extra{}", rng.below(2)))),
        _ => BindingChoice::Shared,
    };
    ServiceUse {
        instance: name(&format!("i{}", rng.below(INSTANCES))),
        binding,
    }
}
