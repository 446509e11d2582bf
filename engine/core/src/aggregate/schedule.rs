//! A function that is run again and again.
//!
//! ```text
//!  Waiting ──begun──► Begun ──passed, missed──► Begun
//!     ▲                 │
//!     └── updated, when what it names changed
//! ```

use engine_model::spec::ScheduleSpec;
use engine_model::{Name, ResourceId, ScheduleEvent, Timestamp};

use super::{Illegal, Scene};
use crate::rhythm::Rhythm;

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) id: ResourceId,
    pub(crate) spec: ScheduleSpec,
    /// Where equal lengths of time are counted from.
    pub(crate) anchor: Timestamp,
    pub(crate) stage: Stage,
    /// Its last occurrence as it was before.
    pub(crate) earlier: Option<Earlier>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for what it names.
    Waiting,
    /// It is due again and again after `since`, unless it is paused. All that is due up to
    /// `through` has its run.
    Begun {
        since: Timestamp,
        through: Timestamp,
    },
}

/// An occurrence of what a schedule was before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub(crate) at: Timestamp,
    pub(crate) function: Name,
}

impl Schedule {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &ScheduleEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let now = scene.at;
        let Some(mut state) = state else {
            let ScheduleEvent::Created { id, spec } = event else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                spec: spec.clone(),
                anchor: now,
                stage: Stage::Waiting,
                earlier: None,
            }));
        };
        match event {
            ScheduleEvent::Created { .. } => return Err(()),
            ScheduleEvent::Updated { spec } => state.change(spec, now),
            ScheduleEvent::Begun => {
                state.stage = Stage::Begun {
                    since: now,
                    through: now,
                };
            }
            ScheduleEvent::Passed { through: to } | ScheduleEvent::Missed { last: to, .. } => {
                let Stage::Begun { through, .. } = &mut state.stage else {
                    return Err(());
                };
                *through = (*through).max(*to);
            }
            ScheduleEvent::Deleted => return Ok(None),
        }
        Ok(Some(state))
    }

    fn change(&mut self, spec: &ScheduleSpec, now: Timestamp) {
        let as_often = self.spec.is_as_often(spec);
        let names_others = !self.spec.names_as(spec);
        if !as_often || names_others || self.spec.paused != spec.paused {
            if let Some(at) = self.last(now) {
                self.earlier = Some(Earlier {
                    at,
                    function: self.spec.function.clone(),
                });
            }
            if let Stage::Begun { since, through } = &mut self.stage {
                *since = now;
                *through = now;
            }
        }
        if names_others {
            self.stage = Stage::Waiting;
        }
        if !as_often {
            self.anchor = now;
        }
        self.spec = spec.clone();
    }

    /// When it is due; none when nobody can read that any more.
    pub(crate) fn rhythm(&self) -> Option<Rhythm> {
        Rhythm::read(&self.spec, self.anchor).ok()
    }

    /// Since when it is due, if it is at all now.
    pub(crate) fn active(&self) -> Option<(Timestamp, Timestamp)> {
        match self.stage {
            Stage::Begun { since, through } if !self.spec.paused => Some((since, through)),
            Stage::Begun { .. } | Stage::Waiting => None,
        }
    }

    /// Its latest occurrence as it is now.
    pub(crate) fn last(&self, until: Timestamp) -> Option<Timestamp> {
        let (since, _) = self.active()?;
        let last = self.rhythm()?.last(until)?;
        (last > since).then_some(last)
    }
}
