//! What is kept of a resource besides its state, also when it is gone.

use engine_model::{
    ApiEvent, ApplicationEvent, BaseImageEvent, BindingEvent, BrokerEvent, FunctionEvent,
    ImageEvent, InstanceEvent, OrganizationEvent, ScheduleEvent, SecretEvent, ServiceAccountEvent,
};
use engine_model::{Cause, CommandId, Commit, Event, Seq, Timestamp};

use crate::aggregate::Leftover;
use crate::state::State;
use crate::world::author;

/// How many recent commands of a resource are remembered besides those that created it. A sender
/// repeats a command within seconds, and the stream itself recognises a repeat for minutes.
const COMMANDS_MAX: usize = 16;

/// How many leftovers of a resource are kept. They are needed until its commits have been reacted
/// to; this many changes of one secret would have to be waiting for the oldest to be forgotten.
const LEFTOVERS_MAX: usize = 64;

/// What is kept of a resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    /// The position of its last commit.
    pub(crate) seq: Seq,
    /// When that was decided.
    pub(crate) at: Timestamp,
    /// Whose command was the last.
    pub(crate) actor: Box<str>,
    /// `None` when it is gone.
    pub(crate) state: Option<State>,
    commands: Vec<Remembered>,
    leftovers: Vec<(Seq, Leftover)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Remembered {
    command: CommandId,
    seq: Seq,
    /// Kept for good: a late repeat must not create the resource anew.
    created: bool,
}

impl Entry {
    pub(super) fn note(&mut self, seq: Seq, commit: &Commit, leftovers: Vec<Leftover>) {
        self.seq = seq;
        self.at = commit.at;
        if let Some(author) = author(commit.cause, &commit.actor)
            && *self.actor != *author
        {
            self.actor = author.into();
        }
        if let Cause::Command(command) = commit.cause {
            let created = commit.events.iter().any(creates);
            self.remember(Remembered {
                command,
                seq,
                created,
            });
        }
        if !leftovers.is_empty() {
            self.leftovers
                .extend(leftovers.into_iter().map(|left| (seq, left)));
            let excess = self.leftovers.len().saturating_sub(LEFTOVERS_MAX);
            self.leftovers.drain(..excess);
        }
    }

    fn remember(&mut self, one: Remembered) {
        let recent = self.commands.iter().filter(|known| !known.created).count();
        if recent >= COMMANDS_MAX
            && let Some(oldest) = self.commands.iter().position(|known| !known.created)
        {
            self.commands.remove(oldest);
        }
        self.commands.reserve_exact(1);
        self.commands.push(one);
    }

    pub(crate) fn decided(&self, command: CommandId) -> Option<Seq> {
        self.commands
            .iter()
            .find(|known| known.command == command)
            .map(|known| known.seq)
    }

    /// What the commit at `seq` left to be done.
    pub(crate) fn leftovers(&self, seq: Seq) -> impl Iterator<Item = &Leftover> {
        self.leftovers
            .iter()
            .filter(move |(at, _)| *at == seq)
            .map(|(_, left)| left)
    }
}

fn creates(event: &Event) -> bool {
    match event {
        Event::BaseImage(event) => matches!(event, BaseImageEvent::Created { .. }),
        Event::Image(event) => matches!(event, ImageEvent::Created { .. }),
        Event::Function(event) => matches!(event, FunctionEvent::Created { .. }),
        Event::Secret(event) => matches!(event, SecretEvent::Created { .. }),
        Event::ServiceBroker(event) => matches!(event, BrokerEvent::Registered { .. }),
        Event::ServiceInstance(event) => matches!(event, InstanceEvent::Created { .. }),
        Event::API(event) => matches!(event, ApiEvent::Created { .. }),
        Event::Schedule(event) => matches!(event, ScheduleEvent::Created { .. }),
        Event::Organization(event) => matches!(event, OrganizationEvent::Created { .. }),
        Event::ServiceAccount(event) => matches!(event, ServiceAccountEvent::Created { .. }),
        Event::Application(event) => matches!(event, ApplicationEvent::Created { .. }),
        Event::ServiceBinding(event) => matches!(event, BindingEvent::Created { .. }),
        Event::ServiceClass(_) => false,
    }
}
