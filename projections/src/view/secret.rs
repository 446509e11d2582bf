//! Secrets: those that people store, and one for each binding that is bound, named by the id of
//! its instance. Values are never here.

use engine_model::spec::Tags;
use engine_model::{
    BindingEvent, Commit, Event, InstanceId, Kind, OrgName, ResourceId, SecretEvent, Status,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::{Reader, Rows, View};
use crate::tag::Tag;
use crate::view::{going, json};
use crate::{Error, tag};

/// A secret, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretDocument {
    /// When it was stored.
    pub created_time: i64,
    /// Its id for ever.
    pub id: ResourceId,
    /// Always `Secret`.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why it is not gone yet.
    pub reason: Option<Vec<String>>,
    /// The service instance whose credentials it holds; absent when people stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_instance: Option<String>,
    /// `READY`, or `DELETING` while its users go first.
    pub status: Status,
    /// Labels.
    pub tags: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Row {
    /// People stored it.
    Stored {
        id: ResourceId,
        created: Timestamp,
        tags: Tags,
        going: bool,
    },
    /// A binding's credentials.
    Bound {
        id: ResourceId,
        created: Timestamp,
        service_instance: String,
    },
    /// A binding, kept below a name that no secret has, so that later events find the secret.
    Binding {
        id: ResourceId,
        instance: InstanceId,
    },
}

pub(crate) struct Secrets;

impl View for Secrets {
    const NAME: &'static str = "secret";
    const VERSION: u32 = 1;
    type Row = Row;

    fn folds(kind: Kind) -> bool {
        matches!(kind, Kind::Secret | Kind::ServiceBinding)
    }

    fn fold(rows: &mut Rows<Self>, commit: &Commit, event: &Event) -> Result<(), Error> {
        match event {
            Event::Secret(event) => {
                rows.evolve_key(&commit.key, |row| evolve(row, commit.at, event))
            }
            Event::ServiceBinding(event) => fold_binding(rows, commit, event),
            Event::BaseImage(_)
            | Event::Image(_)
            | Event::Function(_)
            | Event::ServiceBroker(_)
            | Event::ServiceClass(_)
            | Event::ServiceInstance(_)
            | Event::API(_)
            | Event::Schedule(_)
            | Event::Organization(_)
            | Event::ServiceAccount(_)
            | Event::Application(_) => Ok(()),
        }
    }

    fn document(_: &Reader<'_>, _: &OrgName, name: &str, row: Row) -> Result<Option<Value>, Error> {
        let (id, created, service_instance, tags, is_going) = match row {
            Row::Stored {
                id,
                created,
                tags,
                going,
            } => (id, created, None, tags, going),
            Row::Bound {
                id,
                created,
                service_instance,
            } => (id, created, Some(service_instance), Tags::new(), false),
            Row::Binding { .. } => return Ok(None),
        };
        Ok(Some(json(&SecretDocument {
            created_time: created.unix_seconds(),
            id,
            kind: Kind::Secret,
            name: name.to_owned(),
            reason: going(is_going),
            service_instance,
            status: if is_going {
                Status::Deleting
            } else {
                Status::Ready
            },
            tags: tag::list(&tags),
        })))
    }
}

fn evolve(row: Option<Row>, at: Timestamp, event: &SecretEvent) -> Option<Row> {
    match (event, row) {
        (SecretEvent::Created { id, tags, .. }, _) => Some(Row::Stored {
            id: *id,
            created: at,
            tags: tags.clone(),
            going: false,
        }),
        (
            SecretEvent::Updated { tags, .. },
            Some(Row::Stored {
                id, created, going, ..
            }),
        ) => Some(Row::Stored {
            id,
            created,
            tags: tags.clone(),
            going,
        }),
        (
            SecretEvent::DeleteRequested,
            Some(Row::Stored {
                id, created, tags, ..
            }),
        ) => Some(Row::Stored {
            id,
            created,
            tags,
            going: true,
        }),
        (SecretEvent::Updated { .. } | SecretEvent::DeleteRequested, other) => other,
        (SecretEvent::Deleted, _) => None,
    }
}

fn fold_binding(
    rows: &mut Rows<Secrets>,
    commit: &Commit,
    event: &BindingEvent,
) -> Result<(), Error> {
    use BindingEvent as E;
    let (org, binding) = (&commit.key.org, commit.key.name.as_str());
    let hidden = format!("~{binding}");
    match event {
        // The secret named by the instance's id holds the credentials of the instance's own binding.
        E::Created {
            id,
            instance,
            owner: None,
            ..
        } => {
            let known = Row::Binding {
                id: *id,
                instance: *instance,
            };
            rows.evolve(org, &hidden, |_| Some(known))
        }
        E::Bound { .. } => {
            let Some((id, instance)) = known(rows, org, &hidden)? else {
                return Ok(());
            };
            rows.evolve(org, &instance.to_string(), |_| {
                Some(Row::Bound {
                    id,
                    created: commit.at,
                    service_instance: binding.to_owned(),
                })
            })
        }
        E::Unbound { replaced: None, .. } | E::Deleted | E::Abandoned { .. } => {
            if let Some((_, instance)) = known(rows, org, &hidden)? {
                rows.evolve(org, &instance.to_string(), |_| None)?;
            }
            rows.evolve(org, &hidden, |_| None)
        }
        E::Created { owner: Some(_), .. }
        | E::Unbound {
            replaced: Some(_), ..
        }
        | E::BindRequested { .. }
        | E::RotateRequested { .. }
        | E::Rotated { .. }
        | E::RotateFailed { .. }
        | E::OrphanAbandoned { .. }
        | E::OperationAccepted { .. }
        | E::OperationProgressed { .. }
        | E::OperationDelayed { .. }
        | E::BindFailed { .. }
        | E::DeleteRequested
        | E::UnbindRequested { .. }
        | E::UnbindFailed { .. }
        | E::OrphanRemoved { .. } => Ok(()),
    }
}

fn known(
    rows: &mut Rows<Secrets>,
    org: &OrgName,
    hidden: &str,
) -> Result<Option<(ResourceId, InstanceId)>, Error> {
    Ok(match rows.get(org, hidden)? {
        Some(Row::Binding { id, instance }) => Some((*id, *instance)),
        Some(Row::Stored { .. } | Row::Bound { .. }) | None => None,
    })
}
