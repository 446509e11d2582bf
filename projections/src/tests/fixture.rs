//! Hand-made streams, and questions to views.

use std::path::Path;
use std::time::{Duration, Instant};

use engine_model::broker::{BoundCredentials, BoundExtras, Endpoint, Offering, Plan, PlanSchemas};
use engine_model::spec::*;
use engine_model::*;
use serde_json::{Value, json};

use crate::events::EventFold;
use crate::store::{Store, Stream};
use crate::table::{Reader, View};

pub(super) const START: i64 = 1_700_000_000_000;

pub(super) fn org() -> OrgName {
    OrgName::new("acme").unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn key(kind: Kind, text: &str) -> ResourceKey {
    ResourceKey::new(org(), kind, name(text))
}

pub(super) fn id(text: &str) -> ResourceId {
    ResourceId::derived(format_args!("{text}"))
}

pub(super) fn request(n: u32) -> RequestId {
    RequestId::derived(format_args!("{n}"))
}

pub(super) fn instance_id() -> InstanceId {
    InstanceId::derived(format_args!("azure-pg"))
}

pub(super) fn sealed(text: &str) -> Sealed {
    Sealed {
        key: KeyId(text.into()),
        nonce: "bm9uY2U=".into(),
        ciphertext: "Y2lwaGVy".into(),
    }
}

pub(super) fn tags() -> Tags {
    Tags::from([("role".into(), "test".into())])
}

/// A stream that is made by hand: one commit a second.
#[derive(Default, Clone)]
pub(super) struct Tape(pub(super) Vec<Recorded>);

impl Tape {
    pub(super) fn commit(&mut self, kind: Kind, name: &str, events: Vec<Event>) -> &mut Self {
        let key = key(kind, name);
        let seq = self.0.len() as u64 + 1;
        let cause = Cause::Command(CommandId::derived(format_args!("{seq}")));
        let commit = Commit {
            id: Commit::id_for(&key, Seq(0), cause),
            key,
            events,
            at: Timestamp(START + 1000 * seq as i64),
            actor: Actor("user:alice".into()),
            cause,
            correlation: format!("correlation-{seq}"),
        };
        self.0.push(Recorded {
            seq: Seq(seq),
            commit,
        });
        self
    }

    pub(super) fn base_image(&mut self, name: &str, event: BaseImageEvent) -> &mut Self {
        self.commit(Kind::BaseImage, name, vec![Event::BaseImage(event)])
    }

    pub(super) fn image(&mut self, name: &str, event: ImageEvent) -> &mut Self {
        self.commit(Kind::Image, name, vec![Event::Image(event)])
    }

    pub(super) fn function(&mut self, name: &str, event: FunctionEvent) -> &mut Self {
        self.commit(Kind::Function, name, vec![Event::Function(event)])
    }

    pub(super) fn secret(&mut self, name: &str, event: SecretEvent) -> &mut Self {
        self.commit(Kind::Secret, name, vec![Event::Secret(event)])
    }

    pub(super) fn broker(&mut self, name: &str, event: BrokerEvent) -> &mut Self {
        self.commit(Kind::ServiceBroker, name, vec![Event::ServiceBroker(event)])
    }

    pub(super) fn class(&mut self, name: &str, event: ClassEvent) -> &mut Self {
        self.commit(Kind::ServiceClass, name, vec![Event::ServiceClass(event)])
    }

    pub(super) fn instance(&mut self, name: &str, event: InstanceEvent) -> &mut Self {
        self.commit(
            Kind::ServiceInstance,
            name,
            vec![Event::ServiceInstance(event)],
        )
    }

    pub(super) fn binding(&mut self, name: &str, event: BindingEvent) -> &mut Self {
        self.commit(
            Kind::ServiceBinding,
            name,
            vec![Event::ServiceBinding(event)],
        )
    }

    pub(super) fn schedule(&mut self, name: &str, event: ScheduleEvent) -> &mut Self {
        self.commit(Kind::Schedule, name, vec![Event::Schedule(event)])
    }

    pub(super) fn api(&mut self, name: &str, event: ApiEvent) -> &mut Self {
        self.commit(Kind::API, name, vec![Event::API(event)])
    }
}

/// The views of a tape, in a temporary database.
pub(super) struct House {
    _dir: tempfile::TempDir,
    tree: sled::Tree,
    pub(super) fold: EventFold,
}

impl House {
    pub(super) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path(), Stream::Events);
        let fold = EventFold::open(tree.clone()).unwrap();
        Self {
            _dir: dir,
            tree,
            fold,
        }
    }

    pub(super) fn of(tape: &Tape) -> Self {
        let mut house = Self::empty();
        house.fold(&tape.0);
        house
    }

    pub(super) fn fold(&mut self, recorded: &[Recorded]) {
        recorded.iter().for_each(|one| self.fold.fold(one).unwrap());
        self.fold.commit(0).unwrap();
    }

    pub(super) fn one<V: View>(&self, name: &str) -> Option<Value> {
        Reader(&self.tree).one::<V>(&org(), name).unwrap()
    }

    pub(super) fn all<V: View>(&self) -> Vec<Value> {
        Reader(&self.tree).all::<V>(&org()).unwrap()
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader(&self.tree)
    }

    /// Everything that is stored, positions and all.
    pub(super) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        dump(&self.tree)
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// The database may be held for a moment by threads of whoever closed it last.
pub(super) fn tree(path: &Path, stream: Stream) -> sled::Tree {
    let until = Instant::now() + PATIENCE;
    loop {
        match Store::open(&path.join("views")) {
            Ok(store) => return store.tree(stream).unwrap(),
            Err(error) if Instant::now() > until => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

pub(super) fn dump(tree: &sled::Tree) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
        entry
            .map(|(key, row)| (key.to_vec(), row.to_vec()))
            .unwrap()
    };
    tree.iter().map(pair).collect()
}

pub(super) fn base_image_spec() -> BaseImageSpec {
    BaseImageSpec {
        docker_url: "host".into(),
        language: "python3".into(),
        tags: tags(),
    }
}

pub(super) fn image_spec() -> ImageSpec {
    ImageSpec {
        base_image_name: name("python3-base"),
        runtime_dependencies: RuntimeDependencies {
            manifest: "psycopg2-binary\n".into(),
        },
        system_dependencies: SystemDependencies {
            packages: vec![SystemPackage {
                name: "libpq5".into(),
                version: String::new(),
            }],
        },
        tags: tags(),
    }
}

pub(super) fn function_spec() -> FunctionSpec {
    FunctionSpec {
        image: name("python3-pg"),
        source: Source::File {
            name: "postgres.py".into(),
            text: "def handle(c, p): ...".into(),
        },
        handler: String::new(),
        schema: FunctionSchema {
            input: json!({"type": "object"}),
            output: Value::Null,
        },
        secrets: vec![name("open-sesame")],
        services: vec![ServiceUse::shared(name("azure-pg"))],
        timeout: 0,
        network: NetworkPolicy::Services,
        memory: 0,
        limits: Default::default(),
        workers: Default::default(),
        isolation: Default::default(),
        runs: Default::default(),
        tags: tags(),
    }
}

pub(super) fn instance_spec() -> InstanceSpec {
    InstanceSpec {
        service_class: "azure-postgresql".into(),
        service_plan: "basic50".into(),
        parameters: json!({"location": "westus"}),
        secret_parameters: vec![],
        binding: BindingSpec::default(),
        maintenance_version: String::new(),
        tags: tags(),
    }
}

pub(super) fn api_spec() -> ApiSpec {
    ApiSpec {
        function: name("pg-example"),
        authentication: "public".into(),
        cors: false,
        record: true,
        enabled: true,
        hosts: vec![],
        methods: vec!["POST".into()],
        protocols: vec!["https".into()],
        uris: vec!["/postgres/demo".into()],
        tags: tags(),
    }
}

pub(super) fn schedule_spec() -> ScheduleSpec {
    ScheduleSpec {
        function: name("pg-example"),
        cron: "0 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        every: String::new(),
        input: json!({"vacuum": true}),
        secrets: vec![],
        overlap: Overlap::Skip,
        paused: false,
        tags: tags(),
    }
}

pub(super) fn offering() -> Offering {
    Offering {
        id: "service-1".into(),
        name: "azure-postgresql".into(),
        description: "Azure Database for PostgreSQL".into(),
        bindable: true,
        instances_retrievable: false,
        bindings_retrievable: false,
        plan_updateable: false,
        tags: vec!["PostgreSQL".into()],
        requires: vec![],
        metadata: Value::Null,
        plans: vec![Plan {
            id: "plan-1".into(),
            name: "basic50".into(),
            description: "50 units".into(),
            free: false,
            bindable: None,
            plan_updateable: None,
            binding_rotatable: false,
            maximum_polling_duration: None,
            maintenance_version: None,
            metadata: Value::Null,
            schemas: PlanSchemas {
                create: json!({"type": "object"}),
                ..PlanSchemas::default()
            },
        }],
    }
}

pub(super) fn provision_requested(bindable: bool) -> InstanceEvent {
    InstanceEvent::ProvisionRequested {
        request: request(1),
        attempt: 1,
        instance: None,
        broker: name("azure"),
        broker_org: None,
        service_id: "service-1".into(),
        plan_id: "plan-1".into(),
        bindable,
        maintenance_version: None,
        deadline: Timestamp(START + 3_600_000),
    }
}

pub(super) fn registered() -> BrokerEvent {
    BrokerEvent::Registered {
        id: id("azure"),
        url: "http://127.0.0.1:8080".into(),
        credentials: sealed("broker"),
        ca: String::new(),
        scope: Scope::Organization,
        limits: BrokerLimits::default(),
        tags: tags(),
    }
}

pub(super) fn bound() -> BoundCredentials {
    BoundCredentials {
        credentials: sealed("binding"),
        endpoints: vec![Endpoint {
            host: "127.0.0.1".into(),
            port: 5432,
        }],
        expires_at: None,
        renew_before: None,
        extras: BoundExtras::default(),
    }
}

/// The story, up to a function that is served and uses a bound service.
pub(super) fn story() -> Tape {
    let mut tape = Tape::default();
    tape.commit(
        Kind::Organization,
        "acme",
        vec![Event::Organization(OrganizationEvent::Created {
            id: id("acme"),
            spec: OrganizationSpec { tags: tags() },
        })],
    )
    .commit(
        Kind::ServiceAccount,
        "ci",
        vec![Event::ServiceAccount(ServiceAccountEvent::Created {
            id: id("ci"),
            spec: ServiceAccountSpec {
                token_sha256: "c0ffee".repeat(10),
                tags: tags(),
            },
        })],
    )
    .commit(
        Kind::Application,
        "shop",
        vec![Event::Application(ApplicationEvent::Created {
            id: id("shop"),
            spec: ApplicationSpec { tags: tags() },
        })],
    )
    .base_image(
        "python3-base",
        BaseImageEvent::Created {
            id: id("python3-base"),
            spec: base_image_spec(),
        },
    )
    .base_image(
        "python3-base",
        BaseImageEvent::Prepared {
            generation: 1,
            version: "3.13.5".into(),
            digest: None,
        },
    )
    .image(
        "python3-pg",
        ImageEvent::Created {
            id: id("python3-pg"),
            spec: image_spec(),
        },
    )
    .image(
        "python3-pg",
        ImageEvent::BuildRequested {
            build: 1,
            language: "python3".into(),
            root: None,
        },
    )
    .image(
        "python3-pg",
        ImageEvent::Built {
            build: 1,
            layer: Some("ab".repeat(32)),
            bytes: 12_345,
            log: None,
        },
    )
    .secret(
        "open-sesame",
        SecretEvent::Created {
            id: id("open-sesame"),
            sealed: sealed("s"),
            tags: tags(),
        },
    );
    services(&mut tape);
    functions(&mut tape);
    tape
}

fn services(tape: &mut Tape) {
    tape.broker("azure", registered())
        .class(
            "azure-postgresql",
            ClassEvent::Offered {
                id: id("class"),
                broker: name("azure"),
                offering: offering(),
            },
        )
        .broker(
            "azure",
            BrokerEvent::CatalogRead {
                etag: None,
                classes: vec!["azure-postgresql".into()],
                refused: vec![],
                api_version: None,
                next_at: Timestamp(START + 600_000),
            },
        )
        .instance(
            "azure-pg",
            InstanceEvent::Created {
                id: instance_id(),
                spec: instance_spec(),
            },
        )
        .binding(
            "azure-pg",
            BindingEvent::Created {
                id: id("binding"),
                instance: instance_id(),
                owner: None,
                function: None,
                tags: Tags::new(),
                spec: BindingSpec::default(),
            },
        )
        .instance("azure-pg", provision_requested(true))
        .instance(
            "azure-pg",
            InstanceEvent::OperationAccepted {
                request: request(1),
                operation: Some("op".into()),
                dashboard_url: Some("https://portal.example".into()),
                next_at: Timestamp(START + 20_000),
            },
        )
        .instance(
            "azure-pg",
            InstanceEvent::OperationProgressed {
                request: request(1),
                description: Some("creating the server".into()),
                polls: 3,
                next_at: Timestamp(START + 30_000),
            },
        )
        .instance(
            "azure-pg",
            InstanceEvent::Provisioned {
                request: request(1),
                dashboard_url: None,
            },
        )
        .binding(
            "azure-pg",
            BindingEvent::BindRequested {
                request: request(2),
                binding: BindingId::derived(format_args!("1")),
                attempt: 1,
                deadline: Timestamp(START + 3_600_000),
            },
        )
        .binding(
            "azure-pg",
            BindingEvent::Bound {
                request: request(2),
                bound: bound(),
            },
        );
}

fn functions(tape: &mut Tape) {
    let revision = RevisionId::derived(format_args!("1"));
    tape.function(
        "pg-example",
        FunctionEvent::Created {
            id: id("pg-example").into(),
            spec: function_spec(),
        },
    )
    .function(
        "pg-example",
        FunctionEvent::LoadRequested {
            revision,
            number: 1,
            language: "python3".into(),
            root: None,
            layer: Some("ab".repeat(32)),
            endpoints: bound().endpoints,
            because: Because::Created,
        },
    )
    .function("pg-example", FunctionEvent::Loaded { revision })
    .api(
        "post-pg-example",
        ApiEvent::Created {
            id: id("api"),
            spec: api_spec(),
        },
    )
    .api(
        "post-pg-example",
        ApiEvent::ServeRequested { generation: 1 },
    )
    .api("post-pg-example", ApiEvent::Served { generation: 1 })
    .schedule(
        "nightly",
        ScheduleEvent::Created {
            id: id("schedule"),
            spec: schedule_spec(),
        },
    )
    .schedule("nightly", ScheduleEvent::Begun)
    .schedule(
        "nightly",
        ScheduleEvent::Missed {
            first: Timestamp(1_700_000_000_000),
            last: Timestamp(1_700_172_800_000),
            count: 3,
        },
    );
}
