//! The performer of the service effects, with a real vault, and what an engine would ask of it.

use std::sync::Arc;

use adapter_kit::{Later, MemoryKeys, Performer, Plain, Unquestioned, Vault};
use adapter_osb::Services;
use adapter_osb::fake::{Fake, Options, PASSWORD, Pace, USERNAME};
use adapter_vault::{EnvelopeVault, MasterKeys};
use engine_model::broker::{BoundCredentials, Progress, Verdict};
use engine_model::spec::BrokerLimits;
use engine_model::{
    Actor, BindingId, BindingOutcome, Effect, EffectId, InstanceId, InstanceOutcome, KeyId, Kind,
    Name, OrgName, Outcome, RequestId, ResourceKey, Sealed, Seq, ServiceCall, ServiceTarget,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A broker, a performer that asks it, and what an engine would say.
pub(crate) struct Scene {
    pub(crate) fake: Fake,
    pub(crate) vault: Arc<EnvelopeVault>,
    pub(crate) services: Services,
    pub(crate) target: ServiceTarget,
    pub(crate) call: ServiceCall,
    pub(crate) binding: BindingId,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn new(pace: Pace) -> Self {
        let options = Options {
            pace,
            ..Options::default()
        };
        let fake = Fake::start_with(options).await.unwrap();
        let document = json!({"basic": {"username": USERNAME, "password": PASSWORD}});
        Self::before(fake, document).await
    }

    /// Before this broker, with this document of credentials.
    pub(crate) async fn before(fake: Fake, document: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let masters = MasterKeys::create(&directory.path().join("master")).unwrap();
        let vault = Arc::new(EnvelopeVault::new(masters, Arc::new(MemoryKeys::default())));
        let services = Services::new(Arc::clone(&vault) as Arc<dyn Vault>);
        let org = OrgName::new("demo").unwrap();
        let target = ServiceTarget {
            broker: ResourceKey::new(
                org.clone(),
                Kind::ServiceBroker,
                Name::new("azure").unwrap(),
            ),
            url: fake.url().to_string(),
            credentials: seal(vault.as_ref(), "broker", &document).await,
            ca: String::new(),
            api_version: None,
            limits: BrokerLimits::default(),
            paused_until: None,
        };
        let call = ServiceCall {
            request: RequestId(Uuid::new_v4()),
            instance: InstanceId(Uuid::new_v4()),
            name: Name::new("azure-pg").unwrap(),
            org,
            service_id: "fake-service-id".to_owned(),
            plan_id: "small-plan-id".to_owned(),
            actor: Actor("zoe".to_owned()),
            background: false,
        };
        let binding = BindingId(Uuid::new_v4());
        Self {
            fake,
            vault,
            services,
            target,
            call,
            binding,
            _directory: directory,
        }
    }

    pub(crate) async fn perform(&self, effect: &Effect) -> Result<Outcome, Later> {
        assert!(self.services.performs(effect));
        let key = ResourceKey::new(
            self.call.org.clone(),
            Kind::ServiceInstance,
            self.call.name.clone(),
        );
        let id = EffectId {
            seq: Seq(7),
            index: 1,
        };
        self.services
            .perform(id, &key, effect, &Unquestioned)
            .await
            .map(|outcome| outcome.unwrap())
    }

    pub(crate) fn provision(&self) -> Effect {
        Effect::Provision {
            target: self.target.clone(),
            call: self.call.clone(),
            parameters: json!({"location": "westus"}),
            secret_parameters: Vec::new(),
            schema: Value::Null,
            maintenance_version: None,
        }
    }

    pub(crate) fn bind(&self) -> Effect {
        Effect::Bind {
            target: self.target.clone(),
            call: self.call.clone(),
            binding: self.binding,
            predecessor: None,
            retrievable: true,
            repeat: false,
            parameters: Value::Null,
            secret_parameters: Vec::new(),
            schema: Value::Null,
        }
    }

    pub(crate) fn poll_instance(&self, operation: Option<String>) -> Effect {
        Effect::PollInstance {
            target: self.target.clone(),
            call: self.call.clone(),
            operation,
        }
    }

    pub(crate) fn poll_binding(&self, operation: Option<String>, unbinding: bool) -> Effect {
        Effect::PollBinding {
            target: self.target.clone(),
            call: self.call.clone(),
            binding: self.binding,
            operation,
            unbinding,
        }
    }

    pub(crate) fn unbind(&self) -> Effect {
        let (target, call) = (self.target.clone(), self.call.clone());
        Effect::Unbind {
            target,
            call,
            binding: self.binding,
        }
    }

    pub(crate) fn deprovision(&self) -> Effect {
        Effect::Deprovision {
            target: self.target.clone(),
            call: self.call.clone(),
        }
    }

    pub(crate) async fn opened(&self, bound: &BoundCredentials) -> Value {
        let plain = self.vault.open(&bound.credentials).await.unwrap();
        serde_json::from_slice(plain.expose()).unwrap()
    }
}

pub(crate) async fn seal(vault: &dyn Vault, key: &str, value: &Value) -> Sealed {
    vault
        .seal(
            &KeyId(key.to_owned()),
            &Plain::new(value.to_string().into_bytes()),
        )
        .await
        .unwrap()
}

#[track_caller]
pub(crate) fn provisioned(outcome: Outcome) -> Verdict<engine_model::broker::Provisioned> {
    match outcome {
        Outcome::Instance(InstanceOutcome::ProvisionAnswered { verdict, .. }) => verdict,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn bound(outcome: Outcome) -> Verdict<BoundCredentials> {
    match outcome {
        Outcome::Binding(BindingOutcome::BindAnswered { verdict, .. }) => verdict,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn deleted(outcome: Outcome) -> Verdict<()> {
    match outcome {
        Outcome::Instance(InstanceOutcome::DeprovisionAnswered { verdict, .. })
        | Outcome::Binding(BindingOutcome::UnbindAnswered { verdict, .. }) => verdict,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn polled(outcome: Outcome) -> Progress {
    match outcome {
        Outcome::Instance(InstanceOutcome::Polled { progress, .. })
        | Outcome::Binding(BindingOutcome::Polled { progress, .. }) => progress,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn operation<T: std::fmt::Debug>(verdict: Verdict<T>) -> Option<String> {
    match verdict {
        Verdict::Accepted { operation, .. } => operation,
        other => panic!("not accepted: {other:?}"),
    }
}
