//! What is outside: a broker that remembers, workers and gateways that do as the document says.
//! Answers can be scripted; what is not scripted succeeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine_model::broker::{
    Aftermath, BoundCredentials, BoundExtras, Endpoint, FetchedInstance, Offering, Progress,
    Provisioned, Verdict,
};
use engine_model::spec::Source;
use engine_model::{
    ApiOutcome, BaseImageOutcome, BindingId, BindingOutcome, BrokerOutcome, Effect,
    FunctionOutcome, ImageOutcome, InstanceId, InstanceOutcome, KeyId, Outcome, RevisionId,
    Timestamp,
};

use super::{catalog, sealed};

/// How the broker takes the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// 200 or 201.
    Sync,
    /// 202; done after so many polls.
    Async(u32),
    /// 202; the last operation says `failed` after so many polls, and half of it is there.
    AsyncFails(u32),
    /// 400.
    Rejects,
    /// 422 ConcurrencyError.
    Busy,
    /// 422 AsyncRequired, or MaintenanceInfoConflict when the catalog is stale.
    Again { stale: bool },
    /// Nothing was sent.
    Away,
    /// It is done, and its credentials cannot be trusted; a removal is done.
    Doubtful,
    /// It is done, but the answer is lost.
    LostAnswer,
    /// It is not done, and the answer is lost.
    LostRequest,
}

impl Mood {
    pub(crate) const ALL: [Self; 10] = [
        Self::Sync,
        Self::Async(2),
        Self::AsyncFails(1),
        Self::Rejects,
        Self::Busy,
        Self::Again { stale: false },
        Self::Again { stale: true },
        Self::Away,
        Self::LostAnswer,
        Self::LostRequest,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Make,
    FailToMake,
    Remove,
    FailToRemove,
}

/// What is outside.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    /// How requests are taken, first come first served; then `default`.
    pub(crate) moods: VecDeque<Mood>,
    pub(crate) default: Mood,
    pub(crate) catalog: BrokerOutcome,
    pub(crate) instances: BTreeSet<InstanceId>,
    pub(crate) bindings: BTreeMap<BindingId, InstanceId>,
    work: BTreeMap<String, (Work, u32, uuid::Uuid)>,
    pub(crate) erased: BTreeSet<KeyId>,
    pub(crate) sealed: BTreeSet<KeyId>,
    pub(crate) retired: Vec<RevisionId>,
    /// Every request that reached out, by name.
    pub(crate) calls: Vec<String>,
    /// The port that fresh credentials name.
    pub(crate) port: u16,
    /// How long fresh credentials work.
    pub(crate) lifetime_ms: Option<i64>,
    /// What a broker says of an instance after a failed update.
    pub(crate) aftermath: Aftermath,
    /// Where instances are managed.
    pub(crate) dashboard: Option<String>,
    /// Maintenance versions that provisions named.
    pub(crate) maintenance: Vec<Option<String>>,
    /// Plans that updates have changed to.
    pub(crate) plans: BTreeMap<InstanceId, String>,
    /// Bindings that were named as those to be replaced.
    pub(crate) predecessors: BTreeSet<BindingId>,
    /// Rules that a platform broke.
    pub(crate) offences: Vec<String>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            moods: VecDeque::new(),
            default: Mood::Sync,
            catalog: read(catalog()),
            instances: BTreeSet::new(),
            bindings: BTreeMap::new(),
            work: BTreeMap::new(),
            erased: BTreeSet::new(),
            sealed: BTreeSet::new(),
            retired: Vec::new(),
            calls: Vec::new(),
            port: 5432,
            lifetime_ms: None,
            aftermath: Aftermath::default(),
            dashboard: None,
            maintenance: Vec::new(),
            plans: BTreeMap::new(),
            predecessors: BTreeSet::new(),
            offences: Vec::new(),
        }
    }
}

pub(crate) fn read(offerings: Vec<Offering>) -> BrokerOutcome {
    BrokerOutcome::Read {
        etag: None,
        offerings,
        refused: Vec::new(),
        api_version: Some("2.17".into()),
    }
}

fn lost<T>() -> Verdict<T> {
    Verdict::Unknown {
        reason: "502 Bad Gateway".into(),
        orphan: true,
    }
}

impl Outside {
    pub(crate) fn moods(&mut self, moods: &[Mood]) {
        self.moods = moods.iter().copied().collect();
    }

    fn mood(&mut self) -> Mood {
        self.moods.pop_front().unwrap_or(self.default)
    }

    pub(crate) fn perform(&mut self, effect: &Effect, now: Timestamp) -> Option<Outcome> {
        self.calls.push(
            format!("{effect:?}")
                .split([' ', '(', '{'])
                .next()
                .unwrap()
                .to_owned(),
        );
        Some(match effect {
            Effect::EraseKey(key) => {
                self.erased.insert(key.clone());
                return None;
            }
            Effect::RetireRevision(revision) => {
                self.retired.push(*revision);
                return None;
            }
            Effect::ReadCatalog { .. } => Outcome::Broker(self.catalog.clone()),
            Effect::PrepareBaseImage {
                generation,
                language,
                docker_url,
            } => Outcome::BaseImage(if language == "cobol" {
                BaseImageOutcome::Failed {
                    generation: *generation,
                    reason: "no language pack for cobol".into(),
                }
            } else {
                BaseImageOutcome::Prepared {
                    generation: *generation,
                    version: "3.13".into(),
                    digest: digest(docker_url, *generation),
                }
            }),
            Effect::BuildImage(build) => Outcome::Image(if build.manifest == "bad" {
                ImageOutcome::Failed {
                    build: build.build,
                    reason: "no such package".into(),
                    log: None,
                }
            } else {
                let layer = format!("layer of {} for {}", build.manifest, build.language);
                ImageOutcome::Built {
                    build: build.build,
                    layer: (!build.manifest.is_empty()).then_some(layer),
                    bytes: 1,
                    log: None,
                }
            }),
            Effect::LoadFunction(load) => {
                let revision = load.revision;
                let bad = matches!(&load.spec.source, Source::File { text, .. } if text == "bad");
                Outcome::Function(if bad {
                    FunctionOutcome::Failed {
                        revision,
                        reason: "Invalid function file or handler".into(),
                    }
                } else {
                    FunctionOutcome::Loaded { revision }
                })
            }
            Effect::ServeApi { generation } => Outcome::Api(ApiOutcome::Served {
                generation: *generation,
            }),
            _ => return Some(self.of_broker(effect, now)),
        })
    }

    fn of_broker(&mut self, effect: &Effect, now: Timestamp) -> Outcome {
        match effect {
            Effect::Provision {
                call,
                maintenance_version,
                ..
            } => {
                let id = call.instance;
                self.maintenance.push(maintenance_version.clone());
                let dashboard = self.dashboard.clone();
                let verdict = self.make(&call.request.to_string(), id.0, |outside| {
                    outside.instances.insert(id);
                });
                let verdict = verdict.map(|()| Provisioned {
                    dashboard_url: dashboard,
                });
                Outcome::Instance(InstanceOutcome::ProvisionAnswered {
                    request: call.request,
                    verdict,
                })
            }
            Effect::Deprovision { call, .. } => {
                let id = call.instance;
                if self.bindings.values().any(|bound| *bound == id) {
                    self.offences
                        .push(format!("{id} is deprovisioned before it is unbound"));
                }
                let there = self.instances.contains(&id);
                let verdict = self.remove(&call.request.to_string(), id.0, there, |outside| {
                    outside.instances.remove(&id);
                    outside.bindings.retain(|_, bound| *bound != id);
                });
                Outcome::Instance(InstanceOutcome::DeprovisionAnswered {
                    request: call.request,
                    verdict,
                })
            }
            Effect::PollInstance { call, .. } => {
                let id = call.instance;
                let progress = self.poll(&call.request.to_string(), |outside, there| {
                    if there {
                        outside.instances.insert(id);
                    } else {
                        outside.instances.remove(&id);
                    }
                });
                Outcome::Instance(InstanceOutcome::Polled {
                    request: call.request,
                    progress,
                    aftermath: self.aftermath,
                })
            }
            Effect::UpdateInstance { call, update, .. } => {
                let id = call.instance;
                if !self.instances.contains(&id) {
                    self.offences
                        .push(format!("{id} is updated before it is there"));
                }
                let dashboard = self.dashboard.clone();
                let plan = update
                    .plan_id
                    .clone()
                    .unwrap_or_else(|| call.plan_id.clone());
                let there = plan.clone();
                let verdict = self.make(&call.request.to_string(), id.0, |outside| {
                    outside.plans.insert(id, there);
                });
                if matches!(verdict, Verdict::Accepted { .. }) {
                    self.plans.insert(id, plan);
                }
                Outcome::Instance(InstanceOutcome::UpdateAnswered {
                    request: call.request,
                    verdict: verdict.map(|()| Provisioned {
                        dashboard_url: dashboard,
                    }),
                    aftermath: self.aftermath,
                })
            }
            Effect::FetchInstance { call, .. } => {
                let there = self.instances.contains(&call.instance);
                let verdict = match self.mood() {
                    Mood::Sync | Mood::Async(_) | Mood::AsyncFails(_) if there => {
                        Verdict::Done(FetchedInstance::default())
                    }
                    Mood::Sync | Mood::Async(_) | Mood::AsyncFails(_) => Verdict::Gone,
                    Mood::LostAnswer | Mood::LostRequest => Verdict::Unknown {
                        reason: "502 Bad Gateway".into(),
                        orphan: false,
                    },
                    other => refused(other),
                };
                Outcome::Instance(InstanceOutcome::Fetched {
                    request: call.request,
                    verdict,
                })
            }
            Effect::Bind {
                call,
                binding,
                predecessor,
                ..
            } => {
                let (id, binding) = (call.instance, *binding);
                self.predecessors.extend(*predecessor);
                if !self.instances.contains(&id) {
                    return Outcome::Binding(BindingOutcome::BindAnswered {
                        request: call.request,
                        verdict: Verdict::Rejected {
                            reason: "no such instance".into(),
                        },
                    });
                }
                let verdict = self.make(&call.request.to_string(), binding.0, |outside| {
                    outside.bindings.insert(binding, id);
                });
                let verdict = verdict.map(|()| self.credentials(binding, now));
                Outcome::Binding(BindingOutcome::BindAnswered {
                    request: call.request,
                    verdict,
                })
            }
            Effect::Unbind { call, binding, .. } => {
                let binding = *binding;
                let there = self.bindings.contains_key(&binding);
                let verdict = self.remove(&call.request.to_string(), binding.0, there, |outside| {
                    outside.bindings.remove(&binding);
                });
                Outcome::Binding(BindingOutcome::UnbindAnswered {
                    request: call.request,
                    verdict,
                })
            }
            Effect::PollBinding {
                call,
                binding,
                unbinding,
                ..
            } => {
                let (id, binding) = (call.instance, *binding);
                let progress = self.poll(&call.request.to_string(), |outside, there| {
                    if there {
                        outside.bindings.insert(binding, id);
                    } else {
                        outside.bindings.remove(&binding);
                    }
                });
                let request = call.request;
                Outcome::Binding(if progress == Progress::Succeeded && !unbinding {
                    let verdict = Verdict::Done(self.credentials(binding, now));
                    BindingOutcome::BindAnswered { request, verdict }
                } else {
                    BindingOutcome::Polled { request, progress }
                })
            }
            other => panic!("{other:?} is not for a broker"),
        }
    }

    /// Fresh credentials, as of a broker that gives other ones each time.
    fn credentials(&mut self, binding: BindingId, now: Timestamp) -> BoundCredentials {
        let text = format!("{binding}-{}-{}", now.0, self.calls.len());
        let credentials = engine_model::Sealed {
            key: binding.data_key(),
            ..sealed(&text)
        };
        self.sealed.insert(credentials.key.clone());
        BoundCredentials {
            credentials,
            endpoints: vec![Endpoint {
                host: "127.0.0.1".into(),
                port: self.port,
            }],
            expires_at: self.lifetime_ms.map(|ms| now.plus_ms(ms)),
            renew_before: None,
            extras: BoundExtras::default(),
        }
    }

    fn make(
        &mut self,
        request: &str,
        what: uuid::Uuid,
        make: impl FnOnce(&mut Self),
    ) -> Verdict<()> {
        match self.mood() {
            Mood::Sync => {
                make(self);
                Verdict::Done(())
            }
            Mood::Async(polls) => self.accept(request, what, Work::Make, polls),
            Mood::AsyncFails(polls) => {
                make(self);
                self.accept(request, what, Work::FailToMake, polls)
            }
            Mood::Doubtful => {
                make(self);
                Verdict::Doubt {
                    reason: "a repeat was answered".into(),
                }
            }
            Mood::LostAnswer => {
                make(self);
                lost()
            }
            other => refused(other),
        }
    }

    fn remove(
        &mut self,
        request: &str,
        what: uuid::Uuid,
        there: bool,
        remove: impl FnOnce(&mut Self),
    ) -> Verdict<()> {
        let mood = self.mood();
        if matches!(
            mood,
            Mood::Sync | Mood::Doubtful | Mood::Async(_) | Mood::LostAnswer
        ) {
            // A removal puts an end to the making.
            self.work
                .retain(|_, (work, _, making)| *making != what || *work != Work::Make);
        }
        match mood {
            Mood::Sync | Mood::Doubtful if !there => Verdict::Gone,
            Mood::Sync | Mood::Doubtful => {
                remove(self);
                Verdict::Done(())
            }
            Mood::Async(polls) => self.accept(request, what, Work::Remove, polls),
            Mood::AsyncFails(polls) => self.accept(request, what, Work::FailToRemove, polls),
            Mood::LostAnswer => {
                remove(self);
                lost()
            }
            other => refused(other),
        }
    }

    fn accept(&mut self, request: &str, what: uuid::Uuid, work: Work, polls: u32) -> Verdict<()> {
        self.work.insert(request.to_owned(), (work, polls, what));
        Verdict::Accepted {
            operation: Some(format!("op {request}")),
            dashboard_url: None,
            retry_after_ms: None,
        }
    }

    fn poll(&mut self, request: &str, end: impl FnOnce(&mut Self, bool)) -> Progress {
        let Some((work, polls, _)) = self.work.get_mut(request) else {
            return Progress::NotFound;
        };
        if *polls > 0 {
            *polls -= 1;
            return Progress::InProgress {
                description: Some("busy".into()),
                retry_after_ms: None,
            };
        }
        match *work {
            Work::Make => end(self, true),
            Work::Remove => end(self, false),
            Work::FailToMake | Work::FailToRemove => {
                return Progress::Failed {
                    reason: "no room".into(),
                };
            }
        }
        Progress::Succeeded
    }
}

fn refused<T>(mood: Mood) -> Verdict<T> {
    match mood {
        Mood::Rejects => Verdict::Rejected {
            reason: "quota exceeded".into(),
        },
        Mood::Busy => Verdict::Busy {
            reason: "ConcurrencyError".into(),
            retry_after_ms: None,
        },
        Mood::Again { stale } => Verdict::Again {
            reason: "ask otherwise".into(),
            stale_catalog: stale,
        },
        Mood::Away => Verdict::NotSent {
            reason: "connection refused".into(),
        },
        _ => lost(),
    }
}

trait Map<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Verdict<U>;
}

impl<T> Map<T> for Verdict<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Verdict<U> {
        match self {
            Self::Done(value) => Verdict::Done(f(value)),
            Self::Accepted {
                operation,
                dashboard_url,
                retry_after_ms,
            } => Verdict::Accepted {
                operation,
                dashboard_url,
                retry_after_ms,
            },
            Self::Gone => Verdict::Gone,
            Self::Rejected { reason } => Verdict::Rejected { reason },
            Self::Busy {
                reason,
                retry_after_ms,
            } => Verdict::Busy {
                reason,
                retry_after_ms,
            },
            Self::Again {
                reason,
                stale_catalog,
            } => Verdict::Again {
                reason,
                stale_catalog,
            },
            Self::Doubt { reason } => Verdict::Doubt { reason },
            Self::NotSent { reason } => Verdict::NotSent { reason },
            Self::Unknown { reason, orphan } => Verdict::Unknown { reason, orphan },
        }
    }
}

/// What a registry has: `moving` tags name another image each time.
fn digest(url: &str, generation: u32) -> Option<String> {
    match url {
        "" => None,
        "moving" => Some(format!("sha256:{generation}")),
        other => Some(format!("sha256:{other}")),
    }
}
