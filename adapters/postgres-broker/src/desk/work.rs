//! From records to jobs. The stage of a record alone says what is due, so this may be run at any
//! time: after a decision, after a job, and at start, when it takes up what a crash has left.

use tokio_util::sync::CancellationToken;

use super::{Desk, Running};
use crate::job::{self, Work};
use crate::record::{BindingStage, Home, Instance, Operation, Stage};
use crate::server;

/// How long pollers can learn that an instance was deleted.
const TOMBSTONE_SECONDS: i64 = 7 * 24 * 3600;
/// Tombstones that are kept whatever their age.
const TOMBSTONES_MAX: usize = 10_000;

/// What a job works on: an instance, or one of its bindings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) instance_id: String,
    pub(super) binding_id: Option<String>,
}

impl Desk {
    /// Takes up what the records say: starts servers, and goes on with unfinished work.
    pub(super) async fn resume(&mut self) {
        self.forget_old();
        let ids: Vec<String> = self.records.keys().cloned().collect();
        for id in ids {
            self.start_server(&id);
            self.drive(&id).await;
        }
    }

    /// Starts the jobs that are due for an instance. One works on an instance as a whole only while
    /// none works on its bindings.
    pub(super) async fn drive(&mut self, id: &str) {
        self.move_port(id).await;
        let Some(record) = self.records.get(id) else {
            return;
        };
        let busy = self.running.keys().any(|target| target.instance_id == id);
        let due: Vec<(Target, Work)> = due(record)
            .into_iter()
            .filter(|(target, _)| match target.binding_id {
                None => !busy,
                Some(_) => !self.running.contains_key(target),
            })
            .collect();
        self.halt_overtaken(id);
        for (target, work) in due {
            self.spawn(target, work);
        }
    }

    /// Halts the jobs of an instance that work on something that is no longer wanted.
    fn halt_overtaken(&self, id: &str) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        for (target, job) in self
            .running
            .iter()
            .filter(|(target, _)| target.instance_id == id)
        {
            let current = operation_of(record, target.binding_id.as_deref());
            if current.is_none_or(|operation| operation.id != job.operation) {
                job.halt.cancel();
            }
        }
    }

    fn spawn(&mut self, target: Target, work: Work) {
        let server = self.server(&target.instance_id);
        let Some(record) = self.records.get(&target.instance_id) else {
            return;
        };
        let Some(operation) = operation_of(record, target.binding_id.as_deref()) else {
            return;
        };
        let halt = CancellationToken::new();
        let running = Running {
            operation: operation.id.clone(),
            kind: operation.kind,
            since: tokio::time::Instant::now(),
            progress: work.progress(),
            halt: halt.clone(),
        };
        tracing::info!(
            instance.id = %target.instance_id,
            binding.id = target.binding_id,
            operation = running.operation,
            work = running.progress,
            "work started"
        );
        let job = job::perform(self.workshop.clone(), record.clone(), server, work, halt);
        let task = self.jobs.spawn(job).id();
        self.by_task.insert(task, target.clone());
        self.running.insert(target, running);
    }

    /// The supervisor of a dedicated instance, which begins with the first one who asks.
    fn server(&mut self, id: &str) -> Option<server::Handle> {
        let record = self.records.get(id)?;
        let yard = match record.home {
            Home::Shared => return None,
            Home::Dedicated { .. } => self.workshop.yard.clone()?,
        };
        let supervise = || server::Handle::supervise(yard, id.to_owned(), &self.supervisors);
        Some(
            self.servers
                .entry(id.to_owned())
                .or_insert_with(supervise)
                .clone(),
        )
    }

    /// Runs the server of an instance at rest, or ends it if it was left running and is not wanted.
    /// The server of any other is for the job that is due.
    fn start_server(&mut self, id: &str) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        let Home::Dedicated { port } = record.home else {
            return;
        };
        let wanted = match &record.stage {
            Stage::Ready => Some(record.spec.clone()),
            Stage::CreateFailed | Stage::DeleteFailed => None,
            Stage::Creating | Stage::Updating { .. } | Stage::Deleting | Stage::Gone { .. } => {
                return;
            }
        };
        let Some(server) = self.server(id) else {
            return;
        };
        let answer = match wanted {
            Some(spec) => server.begin_to_run(port, &spec),
            None => server.begin_to_stop(),
        };
        let id = id.to_owned();
        self.supervisors.spawn(async move {
            let result = answer.await.unwrap_or(Err(server::Error::Stopping));
            if let Err(error) = result {
                tracing::warn!(instance.id = %id, error = job::chain(&error), "server not ready");
            }
        });
    }

    /// Gives an instance that is being created another port if somebody has taken its own. Later it
    /// keeps its port, because bindings name it.
    async fn move_port(&mut self, id: &str) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        let (Stage::Creating, Home::Dedicated { port }) = (&record.stage, record.home) else {
            return;
        };
        let Some(yard) = &self.workshop.yard else {
            return;
        };
        if self.servers.contains_key(id) || yard.is_free(port) {
            return;
        }
        let Some(port) = self.free_port() else { return };
        let record = Instance {
            home: Home::Dedicated { port },
            ..record.clone()
        };
        match self.save(&record).await {
            Ok(()) => drop(self.records.insert(id.to_owned(), record)),
            Err(error) => tracing::error!(instance.id = %id, error, "record not stored"),
        }
    }

    /// Removes the tombstones that nobody will ask for.
    pub(super) fn forget_old(&mut self) {
        let now = chrono::Utc::now().timestamp();
        let mut gone: Vec<(i64, String)> = self
            .records
            .values()
            .filter_map(|record| match record.stage {
                Stage::Gone { since } => Some((since, record.id.clone())),
                _ => None,
            })
            .collect();
        gone.sort();
        let surplus = gone.len().saturating_sub(TOMBSTONES_MAX);
        for (index, (since, id)) in gone.into_iter().enumerate() {
            if index >= surplus && now - since < TOMBSTONE_SECONDS {
                continue;
            }
            match self.store.remove(&id) {
                Ok(()) => drop(self.records.remove(&id)),
                Err(error) => {
                    tracing::warn!(instance.id = %id, error = job::chain(&error), "not forgotten");
                }
            }
        }
    }
}

/// What is due for an instance, by its record alone.
fn due(record: &Instance) -> Vec<(Target, Work)> {
    let of_instance = match &record.stage {
        Stage::Creating => Some(Work::Create),
        Stage::Updating { to } => Some(Work::Update { to: to.clone() }),
        Stage::Deleting => Some(Work::Delete),
        Stage::Ready | Stage::CreateFailed | Stage::DeleteFailed | Stage::Gone { .. } => None,
    };
    let target = |binding_id| Target {
        instance_id: record.id.clone(),
        binding_id,
    };
    if let Some(work) = of_instance {
        return vec![(target(None), work)];
    }
    if !record.serves_bindings() {
        return Vec::new();
    }
    let bindings = record
        .bindings
        .values()
        .filter(|binding| binding.stage.wants_work());
    bindings
        .map(|binding| {
            let binding_id = binding.id.clone();
            let work = if binding.stage == BindingStage::Deleting {
                Work::Unbind { binding_id }
            } else {
                Work::Bind {
                    binding_id,
                    password: binding.password.clone(),
                    expires_at: binding.validity.map(|validity| validity.expires_at),
                }
            };
            (target(Some(binding.id.clone())), work)
        })
        .collect()
}

/// The current operation of an instance or of one of its bindings.
pub(super) fn operation_of<'a>(
    record: &'a Instance,
    binding_id: Option<&str>,
) -> Option<&'a Operation> {
    match binding_id {
        None => Some(record.operations.last()),
        Some(id) => Some(record.bindings.get(id)?.operations.last()),
    }
}
