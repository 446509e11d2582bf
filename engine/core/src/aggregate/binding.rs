//! A service binding: a life at a broker, whose fruit is credentials. Credentials that are replaced
//! live on beside the new ones until nobody uses them.

use engine_model::broker::BoundCredentials;
use engine_model::{BindingEvent, BindingId, InstanceId, Kind, Name, RequestId};
use engine_model::{ResourceId, ResourceKey, Timestamp};

mod tell;

pub(crate) use tell::{Telling, event};
use tell::{change, request};

use super::wish::BindingWish;
use super::{Illegal, Leftover, Scene};
use crate::life::{Attempt, Change, Life, Stage};

/// One binding at the broker.
pub(crate) type BindingLife = Life<BindingId, Box<BoundCredentials>>;

/// The credentials to use an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Binding {
    pub(crate) id: ResourceId,
    pub(crate) instance: InstanceId,
    /// The instance by name, when it is not the binding's own.
    pub(crate) owner: Option<Box<Name>>,
    /// The function that it is for alone.
    pub(crate) function: Option<Box<Name>>,
    pub(crate) wish: BindingWish,
    /// The binding in use.
    pub(crate) life: BindingLife,
    /// When its credentials came.
    pub(crate) bound_at: Timestamp,
    /// What is beside it, once it was to be replaced.
    pub(crate) turnover: Option<Box<Turnover>>,
}

/// Bindings beside the one in use.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Turnover {
    /// How often the broker was asked for credentials.
    pub(crate) attempts: u32,
    /// The one that is to take its place.
    pub(crate) next: Option<BindingLife>,
    /// Those that are to be unbound.
    pub(crate) replaced: Vec<Replaced>,
    /// How the last rotation failed.
    pub(crate) failed: Option<RotationFailed>,
}

/// A binding that is to be unbound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Replaced {
    pub(crate) life: BindingLife,
    /// When nobody uses it any more.
    pub(crate) drained_at: Timestamp,
}

/// New credentials could not be had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RotationFailed {
    pub(crate) reason: Box<str>,
    pub(crate) failures: u32,
    pub(crate) next_at: Timestamp,
}

pub(crate) type BindingChange = Change<BindingId, Box<BoundCredentials>>;

/// Which of a binding's lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The binding in use.
    InUse,
    /// The one that is to take its place.
    Next,
    /// One that is to be unbound.
    Replaced(usize),
}

impl Binding {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &BindingEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let BindingEvent::Created {
                id,
                instance,
                owner,
                function,
                spec,
                ..
            } = event
            else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                instance: *instance,
                owner: owner.clone().map(Box::new),
                function: function.clone().map(Box::new),
                wish: BindingWish::of(spec),
                life: Life::new(),
                bound_at: scene.at,
                turnover: None,
            }));
        };
        if matches!(
            event,
            BindingEvent::Bound { .. } | BindingEvent::Rotated { .. }
        ) {
            state.bound_at = scene.at;
        }
        match event {
            BindingEvent::RotateRequested { .. }
            | BindingEvent::Rotated { .. }
            | BindingEvent::RotateFailed { .. } => {
                state.turn(event, scene)?;
                Ok(Some(state))
            }
            BindingEvent::UnbindRequested {
                request,
                replaced: Some(which),
                attempt,
            } => {
                let replaced = state
                    .replaced_mut(|life| is_attempt(life, *which))
                    .ok_or(())?;
                let mut life = replaced.life.clone();
                if !life.is_going() {
                    life = life.evolve(Change::DeleteRequested, scene.at)?.ok_or(())?;
                }
                let change = Change::RemovalRequested {
                    request: *request,
                    number: *attempt,
                };
                replaced.life = life.evolve(change, scene.at)?.ok_or(())?;
                Ok(Some(state))
            }
            BindingEvent::Unbound {
                request,
                replaced: Some(which),
            } => {
                let turnover = state.turnover.as_mut().ok_or(())?;
                let place = turnover
                    .replaced
                    .iter()
                    .position(|other| is_attempt(&other.life, *which))
                    .filter(|place| turnover.replaced[*place].life.knows(*request))
                    .ok_or(())?;
                turnover.replaced.remove(place);
                scene.leftovers.push(Leftover::Key(which.data_key()));
                Ok(Some(state))
            }
            _ => state.live(event, scene),
        }
    }

    /// What concerns one of its lives, told by the request.
    fn live(
        mut self,
        event: &BindingEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let change = change(event, scene).ok_or(())?;
        let which = request(event).and_then(|request| self.which(request));
        match which {
            Some(Which::Next) => {
                let turnover = self.turnover.as_mut().ok_or(())?;
                let next = turnover.next.take().ok_or(())?;
                turnover.next = next.evolve(change, scene.at)?;
                Ok(Some(self))
            }
            Some(Which::Replaced(place)) => {
                let turnover = self.turnover.as_mut().ok_or(())?;
                let replaced = &mut turnover.replaced[place];
                replaced.life = replaced.life.clone().evolve(change, scene.at)?.ok_or(())?;
                Ok(Some(self))
            }
            Some(Which::InUse) | None => {
                let keys = self.life.keys();
                let life = self.life.evolve(change, scene.at)?;
                let kept = life.as_ref().map(BindingLife::keys).unwrap_or_default();
                let gone = keys.into_iter().filter(|key| !kept.contains(key));
                scene.leftovers.extend(gone.map(Leftover::Key));
                if life.is_none()
                    && let Some(turnover) = &self.turnover
                {
                    let lives = turnover.replaced.iter().map(|other| &other.life);
                    for life in lives.chain(&turnover.next) {
                        scene
                            .leftovers
                            .extend(life.keys().into_iter().map(Leftover::Key));
                    }
                }
                Ok(life.map(|life| Self { life, ..self }))
            }
        }
    }

    /// Its credentials are being replaced.
    fn turn(&mut self, event: &BindingEvent, scene: &mut Scene<'_>) -> Result<(), Illegal> {
        if self.life.made().is_none() {
            return Err(());
        }
        let attempts = self.life.attempts;
        let turnover = self.turnover.get_or_insert_with(|| {
            Box::new(Turnover {
                attempts,
                ..Turnover::default()
            })
        });
        match event {
            BindingEvent::RotateRequested {
                request,
                binding,
                attempt,
                deadline,
                ..
            } => {
                if turnover.next.is_some() {
                    return Err(());
                }
                let asked = Change::Requested(Attempt {
                    request: *request,
                    number: *attempt,
                    limit_ms: deadline.since_ms(scene.at),
                    existing: false,
                    what: *binding,
                });
                turnover.attempts = *attempt;
                turnover.next = Life::new().evolve(asked, scene.at)?;
            }
            BindingEvent::Rotated {
                request,
                bound,
                drained_at,
            } => {
                let next = turnover.next.take().ok_or(())?;
                let made = Change::Made {
                    request: *request,
                    made: Box::new(bound.clone()),
                };
                let next = next.evolve(made, scene.at)?.ok_or(())?;
                if self.life.is_going() {
                    // Its end was asked for meanwhile: the new one has to go as well.
                    turnover.replaced.push(Replaced {
                        life: next,
                        drained_at: scene.at,
                    });
                } else {
                    let old = std::mem::replace(&mut self.life, next);
                    turnover.replaced.push(Replaced {
                        life: old,
                        drained_at: *drained_at,
                    });
                }
                turnover.failed = None;
            }
            BindingEvent::RotateFailed {
                request,
                reason,
                orphan,
                failures,
                next_at,
            } => {
                let next = turnover.next.take().ok_or(())?;
                let failed = Change::Failed {
                    request: *request,
                    reason: reason.clone(),
                    orphan: *orphan,
                    again: false,
                };
                let life = next.evolve(failed, scene.at)?.ok_or(())?;
                if *orphan {
                    turnover.replaced.push(Replaced {
                        life,
                        drained_at: scene.at,
                    });
                }
                turnover.failed = Some(RotationFailed {
                    reason: reason.as_str().into(),
                    failures: *failures,
                    next_at: *next_at,
                });
            }
            _ => return Err(()),
        }
        Ok(())
    }

    fn replaced_mut(&mut self, wanted: impl Fn(&BindingLife) -> bool) -> Option<&mut Replaced> {
        let replaced = self.turnover.as_mut()?.replaced.iter_mut();
        replaced.into_iter().find(|other| wanted(&other.life))
    }

    /// The life that a request belongs to.
    pub(crate) fn which(&self, request: RequestId) -> Option<Which> {
        if self.life.knows(request) {
            return Some(Which::InUse);
        }
        let turnover = self.turnover.as_ref()?;
        if turnover
            .next
            .as_ref()
            .is_some_and(|life| life.knows(request))
        {
            return Some(Which::Next);
        }
        let mut replaced = turnover.replaced.iter();
        replaced
            .position(|other| other.life.knows(request))
            .map(Which::Replaced)
    }

    pub(crate) fn life_of(&self, which: Which) -> Option<&BindingLife> {
        match which {
            Which::InUse => Some(&self.life),
            Which::Next => self.turnover.as_ref()?.next.as_ref(),
            Which::Replaced(place) => {
                let replaced = self.turnover.as_ref()?.replaced.get(place);
                replaced.map(|other| &other.life)
            }
        }
    }

    /// All its lives.
    pub(crate) fn lives(&self) -> impl Iterator<Item = (Which, &BindingLife)> {
        let beside = self.turnover.iter().flat_map(|turnover| {
            let replaced = turnover.replaced.iter().enumerate();
            let replaced = replaced.map(|(place, other)| (Which::Replaced(place), &other.life));
            turnover
                .next
                .iter()
                .map(|life| (Which::Next, life))
                .chain(replaced)
        });
        std::iter::once((Which::InUse, &self.life)).chain(beside)
    }

    /// Whether the broker has a request about any of them in hand.
    pub(crate) fn is_in_hand(&self) -> bool {
        self.lives().any(|(_, life)| life.is_in_hand())
    }

    /// Whether nothing is beside the binding in use.
    pub(crate) fn is_alone(&self) -> bool {
        self.turnover
            .as_ref()
            .is_none_or(|turnover| turnover.next.is_none() && turnover.replaced.is_empty())
    }

    /// The instance that it belongs to, by name, for a binding of this key.
    pub(crate) fn owner_key(&self, key: &ResourceKey) -> ResourceKey {
        match &self.owner {
            Some(owner) => key.neighbour(Kind::ServiceInstance, owner),
            None => key.sibling(Kind::ServiceInstance),
        }
    }

    /// The credentials, if functions may use them.
    pub(crate) fn bound(&self) -> Option<&BoundCredentials> {
        if self.life.is_made() {
            self.life.made().map(AsRef::as_ref)
        } else {
            None
        }
    }
}

fn is_attempt(life: &BindingLife, binding: BindingId) -> bool {
    life.attempt()
        .is_some_and(|attempt| attempt.what == binding)
}

impl BindingLife {
    /// The data keys of what it may have given.
    fn keys(&self) -> Vec<engine_model::KeyId> {
        // Of a failed attempt that was cleaned up nothing is left, and its key was erased then.
        let attempt = match &self.stage {
            Stage::Waiting
            | Stage::Failed {
                left: crate::life::Left::Nothing,
                ..
            } => None,
            _ => self.attempt(),
        };
        let own = attempt.map(|attempt| attempt.what.data_key());
        let made = self.made().map(|made| made.credentials.key.clone());
        let mut keys: Vec<_> = own.into_iter().chain(made).collect();
        keys.dedup();
        keys
    }
}
