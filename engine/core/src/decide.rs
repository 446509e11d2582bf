//! Decides: what is recorded when a command, an outcome, a word of another resource or an alarm
//! meets a resource.

use engine_model::{
    Alarm, Code, Command, CommandId, Effect, Event, Kind, Outcome, Rejection, ResourceId,
    ResourceKey, Sealed, Seq, Timestamp,
};

use crate::refuse;
use crate::world::World;

pub(crate) mod api;
pub(crate) mod base_image;
pub(crate) mod binding;
pub(crate) mod broker;
pub(crate) mod catalog;
pub(crate) mod delete;
pub(crate) mod function;
pub(crate) mod image;
pub(crate) mod instance;
mod plain;
pub(crate) mod rotate;
pub(crate) mod schedule;
mod secret;
pub(crate) mod update;

/// What a resource meets.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Someone's command.
    Command {
        /// Its id.
        id: CommandId,
        /// What is wanted.
        command: &'a Command,
        /// Its secret as the vault sealed it again.
        sealed: Option<&'a Sealed>,
    },
    /// What came of an effect.
    Outcome {
        /// What came of it.
        outcome: &'a Outcome,
    },
    /// A word of another resource: `Proceed`, `CreateBinding`, `DeleteBinding`, `AbandonBinding`,
    /// `RefreshCatalog` or `Delete`.
    Nudge {
        /// The word.
        effect: &'a Effect,
    },
    /// An alarm that has come due.
    Due {
        /// Which.
        alarm: Alarm,
    },
}

/// What is to be recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// Commits to be written in this order; the resource that asked comes last. Empty when there
    /// is nothing to record.
    pub writes: Vec<(ResourceKey, Vec<Event>)>,
    /// Where the command was decided before, when it is a repeat.
    pub repeated: Option<Seq>,
}

impl Decision {
    fn nothing() -> Self {
        Self::default()
    }

    fn of(key: &ResourceKey, events: Vec<Event>) -> Self {
        let writes = if events.is_empty() {
            Vec::new()
        } else {
            vec![(key.clone(), events)]
        };
        Self {
            writes,
            repeated: None,
        }
    }
}

/// A command as the deciders of a kind see it.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) world: &'a World,
    pub(crate) key: &'a ResourceKey,
    pub(crate) id: CommandId,
    pub(crate) command: &'a Command,
    pub(crate) sealed: Option<&'a Sealed>,
    pub(crate) now: Timestamp,
}

impl Ask<'_> {
    /// The id of the resource that this command creates.
    fn new_id(&self) -> ResourceId {
        ResourceId(self.id.0)
    }

    /// Refuses to create what is there, in an organization that is going.
    fn must_be_free(&self) -> Result<(), Rejection> {
        match self.world.state(self.key) {
            Some(state) if state.is_going() => Err(refuse::being_deleted(self.key)),
            Some(_) => Err(refuse::already_exists(self.key)),
            None => match delete::organization_of(self.world, self.key) {
                Some(org)
                    if self
                        .world
                        .state(&org)
                        .is_some_and(crate::state::State::is_going) =>
                {
                    Err(refuse::being_deleted(&org))
                }
                Some(_) | None => Ok(()),
            },
        }
    }

    /// Refuses to change what is not there, or is going.
    fn must_be_there(&self) -> Result<(), Rejection> {
        match self.world.state(self.key) {
            None => Err(refuse::not_found(self.key)),
            Some(state) if state.is_going() => Err(refuse::being_deleted(self.key)),
            Some(_) => Ok(()),
        }
    }

    /// Refuses a command that this kind does not know.
    fn unknown(&self) -> Rejection {
        let word = match self.command {
            Command::Create(_) => "create",
            Command::Update(_) => "update",
            Command::Delete(_) => "delete",
            Command::Refresh => "refresh",
            Command::Retry => "retry",
            Command::Abandon { .. } => "abandon",
            Command::Rotate => "rotate",
            Command::Adopt { .. } => "adopt",
            Command::Rollback { .. } => "rollback",
            Command::Route { .. } => "route",
        };
        let text = format!(
            "{word} means nothing to a resource of kind {}",
            self.key.kind
        );
        Rejection::new(Code::WrongKind, text)
    }
}

/// Decides.
///
/// # Errors
/// A `Rejection` when a command is refused. Outcomes, words and alarms are never refused: those
/// that no longer matter come to nothing.
pub fn decide(
    world: &World,
    key: &ResourceKey,
    input: Input<'_>,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    match input {
        Input::Command {
            id,
            command,
            sealed,
        } => {
            if let Some(seq) = world.decided(key, id) {
                return Ok(Decision {
                    repeated: Some(seq),
                    ..Decision::nothing()
                });
            }
            ask(Ask {
                world,
                key,
                id,
                command,
                sealed,
                now,
            })
        }
        Input::Outcome { outcome } => Ok(learn(world, key, outcome, now)),
        Input::Nudge { effect } => Ok(nudge(world, key, effect, now)),
        Input::Due { .. } => Ok(proceed(world, key, now)),
    }
}

fn ask(ask: Ask<'_>) -> Result<Decision, Rejection> {
    if let Command::Create(spec) | Command::Update(spec) = ask.command
        && spec.kind() != ask.key.kind
    {
        let text = format!(
            "the document describes a {}, and the subject names a {}",
            spec.kind(),
            ask.key.kind
        );
        return Err(Rejection::new(Code::WrongKind, text));
    }
    if matches!(ask.command, Command::Adopt { .. }) && ask.key.kind != Kind::ServiceInstance {
        return Err(ask.unknown());
    }
    if matches!(
        ask.command,
        Command::Rollback { .. } | Command::Route { .. }
    ) && ask.key.kind != Kind::Function
    {
        return Err(ask.unknown());
    }
    match ask.key.kind {
        Kind::BaseImage => base_image::ask(&ask),
        Kind::Image => image::ask(&ask),
        Kind::Function => function::ask(&ask),
        Kind::Secret => secret::ask(&ask),
        Kind::ServiceBroker => broker::ask(&ask),
        Kind::ServiceClass => Err(refuse::read_only(
            ask.key,
            "service classes come from their broker's catalog; refresh the service broker instead",
        )),
        Kind::ServiceInstance => instance::ask(&ask),
        Kind::ServiceBinding => binding::ask(&ask),
        Kind::API => api::ask(&ask),
        Kind::Schedule => schedule::ask(&ask),
        Kind::Organization | Kind::ServiceAccount | Kind::Application => plain::ask(&ask),
        Kind::Run => {
            let text = "runs are started by run commands, on subjects dispatch.runcmd.…";
            Err(Rejection::new(Code::UnknownKind, text))
        }
    }
}

fn learn(world: &World, key: &ResourceKey, outcome: &Outcome, now: Timestamp) -> Decision {
    match outcome {
        Outcome::BaseImage(outcome) => base_image::learn(world, key, outcome),
        Outcome::Image(outcome) => image::learn(world, key, outcome),
        Outcome::Function(outcome) => function::learn(world, key, outcome),
        Outcome::Broker(outcome) => catalog::learn(world, key, outcome, now),
        Outcome::Instance(outcome) => instance::learn(world, key, outcome, now),
        Outcome::Binding(outcome) => binding::learn(world, key, outcome, now),
        Outcome::Api(outcome) => api::learn(world, key, outcome),
        Outcome::Schedule(outcome) => schedule::learn(world, key, outcome),
    }
}

fn nudge(world: &World, key: &ResourceKey, effect: &Effect, now: Timestamp) -> Decision {
    match effect {
        Effect::Proceed(_) | Effect::DeleteBinding(_) => proceed(world, key, now),
        Effect::CreateBinding {
            instance,
            owner,
            function,
            spec,
            ..
        } => {
            let wanted = binding::Wanted {
                instance: *instance,
                owner,
                function: function.as_ref(),
                spec,
            };
            binding::create(world, key, &wanted, now)
        }
        Effect::RefreshCatalog(_) => broker::refresh(world, key),
        Effect::AbandonBinding { reason, .. } => binding::abandon(world, key, reason),
        Effect::Delete(_) => delete::along(world, key, now),
        Effect::Timer(_)
        | Effect::EraseKey(_)
        | Effect::ReadCatalog { .. }
        | Effect::Provision { .. }
        | Effect::FetchInstance { .. }
        | Effect::UpdateInstance { .. }
        | Effect::PollInstance { .. }
        | Effect::Deprovision { .. }
        | Effect::Bind { .. }
        | Effect::PollBinding { .. }
        | Effect::Unbind { .. }
        | Effect::PrepareBaseImage { .. }
        | Effect::BuildImage(_)
        | Effect::LoadFunction(_)
        | Effect::RetireRevision(_)
        | Effect::ServeApi { .. } => Decision::nothing(),
    }
}

/// What a resource does next of itself, as the world is now.
pub(crate) fn proceed(world: &World, key: &ResourceKey, now: Timestamp) -> Decision {
    let events = match key.kind {
        Kind::Image => image::next(world, key),
        Kind::Function => function::next(world, key),
        Kind::ServiceInstance => instance::next(world, key, now),
        Kind::ServiceBinding => binding::next(world, key, now),
        Kind::API => api::next(world, key),
        Kind::Schedule => schedule::next(world, key),
        Kind::Secret | Kind::ServiceBroker | Kind::Organization => {
            return delete::next(world, key);
        }
        Kind::ServiceClass => catalog::next(world, key),
        Kind::BaseImage | Kind::Run | Kind::ServiceAccount | Kind::Application => Vec::new(),
    };
    Decision::of(key, events)
}
