//! What the outer world answers to effects.

use engine_model::broker::*;
use engine_model::*;

use super::catalog;
use crate::tests::fixture::sealed;

/// How a broker answers, drawn anew for each request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Done,
    Accepted,
    Rejected,
    Busy,
    Again,
    NotSent,
    Unknown { orphan: bool },
    Gone,
}

impl Answer {
    pub(super) const ALL: [Self; 9] = [
        Self::Done,
        Self::Done,
        Self::Accepted,
        Self::Rejected,
        Self::Busy,
        Self::Again,
        Self::NotSent,
        Self::Unknown { orphan: true },
        Self::Gone,
    ];

    fn verdict<T>(self, done: T) -> Verdict<T> {
        let reason = format!("{self:?}");
        match self {
            Self::Done => Verdict::Done(done),
            Self::Accepted => Verdict::Accepted {
                operation: Some("op".into()),
                dashboard_url: Some("https://portal.example".into()),
                retry_after_ms: None,
            },
            Self::Rejected => Verdict::Rejected { reason },
            Self::Busy => Verdict::Busy {
                reason,
                retry_after_ms: None,
            },
            Self::Again => Verdict::Again {
                reason,
                stale_catalog: false,
            },
            Self::NotSent => Verdict::NotSent { reason },
            Self::Unknown { orphan } => Verdict::Unknown { reason, orphan },
            Self::Gone => Verdict::Gone,
        }
    }

    fn progress(self) -> Progress {
        let reason = format!("{self:?}");
        match self {
            Self::Done => Progress::Succeeded,
            Self::Accepted | Self::Busy => Progress::InProgress {
                description: Some("half done".into()),
                retry_after_ms: None,
            },
            Self::Rejected => Progress::Failed { reason },
            Self::Again | Self::NotSent | Self::Unknown { .. } => Progress::NoAnswer {
                reason,
                retry_after_ms: None,
            },
            Self::Gone => Progress::Gone,
        }
    }
}

pub(super) fn outcome(
    effect: &Effect,
    answer: Answer,
    (key, variant): (&ResourceKey, usize),
    now: Timestamp,
) -> Option<Outcome> {
    let aftermath = Aftermath {
        instance_usable: now.0 % 3 != 0,
        update_repeatable: now.0 % 2 == 0,
    };
    Some(match effect {
        Effect::ReadCatalog { .. } => {
            let class = if key.name.as_str() == "common" {
                "mq"
            } else {
                "pg"
            };
            Outcome::Broker(match answer {
                Answer::Rejected => BrokerOutcome::Failed {
                    reason: "refused".into(),
                },
                Answer::NotSent => BrokerOutcome::Unwell {
                    reason: "down".into(),
                    failures: 5,
                },
                Answer::Busy => BrokerOutcome::Well,
                _ => BrokerOutcome::Read {
                    etag: None,
                    offerings: catalog(class, variant),
                    refused: Vec::new(),
                    api_version: Some("2.17".into()),
                },
            })
        }
        Effect::Provision { call, .. } => Outcome::Instance(InstanceOutcome::ProvisionAnswered {
            request: call.request,
            verdict: answer.verdict(Provisioned::default()),
        }),
        Effect::FetchInstance { call, .. } => Outcome::Instance(InstanceOutcome::Fetched {
            request: call.request,
            verdict: answer.verdict(FetchedInstance::default()),
        }),
        Effect::UpdateInstance { call, .. } => Outcome::Instance(InstanceOutcome::UpdateAnswered {
            request: call.request,
            verdict: answer.verdict(Provisioned::default()),
            aftermath,
        }),
        Effect::PollInstance { call, .. } => Outcome::Instance(InstanceOutcome::Polled {
            request: call.request,
            progress: answer.progress(),
            aftermath,
        }),
        Effect::Deprovision { call, .. } => {
            Outcome::Instance(InstanceOutcome::DeprovisionAnswered {
                request: call.request,
                verdict: answer.verdict(()),
            })
        }
        Effect::Bind { call, binding, .. } => Outcome::Binding(BindingOutcome::BindAnswered {
            request: call.request,
            verdict: answer.verdict(bound(*binding, now)),
        }),
        Effect::PollBinding {
            call,
            binding,
            unbinding,
            ..
        } => Outcome::Binding(match answer {
            Answer::Done if !unbinding => BindingOutcome::BindAnswered {
                request: call.request,
                verdict: answer.verdict(bound(*binding, now)),
            },
            _ => BindingOutcome::Polled {
                request: call.request,
                progress: answer.progress(),
            },
        }),
        Effect::Unbind { call, .. } => Outcome::Binding(BindingOutcome::UnbindAnswered {
            request: call.request,
            verdict: answer.verdict(()),
        }),
        _ => return None,
    })
}

fn bound(binding: BindingId, now: Timestamp) -> BoundCredentials {
    BoundCredentials {
        credentials: Sealed {
            key: binding.data_key(),
            ..sealed("bound")
        },
        endpoints: Vec::new(),
        expires_at: (now.0 % 2 == 0).then(|| now.plus_ms(600_000)),
        renew_before: None,
        extras: BoundExtras::default(),
    }
}
