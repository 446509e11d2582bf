//! Documents for stories.

use engine_model::spec::*;
use engine_model::{ClientSealed, Command, Deletion, Name};
use serde_json::{Value, json};

pub(crate) fn create(spec: Spec) -> Command {
    Command::Create(spec)
}

pub(crate) fn update(spec: Spec) -> Command {
    Command::Update(spec)
}

pub(crate) fn delete() -> Command {
    Command::Delete(Deletion { cascade: false })
}

pub(crate) fn cascade() -> Command {
    Command::Delete(Deletion { cascade: true })
}

pub(crate) fn abandon() -> Command {
    Command::Abandon {
        reason: "the broker is gone for good".into(),
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn client_sealed() -> ClientSealed {
    ClientSealed {
        key: String::new(),
        encapsulated: String::new(),
        ciphertext: String::new(),
    }
}

pub(crate) fn broker_spec() -> Spec {
    broker_at("http://127.0.0.1:8080")
}

pub(crate) fn broker_at(url: &str) -> Spec {
    Spec::ServiceBroker(BrokerSpec {
        url: url.into(),
        credentials: client_sealed(),
        ca: String::new(),
        scope: Scope::Organization,
        limits: BrokerLimits::default(),
        tags: Tags::new(),
    })
}

pub(crate) fn secret_spec() -> Spec {
    Spec::Secret(SecretSpec {
        secrets: client_sealed(),
        tags: Tags::new(),
    })
}

pub(crate) fn organization_spec() -> Spec {
    Spec::Organization(OrganizationSpec::default())
}

pub(crate) fn instance_of(class: &str, plan: &str) -> InstanceSpec {
    InstanceSpec {
        service_class: class.into(),
        service_plan: plan.into(),
        parameters: json!({"location": "westus"}),
        secret_parameters: Vec::new(),
        binding: BindingSpec::default(),
        maintenance_version: String::new(),
        tags: Tags::new(),
    }
}

/// One more binding of an instance.
pub(crate) fn binding_spec(instance: &str) -> Spec {
    Spec::ServiceBinding(ServiceBindingSpec {
        service_instance: name(instance),
        parameters: serde_json::Value::Null,
        secret_parameters: Vec::new(),
        tags: Tags::new(),
    })
}

pub(crate) fn instance_spec() -> Spec {
    Spec::ServiceInstance(instance_of("pg", "basic"))
}

pub(crate) fn base_image_spec(language: &str) -> Spec {
    Spec::BaseImage(BaseImageSpec {
        docker_url: String::new(),
        language: language.into(),
        tags: Tags::new(),
    })
}

/// A base image whose root is had from `url`.
pub(crate) fn base_image_from(url: &str) -> Spec {
    Spec::BaseImage(BaseImageSpec {
        docker_url: url.into(),
        language: "python3".into(),
        tags: Tags::new(),
    })
}

pub(crate) fn image_spec(base: &str, manifest: &str) -> Spec {
    Spec::Image(ImageSpec {
        base_image_name: name(base),
        runtime_dependencies: RuntimeDependencies {
            manifest: manifest.into(),
        },
        system_dependencies: SystemDependencies::default(),
        tags: Tags::new(),
    })
}

pub(crate) fn function_of(image: &str, text: &str) -> FunctionSpec {
    FunctionSpec {
        image: name(image),
        source: Source::File {
            name: "hello.py".into(),
            text: text.into(),
        },
        handler: "hello.handle".into(),
        schema: FunctionSchema::default(),
        secrets: Vec::new(),
        services: Vec::new(),
        timeout: 0,
        network: NetworkPolicy::default(),
        memory: 0,
        limits: Default::default(),
        workers: Default::default(),
        isolation: Default::default(),
        runs: Default::default(),
        tags: Tags::new(),
    }
}

pub(crate) fn function_spec(text: &str) -> Spec {
    Spec::Function(function_of("python", text))
}

pub(crate) fn function_with(secrets: &[&str], services: &[&str]) -> Spec {
    Spec::Function(FunctionSpec {
        secrets: secrets.iter().map(|text| name(text)).collect(),
        services: services.iter().map(|text| text.parse().unwrap()).collect(),
        ..function_of("python", "good")
    })
}

pub(crate) fn api_of(function: &str) -> ApiSpec {
    ApiSpec {
        function: name(function),
        authentication: "public".into(),
        cors: false,
        record: true,
        enabled: true,
        hosts: Vec::new(),
        methods: vec!["POST".into()],
        protocols: vec!["https".into()],
        uris: vec!["/hello".into()],
        tags: Tags::new(),
    }
}

pub(crate) fn schedule_of(function: &str, every: &str) -> ScheduleSpec {
    ScheduleSpec {
        function: name(function),
        cron: String::new(),
        time_zone: String::new(),
        every: every.into(),
        input: json!({ "from": "a schedule" }),
        secrets: vec![],
        overlap: Overlap::Allow,
        paused: false,
        tags: Tags::new(),
    }
}

pub(crate) fn api_spec(function: &str) -> Spec {
    Spec::API(api_of(function))
}

/// A catalog of two classes; `pg` has a bindable plan with a schema, and one that is not bindable.
pub(crate) fn catalog() -> Vec<engine_model::broker::Offering> {
    vec![
        offering(json!({
            "id": "pg-id", "name": "pg", "bindable": true,
            "plans": [
                {"id": "basic-id", "name": "basic", "free": true, "planUpdateable": true,
                    "bindingRotatable": true, "schemas": {"create": {
                    "$schema": "http://json-schema.org/draft-04/schema#",
                    "type": "object",
                    "properties": {"location": {"type": "string", "enum": ["westus", "eastus"]}}
                }}},
                {"id": "large-id", "name": "large", "free": true, "planUpdateable": true},
                {"id": "alone-id", "name": "alone", "free": true, "bindable": false,
                    "maximumPollingDuration": 60},
            ],
        })),
        offering(json!({
            "id": "mq-id", "name": "mq", "bindable": true,
            "plans": [{"id": "one-id", "name": "one", "free": false}],
        })),
    ]
}

pub(crate) fn offering(value: Value) -> engine_model::broker::Offering {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn route(shares: &[(u32, u8)]) -> Command {
    let share = |&(revision, percent)| engine_model::Share { revision, percent };
    Command::Route {
        shares: shares.iter().map(share).collect(),
    }
}

pub(crate) fn rollback(revision: Option<u32>) -> Command {
    Command::Rollback { revision }
}

pub(crate) fn run_id(number: u32) -> engine_model::RunId {
    engine_model::RunId::derived(format_args!("run {number}"))
}
